"""From the folder of a sweep, or of several, to one tidy frame: a row a run, with its factors, status and metrics.

Runs are taken as they are. What failed, diverged or is missing is counted and named, never imputed. The factors are
the settings that vary by choice:

  - the option chosen in a group (algorithm, optimiser, dataset, architecture);
  - a key that varies *within* an option of its group (optimiser.lr swept), or that has no group (training.steps).

A key that differs only because the option differs (algorithm.sigma, which only es has) is no factor. A key whose value
another factor already tells (a learning rate for each algorithm) is *aliased*: the two effects cannot be told apart. A
key each value of which occurs under one option only (sigma swept for es beside bp) is *nested*: it cannot be crossed.
The seed is the replicate, and a block where cells share seeds.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from creditlab import records
from creditlab.analysis.data.cache import read_runs
from creditlab.analysis.names import AnalysisError, metric_order, natural
from creditlab.hints import did_you_mean

GROUPS = ("algorithm", "optimiser", "dataset", "architecture")
OBSERVERS = ("metrics", "training.keep_weights")  # keys that watch a run and do not change it
INDEX = ["run", "identity", "status"]


@dataclass(frozen=True)
class Sweep:
    """A sweep as it was found. `runs` has a row a run: run, identity, status, the settings, seed, then the metrics."""

    folders: list[Path]
    named: dict[str, records.Run]  # by the name in `runs`: the folder's, behind that of its sweep if there are several
    runs: pd.DataFrame
    factors: list[str]
    aliased: dict[str, str]  # key → the factors that tell its value
    nested: dict[str, str]  # key → the factor that each of its values tells
    metrics: list[str]  # in the frame, those at initialisation (`…@init`) included
    not_numeric: list[str]
    repeats: list[str]  # runs of the same experiment as another, which only other instruments watched
    missing: list[str]  # planned, and no folder
    planned: int | None
    problems: list[str]

    @property
    def folder(self) -> Path:
        return self.folders[0]

    @property
    def records(self) -> list[records.Run]:
        return list(self.named.values())

    @property
    def outcomes(self) -> list[str]:
        """The metrics to test: all but those at initialisation, behaviour before encoding."""
        return [m for m in self.metrics if not m.endswith("@init")]

    @property
    def usable(self) -> pd.DataFrame:
        """The rows that statistics use: finished runs, one an experiment."""
        return self.runs[self.runs["status"].isin(records.FINISHED) & ~self.runs["run"].isin(self.repeats)]

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.runs["status"])


def _level(value: Any) -> Any:
    """A setting as a value that can be compared and written: lists and the like as JSON."""
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else json.dumps(value)


@cache
def _is_setting(key: str) -> bool:
    """Whether a key of the config can change what a run does."""
    return not any(key == other or key.startswith(f"{other}.") for other in (*records.EXCLUDED, *OBSERVERS))


def _settings(run: records.Run) -> dict[str, Any]:
    """The chosen options and the flat config of a run; empty where it has no usable config."""
    config = run.config
    if not isinstance(config, dict) or not isinstance(config.get("choices"), dict):
        return {}
    flat = {key: _level(value) for key, value in records.flatten(config).items() if _is_setting(key)}
    return {group: config["choices"].get(group) for group in GROUPS} | flat


def _varying(settings: Sequence[dict[str, Any]]) -> list[str]:
    """The keys that vary within an option of their group, groups first."""
    varying = []
    for key in dict.fromkeys([*GROUPS, *(k for s in settings for k in s)]):
        group = key.partition(".")[0] if "." in key else ""
        seen = defaultdict(set)
        for run in settings:
            seen[run.get(group) if group in GROUPS else None].add(run.get(key))
        if key != "seed" and any(len(values) > 1 for values in seen.values()):
            varying.append(key)
    return varying


def _tells(known: Iterable, told: Iterable) -> bool:
    """Whether each value of `known` goes with one value of `told`."""
    pairs = set(zip(known, told, strict=True))
    return len({k for k, _ in pairs}) == len(pairs)


def _sort_out(settings: Sequence[dict[str, Any]]) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """The factors, the aliased keys and the nested keys."""
    column = {key: [run.get(key) for run in settings] for key in [*_varying(settings), "seed"]}
    shared_seeds = len(set(column["seed"])) < len(settings)
    factors: list[str] = []
    aliased: dict[str, str] = {}
    nested: dict[str, str] = {}
    for key in list(column)[:-1]:
        by = next((f for f in [*factors, *["seed"] * shared_seeds] if _tells(column[f], column[key])), None)
        host = next((f for f in factors if _tells(column[key], column[f])), None)
        if by:
            aliased[key] = by
        elif host:
            nested[key] = host
        else:
            factors.append(key)
    for key in [key for key in [*factors, *nested] if key not in GROUPS]:
        if telling := _told_together(key, [f for f in factors if f != key], column):
            factors = [f for f in factors if f != key]
            nested.pop(key, None)
            aliased[key] = " × ".join(telling)
    return factors, aliased, nested


def _told_together(key: str, others: list[str], column: Mapping[str, list]) -> list[str]:
    """The factors whose combination tells the value of `key`: the options chosen, or the fewest of `others`, provided
    that these are crossed (else many a combination has one value by chance).
    """

    def tell(factors: list[str]) -> bool:
        return len(factors) > 1 and _tells(zip(*(column[f] for f in factors), strict=True), column[key])

    options = [f for f in others if f in GROUPS]
    if tell(options):
        return options
    crossed = math.prod(len(set(column[f])) for f in others)
    if not tell(others) or len(set(zip(*(column[f] for f in others), strict=True))) < crossed:
        return []
    for factor in others:
        fewer = [f for f in others if f != factor]
        others = fewer if tell(fewer) else others
    return others


def _repeats(named: dict[str, records.Run], settings: Sequence[dict[str, Any]]) -> list[str]:
    """All but the best-measured run of each experiment, lest one outcome count as two."""
    same = defaultdict(list)
    for (name, run), setting in zip(named.items(), settings, strict=True):
        if setting:
            same[json.dumps(setting, sort_keys=True)].append((-len(run.metrics), name))
    return [name for runs in same.values() for _, name in sorted(runs)[1:]]


def _plan(folder: Path, found: Iterable[str]) -> tuple[int | None, list[str], list[str]]:
    """How many runs were planned, those that have no folder, and what is wrong with the plan."""
    try:
        plan = records.read_plan(folder)
        names = [run["name"] for run in plan["runs"]] if plan else None
    except (ValueError, KeyError, TypeError) as error:
        return None, [], [f"sweep.json cannot be read: {error}"]
    if names is None:
        return None, [], []
    return len(names), sorted(set(names) - set(found)), []


def _chosen(settings: Sequence[dict[str, Any]], where: Mapping[str, Sequence[str]]) -> list[bool]:
    """Which runs have, of each key in `where`, one of the levels given. Raises AnalysisError for a key or level that
    no run has."""
    chosen = [True] * len(settings)
    for key, wanted in where.items():
        keys = sorted({k for s in settings for k in s})
        if key not in keys:
            raise AnalysisError(f"no run has a key {key!r}.{did_you_mean(key, keys)}")
        words = ["absent" if s.get(key) is None else str(s[key]) for s in settings]
        for level in wanted:
            if level not in words:
                there = sorted(set(words), key=natural)
                told = ", ".join(there[:20])
                raise AnalysisError(f"no run has {key}={level}. There are: {told}.{did_you_mean(level, there)}")
        chosen = [old and word in wanted for old, word in zip(chosen, words, strict=True)]
    if not any(chosen):
        asked = " ".join(f"{key}={','.join(levels)}" for key, levels in where.items())
        raise AnalysisError(f"no run has all of {asked}.")
    return chosen


@records.without_garbage_collection()
def collect(*folders: Path, where: Mapping[str, Sequence[str]] | None = None) -> Sweep:
    """Read the sweeps in `folders` as one, and of them the runs that have one of the levels of each key in `where`.

    Raises RecordError where there is no folder or no run in it, AnalysisError where `where` fits no run.
    """
    named: dict[str, records.Run] = {}
    plans = []
    for folder in dict.fromkeys(folders):
        runs_there = read_runs(folder)
        prefix = f"{folder.resolve().name}/" if len(set(folders)) > 1 else ""
        named |= {prefix + run.name: run for run in runs_there}
        planned, missing, problems = _plan(folder, (run.name for run in runs_there))
        plans.append((planned, [prefix + name for name in missing], problems))
    settings = [_settings(run) for run in named.values()]
    if where:
        keep = _chosen(settings, where)
        named = {name: run for (name, run), kept in zip(named.items(), keep, strict=True) if kept}
        settings = [setting for setting, kept in zip(settings, keep, strict=True) if kept]
        plans = []  # of the missing runs it is not known here which would fit
    factors, aliased, nested = _sort_out([s for s in settings if s])
    columns = list(dict.fromkeys([*GROUPS, *factors, *aliased, *nested, "seed"]))

    names: set[str] = set()
    not_numeric: set[str] = set()
    for run in named.values():
        names.update(run.metrics)
        if not {*map(type, run.metrics.values())} <= {float, int}:
            not_numeric.update(name for name, value in run.metrics.items() if type(value) not in (float, int))
    metrics = sorted(names - not_numeric, key=metric_order)

    found = list(zip(named.items(), settings, strict=True))
    rows = [[name, run.identity, run.status, *(s.get(c) for c in columns)] for (name, run), s in found]
    values = np.array([[*map(run.metrics.get, metrics)] for run in named.values()], dtype=float)  # absent: None, NaN
    runs = pd.concat([pd.DataFrame(rows, columns=[*INDEX, *columns]), pd.DataFrame(values, columns=metrics)], axis=1)
    known = [planned for planned, _, _ in plans if planned is not None]
    return Sweep(
        folders=list(folders),
        named=named,
        runs=runs,
        factors=factors,
        aliased=aliased,
        nested=nested,
        metrics=metrics,
        not_numeric=sorted(not_numeric),
        repeats=_repeats(named, settings),
        missing=[name for _, missing, _ in plans for name in missing],
        planned=sum(known) if plans and len(known) == len(plans) else None,
        problems=[problem for _, _, problems in plans for problem in problems],
    )
