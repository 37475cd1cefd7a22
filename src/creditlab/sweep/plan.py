"""The runs of a sweep before they start: resolved, checked, named, and written to `sweep.json`.

All runs are checked before the first one starts, so after a mistake nothing starts. `sweep.json` lists what was
planned. Another command with the same folder adds to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from creditlab import records
from creditlab.config import GROUPS, ConfigError, checked_config
from creditlab.lock import hold
from creditlab.sweep import trial
from creditlab.sweep.stated import record_of
from creditlab.sweep.trial import Trials


@dataclass(frozen=True)
class Planned:
    """A run that a sweep should hold."""

    config: dict[str, Any]  # resolved and checked
    folder: Path
    files: Callable[[], dict[str, str]]

    @property
    def hydra(self) -> dict[str, str]:
        """The files of `.hydra/`. They are made when the run starts."""
        return self.files()


def resolve(composed: DictConfig) -> dict[str, Any]:
    """The config of a run as plain, checked data, from what Hydra composed (with Hydra's own node)."""
    return checked_config(plain(composed))


def plain(composed: DictConfig) -> dict[str, Any]:
    """The same, without the checks."""
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
    """What Hydra writes about a run, by file."""
    return {
        "config.yaml": OmegaConf.to_yaml(job(composed)),
        "hydra.yaml": OmegaConf.to_yaml(OmegaConf.masked_copy(composed, ["hydra"])),
        "overrides.yaml": OmegaConf.to_yaml(composed.hydra.overrides.task),
    }


def job(composed: DictConfig) -> DictConfig:
    """The config of the run, without Hydra's own node."""
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])


def check_devices(names: Iterable[str]) -> None:
    """Raise ConfigError for a device that this machine lacks, even if no run needs one any more."""
    if accelerators := {*names} - {"auto", "cpu"}:  # torch is imported only if it must say which devices there are
        from creditlab.parts import find_device

        for name in sorted(accelerators):
            find_device(name)


def preflight(runs: Sequence[Planned], devices: Sequence[str] = (), together: int = 1) -> None:
    """Build each combination of parts among `runs` once, so that parts that do not fit together are reported before
    anything starts. If `devices` replace those of the runs, the first of them is used. Raises ConfigError, also for
    runs that cannot be trained `together`. Prints which metrics find nothing to observe. If there are several runs, one
    step of each distinct rule is tried, too, where a part is the user's own: a single run shows by itself whether it
    can be trained.
    """
    if not runs:
        return
    with Trials() if len(runs) > 1 else contextlib.nullcontext() as trials:
        _build(runs, devices, together, trials)
        if trials is not None and (problem := trials.problem()):
            raise ConfigError(problem)


def _build(runs: Sequence[Planned], devices: Sequence[str], together: int, trials: Trials | None) -> None:
    """Build each combination of parts among `runs` once, and add the rules to `trials`; see `preflight`."""
    # these import torch, so they wait until something is to run
    from creditlab.parts import assemble
    from creditlab.rehearsal import rehearse
    from creditlab.together import check as check_together

    seen, lacking, rehearsed, tried = set(), set(), set(), set()
    for run in runs:
        key = records.to_json({k: v for k, v in run.config.items() if k not in ("choices", "seed")})
        if key not in seen:
            seen.add(key)
            config = run.config | {"device": devices[0]} if devices else run.config
            parts = assemble(config)
            if together > 1:
                check_together(run.config, parts, together)
            lacking |= {f"{name} ({', '.join(things)})" for name, things in parts.instruments.lacking().items()}
            kind = _without_numbers(config, trial.PARTS)
            if trials is not None and kind not in tried and trial.is_own(config):
                tried.add(kind)
                trials.add(config, parts)
            if (kind := _without_numbers(config, REHEARSED)) not in rehearsed:
                rehearsed.add(kind)
                rehearse(config, parts)
    if lacking:
        names = "; ".join(sorted(lacking))
        print(f"creditlab: metrics skipped, because network and rule lack what they observe: {names}", file=sys.stderr)


REHEARSED = ("algorithm", "optimiser", "dataset", "architecture", "training", "precision")


def _without_numbers(config: Mapping[str, Any], parts: Sequence[str]) -> str:
    """What decides whether `parts` of a config work together: these parts without their numbers."""
    flat = records.flatten({part: config[part] for part in parts})
    return records.to_json({key: value for key, value in flat.items() if type(value) not in (int, float)})


def absent_folders(folder: Path) -> list[Path]:
    """`folder` and those around it that do not exist, the innermost first: what a refused command must not leave."""
    return [path for path in (folder.absolute(), *folder.absolute().parents) if not path.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of `folders` that exist and are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def swept(hydra: DictConfig) -> list[str]:
    """The keys that the command line sets, and the experiment (in `hydra.sweeper.params`, and in its budget)."""
    given = [override.partition("=")[0].lstrip("+~") for override in hydra.overrides.task]
    sweeper = hydra.get("sweeper") or {}
    budget = (sweeper.get("budgets") or {}).get(sweeper.get("budget")) or {}
    return list(dict.fromkeys(str(key) for key in (*(sweeper.get("params") or {}), *budget, *given)))


def write_plan(sweep: Path, runs: Sequence[Planned], keys: Sequence[str], claims: records.Claims | None = None) -> None:
    """Add `runs` to `sweep.json`, with the command and the claims. The factors are those of `keys` that vary."""
    with hold(sweep, wait=60):  # another command for the same sweep may be about to write its plan
        before = _read_or_rebuild(sweep)
        flat = [records.flatten(run.config) | run.config["choices"] for run in runs]
        now = {run.folder.name for run in runs}
        earlier_settings = cache(
            lambda: [_settings(sweep / entry["name"]) for entry in before["runs"] if entry["name"] not in now]
        )
        factors: dict[str, list] = dict(before["factors"])
        for key in keys:
            levels = list(dict.fromkeys(_hashable(f.get(key)) for f in flat))
            varies = len(levels) > 1 or key in factors
            if not varies and records.identifies(key):  # one level per command: those of other commands may differ
                varies = any(_hashable(settings.get(key)) not in levels for settings in earlier_settings() if settings)
            if varies:
                factors[key] = list(dict.fromkeys([*map(_hashable, factors.get(key, [])), *levels]))
        entries = {entry["name"]: _with_levels(entry, sweep, factors) for entry in before["runs"]}
        for key in factors.keys() - before["factors"].keys():  # the earlier runs have a level of a new factor, too
            earlier = [entry["levels"][key] for entry in entries.values() if key in entry["levels"]]
            factors[key] = list(dict.fromkeys([*map(_hashable, earlier), *factors[key]]))
        for run, values in zip(runs, flat, strict=True):
            name, level_of = run.folder.name, {key: values.get(key) for key in factors}
            entries[name] = {"name": name, "identity": name.rpartition("-")[2], "levels": level_of}
        command = shlex.join(["creditlab", *sys.argv[1:]])  # also for `python -m creditlab`
        content = {"schema": records.SCHEMA, "command": command, "factors": factors, "runs": list(entries.values())}
        if record := record_of(claims, before.get("claims"), sweep):
            content["claims"] = record
        records.write_json(sweep / "sweep.json", content)


def _with_levels(entry: dict, sweep: Path, factors: Iterable[str]) -> dict:
    """The entry of an earlier run, with its level of each of `factors`. A level that the entry lacks comes from the
    config of the run; it stays out if the run has not started.
    """
    levels = entry.get("levels", {})
    lacking = [key for key in factors if key not in levels]
    settings = _settings(sweep / entry["name"]) if lacking else {}
    return entry | {"levels": levels | {key: settings.get(key) for key in lacking if settings}}


def _settings(folder: Path) -> dict[str, Any]:
    """The flat config and the choices of the run in `folder`; empty if it has not started."""
    config = records.read_run(folder).config
    return {} if config is None else records.flatten(config) | config["choices"]


def _read_or_rebuild(sweep: Path) -> dict:
    """The plan so far. If it is unreadable, the runs that have a folder, without levels: the next command adds them."""
    try:
        return records.read_plan(sweep) or {"factors": {}, "runs": []}
    except records.SpoiltPlan:
        existing_runs = [run for run in map(records.read_run, records.run_folders(sweep)) if run.config]
        return {"factors": {}, "runs": [{"name": r.name, "identity": r.identity, "levels": {}} for r in existing_runs]}


def _hashable(value: Any) -> Any:
    return str(value) if isinstance(value, list | dict) else value


def sweep_name(name: str | None, overrides: Sequence[str], of_hydra: Sequence[str] = ()) -> str:
    """The name of a sweep's folder: `name`, or one made of the swept keys, of the values of the other keys, and of the
    budget.

    So the same command finds its folder again, and so does a command with more levels or seeds.
    """
    if name is not None:
        return name
    if isinstance(overrides, ListConfig):  # `${…}` in an override stays as it was written: each run has its own value
        overrides = OmegaConf.to_container(overrides, resolve=False)  # type: ignore[assignment]
    budgets = [o.removeprefix("hydra.sweeper.") for o in of_hydra if o.startswith("hydra.sweeper.budget=")]
    parsed = [o.partition("=")[::2] for o in (*overrides, *budgets) if o != "budget=full"]
    swept = sorted({key.lstrip("+") for key, value in parsed if is_sweep(value)})
    identifying = [(key.lstrip("+"), value) for key, value in parsed if records.identifies(key.lstrip("+"))]
    fixed = sorted(f"{key}={value}" for key, value in identifying if not is_sweep(value))
    text = re.sub(r"[^\w.=+-]+", "-", "_".join(["-".join(swept), *fixed]).strip("_")) or "single"
    return text if len(text) <= 100 else f"{text[:91]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def is_sweep(value: str) -> bool:
    """Whether the value of an override stands for several values: `a,b`, `range(3)`, `choice(a,b)`, `glob(*)`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(f"key={value}").is_sweep_override()


_ARGUMENT = re.compile(rf"~(({'|'.join(GROUPS)}|metrics\.instruments\.\w+)\.[^.=]+)(=.*)?")


def check_whole(composed: DictConfig) -> None:
    """Raise ConfigError for a config that lacks a key of an option: a library's silent default would then be used. Also
    raise it for an experiment whose keys do not reach the run.
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
