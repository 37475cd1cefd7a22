"""The claims of a sweep, recorded in its plan before the first run is finished: `hydra.sweeper.claims=FILE`.

By default that is the file `<experiment>.claims.yml` beside the experiment, if there is one (.yml, because Hydra takes
each .yaml there for an experiment). The record holds the text, so that a report can say of each claim whether it was
stated before the runs, changed since, or written afterwards.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from creditlab import records
from creditlab.records.claims import unknown_level


def claims_of(hydra: DictConfig) -> records.Claims | None:
    """The claims given to a sweep, or those beside its experiment. Raises RecordError for one that is not whole."""
    if given := OmegaConf.select(hydra, "sweeper.claims"):
        return records.read_claims(Path(str(given)))
    experiment = hydra.runtime.choices.get("experiment")
    folders = [Path(source.path) for source in hydra.runtime.config_sources if source.schema == "file"]
    beside = [folder / "experiment" / f"{experiment}.claims.yml" for folder in folders]
    return next((records.read_claims(path) for path in beside if experiment and path.is_file()), None)


def print_unknown(claims: records.Claims, configs: Sequence[Mapping[str, Any]], plan: Mapping[str, Any]) -> None:
    """Print on standard error which claims are about settings that no run of the sweep has."""
    levels: dict[str, dict[str, Any]] = {}
    for config in configs:
        for key, level in (records.flatten(config) | config["choices"]).items():
            levels.setdefault(key, {})[str(level)] = level
    for key, earlier in plan.get("factors", {}).items():
        levels.setdefault(key, {}).update({str(level): level for level in earlier})
    levels_by_key = {key: list(of_key.values()) for key, of_key in levels.items()}
    for number, claim in enumerate(claims.claims, 1):
        if problem := unknown_level(claim, levels_by_key):
            print(f"creditlab: {claims.path}: claim {number} ({claim['claim']}): {problem}.", file=sys.stderr)


def record_of(claims: records.Claims | None, before: Mapping[str, Any] | None, sweep: Path) -> dict[str, Any] | None:
    """What the plan keeps of claims: those given, while no run is finished, and later those that were recorded
    `before`. Prints on standard error where they are not those given.
    """
    if claims is None or (before and before.get("sha256") == claims.sha256):
        return dict(before) if before else None
    if not any(records.read_run(folder).finished for folder in records.run_folders(sweep)):
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return {"file": Path(claims.path).name, "sha256": claims.sha256, "recorded": now, "text": claims.text}
    kept = "the plan keeps those recorded before" if before else "they are not recorded as stated before the runs"
    print(f"creditlab: {claims.path}: runs are finished, so {kept}.", file=sys.stderr)
    return dict(before) if before else None
