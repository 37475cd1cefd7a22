"""From a list of overrides to the runs of a sweep: checked, named, told apart from what is already finished.

All runs are checked before the first one starts, so one mistake starts nothing. `sweep.json` says what was planned;
giving another command with the same folder adds to it.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from creditlab import records
from creditlab.config import GROUPS, check
from creditlab.metrics import OBSERVABLES


@dataclass(frozen=True)
class Planned:
    """A run that a sweep should hold."""

    config: dict[str, Any]  # resolved and checked
    folder: Path
    hydra: dict[str, str]  # the files of `.hydra/`


def resolve(composed: DictConfig) -> dict[str, Any]:
    """The config of a run as plain data, checked, from what Hydra composed (its own node included)."""
    choices = OmegaConf.to_container(composed.hydra.runtime.choices)
    assert isinstance(choices, dict)
    config = OmegaConf.to_container(_job(composed), resolve=True)
    assert isinstance(config, dict)
    plain = {str(k): v for k, v in config.items()}
    return check(plain | {"choices": {g: choices.get(g) for g in (*GROUPS, "metrics")}}, OBSERVABLES)


def planned(composed: DictConfig, sweep: Path) -> Planned:
    """The run of a composed config in the folder of `sweep`. Raises ConfigError."""
    config = resolve(composed)
    hydra = {
        "config.yaml": OmegaConf.to_yaml(_job(composed)),
        "hydra.yaml": OmegaConf.to_yaml(OmegaConf.masked_copy(composed, ["hydra"])),
        "overrides.yaml": OmegaConf.to_yaml(composed.hydra.overrides.task),
    }
    return Planned(config, sweep / records.folder_name(config), hydra)


def _job(composed: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])


def preflight(runs: Sequence[Planned]) -> None:
    """Build once each combination of parts among `runs`, so that what does not fit together is refused before anything
    starts. Raises ConfigError.
    """
    if not runs:
        return
    from creditlab.training import assemble  # imports torch: only when there is something to run

    seen = set()
    for run in runs:
        key = records.to_json({k: v for k, v in run.config.items() if k not in ("choices", "metrics", "seed")})
        if key not in seen:
            seen.add(key)
            assemble(run.config)


def write_plan(sweep: Path, runs: Sequence[Planned], overrides: Sequence[str]) -> None:
    """Add `runs` to `sweep.json`: the command, the factors that `overrides` sweep and their levels, every run."""
    before = records.read_plan(sweep) or {"factors": {}, "runs": []}
    flat = [records.flatten(run.config) | run.config["choices"] for run in runs]
    factors: dict[str, list] = dict(before["factors"])
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        found = list(dict.fromkeys(_hashable(f.get(key)) for f in flat))
        if len(found) > 1 or key in factors:
            factors[key] = list(dict.fromkeys([*map(_hashable, factors.get(key, [])), *found]))
    entries = {entry["name"]: entry for entry in before["runs"]}
    for run, values in zip(runs, flat, strict=True):
        levels = {key: values.get(key) for key in factors}
        entries[run.folder.name] = {"name": run.folder.name, "identity": records.identity(run.config), "levels": levels}
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    content = {"schema": records.SCHEMA, "command": command, "factors": factors, "runs": list(entries.values())}
    records.write_json(sweep / "sweep.json", content)


def _hashable(value: Any) -> Any:
    return str(value) if isinstance(value, list | dict) else value


def sweep_name(name: str | None, overrides: Sequence[str]) -> str:
    """The name of a sweep's folder: `name`, or one that only depends on which keys are swept and how others are set.

    So the same command finds its folder again, and so does one with more levels or seeds.
    """
    if name is not None:
        return name
    parsed = [override.partition("=")[::2] for override in overrides]
    swept = sorted({key.lstrip("+") for key, value in parsed if is_sweep(value)})
    told = [(key.lstrip("+"), value) for key, value in parsed if key not in records.EXCLUDED]
    fixed = sorted(f"{key}={value}" for key, value in told if not is_sweep(value))
    text = re.sub(r"[^\w.=+-]+", "-", "_".join(["-".join(swept), *fixed]).strip("_")) or "sweep"
    return text if len(text) <= 100 else f"{text[:91]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def is_sweep(value: str) -> bool:
    """Whether an override's value stands for several: `a,b`, `range(3)`, `choice(a,b)`, `glob(*)`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(f"key={value}").is_sweep_override()
