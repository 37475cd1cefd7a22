"""From the folder of a sweep, or of several, to one `Sweep`.

Runs are taken as they are. What failed, diverged or is missing is counted and named, never imputed. The seed is the
replicate, and pairs the runs where cells share seeds.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from creditlab import records
from creditlab.analysis.data.cache import read_runs
from creditlab.analysis.data.factors import GROUPS, Settings, settings_of, sort_out
from creditlab.analysis.data.sweep import INDEX, Sweep
from creditlab.analysis.names import SEED, AnalysisError, metric_order, natural
from creditlab.hints import did_you_mean


class Plan(NamedTuple):
    """What `sweep.json` says: how many runs were planned, which have no folder, what is wrong with the file."""

    planned: int | None
    missing: list[str]
    problems: list[str]


@records.without_garbage_collection()
def collect(*folders: Path, where: Mapping[str, Sequence[str]] | None = None, metrics: Sequence[str] = ("*",)) -> Sweep:
    """Read the sweeps in `folders` as one, and of them the runs that have one of the levels of each key in `where`.

    `metrics` are patterns such as `test/*`: only metrics that match are tested. Raises RecordError where there is no
    folder or no run in it, AnalysisError where `where` fits no run or a pattern no metric.
    """
    named: dict[str, records.Run] = {}
    plans: list[Plan] = []
    for folder in dict.fromkeys(folders):
        of_folder = read_runs(folder)
        prefix = f"{folder.resolve().name}/" if len(set(folders)) > 1 else ""
        named |= {prefix + run.name: run for run in of_folder}
        plan = _plan(folder, (run.name for run in of_folder))
        plans.append(plan._replace(missing=[prefix + name for name in plan.missing]))
    settings = [settings_of(run) for run in named.values()]
    if where:
        chosen = _chosen(settings, where)
        named = {name: run for (name, run), kept in zip(named.items(), chosen, strict=True) if kept}
        settings = [setting for setting, kept in zip(settings, chosen, strict=True) if kept]
        plans = []  # nobody knows which of the missing runs would fit
    factors, aliased, nested = sort_out([s for s in settings if s])
    columns = list(dict.fromkeys([*GROUPS, *factors, *aliased, *nested, SEED]))
    runs, names, not_numeric = _frame(named, settings, columns)
    planned = [plan.planned for plan in plans if plan.planned is not None]
    return Sweep(
        runs=runs,
        factors=factors,
        metrics=names,
        outcomes=_outcomes([name for name in names if not name.endswith("@init")], metrics),
        folders=list(folders),
        named=named,
        aliased=aliased,
        nested=nested,
        not_numeric=not_numeric,
        repeats=_repeats(named, settings),
        missing=[name for plan in plans for name in plan.missing],
        planned=sum(planned) if plans and len(planned) == len(plans) else None,
        problems=[problem for plan in plans for problem in plan.problems],
    )


def _frame(
    named: Mapping[str, records.Run], settings: Sequence[Settings], columns: Sequence[str]
) -> tuple[pd.DataFrame, list[str], list[str]]:
    """One row per run with `columns` of its settings, then its metrics; the metrics; those that are no numbers."""
    names: set[str] = set()
    not_numeric: set[str] = set()
    for run in named.values():
        names.update(run.metrics)
        if not {*map(type, run.metrics.values())} <= {float, int}:
            not_numeric.update(name for name, value in run.metrics.items() if type(value) not in (float, int))
    metrics = sorted(names - not_numeric, key=metric_order)
    rows = [
        [name, run.identity, run.status, *map(setting.get, columns)]
        for (name, run), setting in zip(named.items(), settings, strict=True)
    ]
    values = np.array([[*map(run.metrics.get, metrics)] for run in named.values()], dtype=float)  # absent: None, NaN
    parts = [pd.DataFrame(rows, columns=[*INDEX, *columns]), pd.DataFrame(values, columns=metrics)]
    return pd.concat(parts, axis=1), metrics, sorted(not_numeric)


def _outcomes(metrics: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The metrics that match one of `patterns`. Raises AnalysisError where a pattern matches none."""
    matching = {pattern: [name for name in metrics if fnmatchcase(name, pattern)] for pattern in patterns}
    if metrics and (idle := [pattern for pattern, names in matching.items() if not names]):
        hint = did_you_mean(idle[0], metrics)
        raise AnalysisError(f"no metric matches {idle[0]}.{hint} There are: {', '.join(metrics)}.")
    return [name for name in metrics if any(name in names for names in matching.values())]


def _repeats(named: dict[str, records.Run], settings: Sequence[Settings]) -> list[str]:
    """All but the best-measured run of each experiment, so that one outcome never counts as two."""
    same = defaultdict(list)
    for (name, run), setting in zip(named.items(), settings, strict=True):
        if setting:
            same[json.dumps(setting, sort_keys=True)].append((-len(run.metrics), name))
    return [name for runs in same.values() for _, name in sorted(runs)[1:]]


def _plan(folder: Path, names: Iterable[str]) -> Plan:
    """The plan of the sweep in `folder`, of which the runs `names` have a folder."""
    try:
        plan = records.read_plan(folder)
        planned = [run["name"] for run in plan["runs"]] if plan else None
    except (ValueError, KeyError, TypeError) as error:
        return Plan(None, [], [f"sweep.json cannot be read: {error}"])
    return Plan(None, [], []) if planned is None else Plan(len(planned), sorted(set(planned) - set(names)), [])


def _chosen(settings: Sequence[Settings], where: Mapping[str, Sequence[str]]) -> list[bool]:
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
                levels = sorted(set(words), key=natural)
                listed, hint = ", ".join(levels[:20]), did_you_mean(level, levels)
                raise AnalysisError(f"no run has {key}={level}. There are: {listed}.{hint}")
        chosen = [before and word in wanted for before, word in zip(chosen, words, strict=True)]
    if not any(chosen):
        asked = " ".join(f"{key}={','.join(levels)}" for key, levels in where.items())
        raise AnalysisError(f"no run has all of {asked}.")
    return chosen
