"""The run ID, and the settings of a run as flat keys.

The *identity* of a run (its run ID) is the first 12 hex digits of the SHA-256 of the resolved config as canonical JSON.
The keys that cannot change the result (`EXCLUDED`) are left out of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

EXCLUDED = (
    "choices",
    "dataset.download",
    "dataset.root",
    "device",
    "retry",
    "sweep",
    "threads",
    "tracker",
    "training.checkpoint_seconds",
)
LEAVES = frozenset((str, int, float, bool, type(None), list))  # tested first: isinstance(value, Mapping) is slow


def flatten(config: Mapping) -> dict[str, Any]:
    """{'optimiser.lr': 0.1, …}; lists and empty mappings stay values."""
    flat: dict[str, Any] = {}
    _flatten(config, "", flat)
    return flat


def _flatten(config: Mapping, prefix: str, flat: dict[str, Any]) -> None:
    """Add the leaves of `config` to `flat`."""
    for key, value in config.items():
        if type(value) not in LEAVES and isinstance(value, Mapping) and value:
            _flatten(value, f"{prefix}{key}.", flat)
        else:
            flat[f"{prefix}{key}"] = value


def identifying(config: Mapping) -> dict[str, Any]:
    """The flat config without the keys that cannot change the result."""
    return {key: value for key, value in flatten(config).items() if identifies(key)}


@cache
def identifies(key: str) -> bool:
    """Whether a key of the config can change the result."""
    return not any(key == other or key.startswith(f"{other}.") for other in EXCLUDED)


def identity(config: Mapping) -> str:
    """12 hex digits: the same for the same experiment, in whatever order its keys are."""
    canonical = json.dumps(identifying(config), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def folder_name(config: Mapping) -> str:
    """`<label>-<identity>`. The label is readable: algorithm, optimiser, dataset, architecture, seed."""
    choices = config["choices"]
    parts = [choices[group] for group in ("algorithm", "optimiser", "dataset", "architecture")]
    label = "-".join([*parts, f"s{config['seed']}"]).replace("/", "_")
    return f"{label}-{identity(config)}"
