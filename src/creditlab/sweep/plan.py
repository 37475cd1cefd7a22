"""From a list of overrides to the runs of a sweep: checked, named, told apart from what is already finished.

All runs are checked before the first one starts, so one mistake starts nothing. `sweep.json` says what was planned;
giving another command with the same folder adds to it.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from creditlab import records
from creditlab.config import GROUPS, ConfigError, checked_config
from creditlab.lock import hold


@dataclass(frozen=True)
class Planned:
    """A run that a sweep should hold."""

    config: dict[str, Any]  # resolved and checked
    folder: Path
    files: Callable[[], dict[str, str]]

    @property
    def hydra(self) -> dict[str, str]:
        """The files of `.hydra/`, written out when the run is to be done."""
        return self.files()


def resolve(composed: DictConfig) -> dict[str, Any]:
    """The config of a run as plain data, checked, from what Hydra composed (its own node included)."""
    return checked_config(plain(composed))


def plain(composed: DictConfig) -> dict[str, Any]:
    """The same, not checked."""
    choices = OmegaConf.to_container(composed.hydra.runtime.choices)
    assert isinstance(choices, dict)
    config = OmegaConf.to_container(job(composed), resolve=True)
    assert isinstance(config, dict)
    check_whole(composed)
    content = {str(k): v for k, v in config.items()}
    return content | {"choices": {g: choices.get(g) for g in (*GROUPS, "metrics")}}


def planned(composed: DictConfig, sweep: Path) -> Planned:
    """The run of a composed config in the folder of `sweep`. Raises ConfigError."""
    config = resolve(composed)
    return Planned(config, sweep / records.folder_name(config), partial(hydra_files, composed))


def hydra_files(composed: DictConfig) -> dict[str, str]:
    """What Hydra writes of a run, by file."""
    return {
        "config.yaml": OmegaConf.to_yaml(job(composed)),
        "hydra.yaml": OmegaConf.to_yaml(OmegaConf.masked_copy(composed, ["hydra"])),
        "overrides.yaml": OmegaConf.to_yaml(composed.hydra.overrides.task),
    }


def job(composed: DictConfig) -> DictConfig:
    """The config of the run, without Hydra's own node."""
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])


def preflight(runs: Sequence[Planned], devices: Sequence[str] = (), together: int = 1) -> None:
    """Build once each combination of parts among `runs`, so that what does not fit together is refused before anything
    starts; on the first of `devices`, if any stand in for the runs' own. Raises ConfigError, for one that is not there,
    and for runs that cannot be trained `together`, if more than one is to be. Says which instruments find nothing to
    look at.
    """
    if not runs:
        return
    # these import torch: only when there is something to run
    from creditlab.parts import assemble, find_device
    from creditlab.together import check as check_together

    for name in devices:
        find_device(name)
    seen, lacking = set(), set()
    for run in runs:
        key = records.to_json({k: v for k, v in run.config.items() if k not in ("choices", "seed")})
        if key not in seen:
            seen.add(key)
            parts = assemble(run.config | {"device": devices[0]} if devices else run.config)
            if together > 1:
                check_together(run.config, parts, together)
            lacking |= {f"{name} ({', '.join(things)})" for name, things in parts.instruments.lacking().items()}
    if lacking:
        said = "; ".join(sorted(lacking))
        print(f"creditlab: instruments left out where network and rule show no such thing: {said}", file=sys.stderr)


def swept(hydra: DictConfig) -> list[str]:
    """The keys that the command line gives, and the experiment (`hydra.sweeper.params`, and the budget's)."""
    told = [override.partition("=")[0].lstrip("+~") for override in hydra.overrides.task]
    sweeper = hydra.get("sweeper") or {}
    budget = (sweeper.get("budgets") or {}).get(sweeper.get("budget")) or {}
    return list(dict.fromkeys(str(key) for key in (*(sweeper.get("params") or {}), *budget, *told)))


def write_plan(sweep: Path, runs: Sequence[Planned], keys: Sequence[str]) -> None:
    """Add `runs` to `sweep.json`: the command, those of `keys` that vary as factors with their levels, every run."""
    with hold(sweep, wait=60):  # of another command for the same sweep, which is about to write its own
        before = _read_or_rebuild(sweep)
        flat = [records.flatten(run.config) | run.config["choices"] for run in runs]
        factors: dict[str, list] = dict(before["factors"])
        for key in keys:
            found = list(dict.fromkeys(_hashable(f.get(key)) for f in flat))
            if len(found) > 1 or key in factors:
                factors[key] = list(dict.fromkeys([*map(_hashable, factors.get(key, [])), *found]))
        entries = {entry["name"]: entry for entry in before["runs"]}
        for run, values in zip(runs, flat, strict=True):
            levels = {key: values.get(key) for key in factors}
            name = run.folder.name
            entries[name] = {"name": name, "identity": name.rpartition("-")[2], "levels": levels}
        command = shlex.join(["creditlab", *sys.argv[1:]])  # also for `python -m creditlab`
        content = {"schema": records.SCHEMA, "command": command, "factors": factors, "runs": list(entries.values())}
        records.write_json(sweep / "sweep.json", content)


def _read_or_rebuild(sweep: Path) -> dict:
    """The plan so far; where it is spoilt, the runs that have a folder. Their levels come back with the command."""
    try:
        return records.read_plan(sweep) or {"factors": {}, "runs": []}
    except records.SpoiltPlan:
        found = [run for run in map(records.read_run, records.run_folders(sweep)) if run.config]
        return {"factors": {}, "runs": [{"name": r.name, "identity": r.identity, "levels": {}} for r in found]}


def _hashable(value: Any) -> Any:
    return str(value) if isinstance(value, list | dict) else value


def sweep_name(name: str | None, overrides: Sequence[str], of_hydra: Sequence[str] = ()) -> str:
    """The name of a sweep's folder: `name`, or one that only depends on which keys are swept and how others are set,
    the budget among them.

    So the same command finds its folder again, and so does one with more levels or seeds.
    """
    if name is not None:
        return name
    budgets = [o.removeprefix("hydra.sweeper.") for o in of_hydra if o.startswith("hydra.sweeper.budget=")]
    parsed = [o.partition("=")[::2] for o in (*overrides, *budgets) if o != "budget=full"]
    swept = sorted({key.lstrip("+") for key, value in parsed if is_sweep(value)})
    told = [(key.lstrip("+"), value) for key, value in parsed if records.identifies(key.lstrip("+"))]
    fixed = sorted(f"{key}={value}" for key, value in told if not is_sweep(value))
    text = re.sub(r"[^\w.=+-]+", "-", "_".join(["-".join(swept), *fixed]).strip("_")) or "single"
    return text if len(text) <= 100 else f"{text[:91]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def is_sweep(value: str) -> bool:
    """Whether an override's value stands for several: `a,b`, `range(3)`, `choice(a,b)`, `glob(*)`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(f"key={value}").is_sweep_override()


_ARGUMENT = re.compile(rf"~(({'|'.join(GROUPS)}|metrics\.instruments\.\w+)\.[^.=]+)(=.*)?")


def check_whole(composed: DictConfig) -> None:
    """Refuse a config that lacks a key of an option, for then the silent default of a library would hold, and one whose
    experiment's keys are not those of the run.
    """
    if "experiment" in composed:
        name = composed.hydra.runtime.choices.experiment
        raise ConfigError(
            f"+experiment={name}: the first line of its file must be `# @package _global_`, "
            "which makes its keys those of a run."
        )
    for override in composed.hydra.overrides.task:
        if left_out := _ARGUMENT.fullmatch(override):
            key = left_out[1]
            raise ConfigError(f"{override}: a key of an option cannot be left out. Give it a value: {key}=…")
