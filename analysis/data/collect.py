"""From the folder of a sweep, or of several, to one `Sweep`.

Runs are taken as they are. What failed, diverged or is missing is counted and named, never imputed. The seed is the
replicate, and pairs the runs where cells share seeds.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from creditlab import records
from creditlab.analysis.data.cache import read_runs
from creditlab.analysis.data.factors import GROUPS, Settings, settings_of, sort_out
from creditlab.analysis.data.sweep import INDEX, Sweep
from creditlab.analysis.names import SEED, AnalysisError, level_order, metric_order
from creditlab.files import printable
from creditlab.hints import did_you_mean
from creditlab.records.claims import meaning


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
    prefixes = _prefixes(folders)
    for folder, prefix in prefixes.items():
        of_folder = read_runs(folder)
        named |= {prefix + printable(run.name): run for run in of_folder}
        plan = _plan(folder, (run.name for run in of_folder))
        plans.append(plan._replace(missing=[prefix + name for name in plan.missing]))
    settings = [settings_of(run) for run in named.values()]
    if where:
        chosen = chosen_runs(settings, where)
        named = {name: run for (name, run), kept in zip(named.items(), chosen, strict=True) if kept}
        settings = [setting for setting, kept in zip(settings, chosen, strict=True) if kept]
        plans = []  # nobody knows which of the missing runs would fit
    _check_same_results(named)
    factors, aliased, nested = sort_out([s for s in settings if s])
    columns = list(dict.fromkeys([*GROUPS, *factors, *aliased, *nested, SEED]))
    runs, names, not_numeric = _frame(named, settings, columns)
    planned = [plan.planned for plan in plans if plan.planned is not None]
    return Sweep(
        runs=runs,
        factors=factors,
        metrics=names,
        outcomes=matching([name for name in names if not name.endswith("@init")], metrics),
        folders=list(prefixes),
        named=named,
        aliased=aliased,
        nested=nested,
        not_numeric=not_numeric,
        repeats=_repeats(named, settings),
        missing=[name for plan in plans for name in plan.missing],
        planned=sum(planned) if plans and len(planned) == len(plans) else None,
        problems=[*(problem for plan in plans for problem in plan.problems), *_mixed_code(named.values())],
    )


def _mixed_code(runs: Iterable[records.Run]) -> list[str]:
    """One line for each module, creditlab included, if the finished runs used several versions of it."""
    users: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))  # module → version → runs
    for run in runs:
        code, versions = run.record.get("code"), run.record.get("versions")
        if not run.finished:
            continue
        if isinstance(code, Mapping):
            for module, digest in code.items():
                users[module][f"sha256 {str(digest)[:8]}"].append(run.name)
        if isinstance(versions, Mapping) and "creditlab" in versions:
            users["creditlab"][str(versions["creditlab"])].append(run.name)
    return [
        f"{module}: the runs used {len(by_version)} versions of it, "
        + "; ".join(f"{version} in {len(names)} ({names[0]}, …)" for version, names in by_version.items())
        + ". retry=changed trains again those that used an earlier one."
        for module, by_version in users.items()
        if len(by_version) > 1
    ]


def _prefixes(folders: Sequence[Path]) -> dict[Path, str]:
    """What stands before the names of the runs of each folder: as much of the end of its path as tells it from the
    others, nothing where there is one folder. Two paths of one folder are one."""
    distinct = {folder.resolve(): folder for folder in reversed(folders)}
    paths = list(reversed(distinct))
    if len(paths) == 1:
        return {distinct[paths[0]]: ""}
    length = next(n for n in count(1) if len({path.parts[-n:] for path in paths}) == len(paths))
    return {distinct[path]: "/".join(path.parts[-length:]).strip("/") + "/" for path in paths}


def _check_same_results(named: Mapping[str, records.Run]) -> None:
    """Raises AnalysisError where two finished runs of one identity have different results."""
    first: dict[str, tuple[str, records.Run]] = {}
    for name, run in named.items():
        if not run.finished:
            continue
        before, other = first.setdefault(run.identity, (name, run))
        if other is run:
            continue
        differ = "the status" if run.status != other.status else _differing(other.metrics, run.metrics)
        if differ:
            raise AnalysisError(
                f"{before} and {name} are one experiment (identity {run.identity}) with different results: {differ}. "
                "Were they run by different versions or machines? Give one of the sweeps, or remove one of the runs."
            )


def _differing(a: Mapping[str, float], b: Mapping[str, float]) -> str:
    """The first metric of both that differs by more than rounding, with its values; empty if none does."""
    for metric in a.keys() & b.keys():
        x, y = a[metric], b[metric]
        if not isinstance(x, float) or not isinstance(y, float) or (math.isnan(x) and math.isnan(y)):
            continue
        if not math.isclose(x, y, rel_tol=1e-9):
            return f"{metric} {x:.6g} and {y:.6g}"
    return ""


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


def matching(metrics: Sequence[str], patterns: Sequence[str]) -> list[str]:
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
    """The plan of the sweep in `folder`. The runs `names` have a folder."""
    try:
        plan = records.read_plan(folder)
        planned = [run["name"] for run in plan["runs"]] if plan else None
    except (ValueError, KeyError, TypeError) as error:
        return Plan(None, [], [f"sweep.json cannot be read: {error}"])
    if planned is None:
        return Plan(None, [], [])
    return Plan(len(planned), sorted(map(printable, set(planned) - set(names))), [])


def chosen_runs(settings: Sequence[Settings], where: Mapping[str, Sequence[str]]) -> list[bool]:
    """Which runs have, of each key in `where`, one of the levels given. Raises AnalysisError for a key or level that
    no run has."""
    chosen = [True] * len(settings)
    for key, wanted in where.items():
        keys = sorted({k for s in settings for k in s})
        if key not in keys:
            raise AnalysisError(f"no run has a key {key!r}.{did_you_mean(key, keys)}")
        words = ["absent" if s.get(key) is None else str(s[key]) for s in settings]
        meanings = {word: meaning(word) for word in words}
        for level in wanted:
            if meaning(level) not in meanings.values():
                levels = sorted(meanings, key=level_order)
                listed, hint = ", ".join(levels[:20]), did_you_mean(level, levels)
                raise AnalysisError(f"no run has {key}={level}. There are: {listed}.{hint}")
        asked_for = [meaning(level) for level in wanted]
        chosen = [before and meanings[word] in asked_for for before, word in zip(chosen, words, strict=True)]
    if not any(chosen):
        asked = " ".join(f"{key}={','.join(levels)}" for key, levels in where.items())
        raise AnalysisError(f"no run has all of {asked}.")
    return chosen
