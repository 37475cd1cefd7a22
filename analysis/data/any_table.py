"""A table of results from elsewhere as a sweep: one row per run, with columns of factors, a seed and metrics.

    creditlab-analyse results.csv --factors algorithm optimiser --seed seed --metrics accuracy

The runs table of a report, a CSV export of Weights & Biases, and MLflow's `search_runs()` are recognised by their
columns. Rows are taken as they are: runs that failed are left out and counted, and nothing is imputed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from creditlab.analysis.data.collect import chosen_runs, matching
from creditlab.analysis.data.factors import sort_out
from creditlab.analysis.data.sweep import INDEX, Sweep, check_columns
from creditlab.analysis.data.table_file import read_table
from creditlab.analysis.names import SEED, AnalysisError, labels, many, metric_order, some
from creditlab.hints import did_you_mean
from creditlab.records import FINISHED

STATUSES = {
    "complete": ("complete", "completed", "finished", "success", "succeeded", "done", "ok"),
    "diverged": ("diverged",),
    "failed": ("failed", "crashed", "killed", "error", "corrupt"),
    "unfinished": ("unfinished", "running", "pending", "preempting", "preempted", "scheduled", "queued"),
}
STATUS_OF = {word: status for status, words in STATUSES.items() for word in words}


class Export(NamedTuple):
    """What the columns of a program's export are: the run's name, its status, what is before names, bookkeeping."""

    name: str
    status: str
    prefixes: tuple[str, ...] = ()  # of settings and metrics; what has none of them is bookkeeping
    bookkeeping: tuple[str, ...] = ()  # columns that are neither


EXPORTS = (
    Export("run_id", "status", prefixes=("params.", "metrics.")),  # MLflow
    Export("Name", "State", bookkeeping=("Runtime", "Created", "Notes", "Tags", "User", "Sweep", "ID")),  # W&B
    Export("run", "status", bookkeeping=("identity",)),  # runs.csv of a report
)


class Roles(NamedTuple):
    """Which columns of a table are what; `status` and `name` are None where there is none."""

    factors: list[str]
    seed: str
    status: str | None
    name: str | None

    @property
    def all(self) -> list[str]:
        return [column for column in (*self.factors, self.seed, self.status, self.name) if column]


def from_table(
    path: Path,
    factors: Sequence[str],
    seed: str | None = None,
    metrics: Sequence[str] = ("*",),
    status: str | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
) -> Sweep:
    """The runs in the file `path`. `metrics` are patterns of columns of numbers; the seed is the column `seed` by
    default. `where` is that of `collect`.

    Raises AnalysisError, with one line, where the file or a column is not what it should be.
    """
    frame, roles = _with_roles(read_table(path), factors, seed, status)
    if where:
        check_columns(frame, where)
        frame = frame[chosen_runs(_records(frame[[*where]]), where)]
    statuses = _statuses(frame, roles.status)
    numeric = [c for c in map(str, frame) if c not in (*roles.all, *INDEX) and pd.api.types.is_numeric_dtype(frame[c])]
    if not numeric:
        raise AnalysisError(f"beside {some(roles.all)} no column of numbers is left to be a metric. {_listed(frame)}")
    wanted = matching(sorted(numeric, key=metric_order), metrics)
    statuses[(statuses == "complete") & np.isinf(frame[wanted].to_numpy(float)).any(axis=1)] = "diverged"
    rows = frame[statuses.isin(FINISHED)]
    if rows.empty:
        raise AnalysisError(f"none of the {many(len(frame), 'row')} is of a finished run: nothing to analyse.")
    _check_levels(rows, roles)
    _check_repeated(rows, roles, numeric)
    varying, problems = _varying(frame[statuses == "complete"], wanted)
    runs = frame[[*roles.factors, roles.seed, *varying]].copy()
    runs.insert(0, "run", _run_names(frame, roles.name))
    runs.insert(1, "status", statuses)
    sweep = Sweep.of(runs.reset_index(drop=True), roles.factors, varying, roles.seed)
    independent, aliased, nested = sort_out(_records(sweep.usable[[*roles.factors, SEED]]))
    return replace(sweep, factors=independent, aliased=aliased, nested=nested, folders=[path], problems=problems)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as mappings, with None where a value is missing."""
    objects = frame.astype(object)
    return [dict(zip(map(str, frame), row, strict=True)) for row in objects.where(objects.notna(), None).to_numpy()]


def _with_roles(
    frame: pd.DataFrame, factors: Sequence[str], seed: str | None, status: str | None
) -> tuple[pd.DataFrame, Roles]:
    """The table, of an export without its bookkeeping, and which column is what."""
    export = next((export for export in EXPORTS if {export.name, export.status} <= {*frame}), None)
    if export:
        frame = _without_bookkeeping(frame, export)
        factors = [_short(name, export, frame) for name in factors]
        seed, status = seed and _short(seed, export, frame), status or export.status
    if not factors:
        raise AnalysisError(f"a table needs the names of its factors: --factors COLUMN …. {_listed(frame)}")
    if seed is None and SEED not in frame:
        raise AnalysisError(
            f"no column is named {SEED!r}: give the one that holds the seeds, --seed COLUMN. {_listed(frame)}"
        )
    roles = Roles(list(factors), seed or SEED, status, export.name if export else None)
    check_columns(frame, roles.all)
    if reserved := [name for name in factors if name in INDEX]:
        raise AnalysisError(
            f"a factor cannot be named {reserved[0]!r}, which has a meaning of its own: rename the column."
        )
    if repeated := [name for name, times in Counter(roles.all).items() if times > 1]:
        raise AnalysisError(
            f"the column {repeated[0]!r} is given twice: a column is one factor, or the seed, or the status."
        )
    return frame, roles


def _listed(frame: pd.DataFrame) -> str:
    return f"The columns are {some(list(map(str, frame)), 20)}."


def _without_bookkeeping(frame: pd.DataFrame, export: Export) -> pd.DataFrame:
    """The columns of an export that are settings, metrics, name or status; names without prefix where that is clear."""
    special = (export.name, export.status)
    short: dict[str, str] = {}  # by the name in the file
    for name in map(str, frame):
        prefix = next((p for p in export.prefixes if name.startswith(p)), "")
        if name in special or (prefix or not (export.prefixes or name in export.bookkeeping or name.startswith("_"))):
            short[name] = name.removeprefix(prefix)
    times = Counter(short.values())
    return frame[[*short]].set_axis([new if times[new] == 1 else old for old, new in short.items()], axis=1)


def _short(name: str, export: Export, frame: pd.DataFrame) -> str:
    """The name of a column in `frame`, given with or without the export's prefix."""
    prefix = next((p for p in export.prefixes if name.startswith(p)), "")
    return name if name in frame else name.removeprefix(prefix)


def _run_names(frame: pd.DataFrame, column: str | None) -> pd.Series:
    """What each run is called: its name in the export, its row where it has none or shares it."""
    rows = pd.Series([f"row {number}" for number in frame.index], frame.index, dtype=object)
    if column is None:
        return rows.rename("run")
    names = frame[column].astype(object).where(frame[column].notna(), rows).map(str).astype(object)
    return names.where(~names.duplicated(keep=False), names + " (" + rows + ")").rename("run")


def _statuses(frame: pd.DataFrame, column: str | None) -> pd.Series:
    """The status of each row in the words of a sweep; `complete` where there is no such column."""
    if column is None:
        return pd.Series("complete", frame.index, dtype=object, name="status")
    words = frame[column].map(lambda value: str(value).strip().lower())
    if unknown := [word for word in dict.fromkeys(words) if word not in STATUS_OF]:
        row, hint = words.index[words == unknown[0]][0], did_you_mean(unknown[0], STATUS_OF)
        raise AnalysisError(f"{column}={unknown[0]} (row {row}) is no status.{hint} There are: {', '.join(STATUS_OF)}.")
    return words.map(STATUS_OF).astype(object).rename("status")


def _check_levels(rows: pd.DataFrame, roles: Roles) -> None:
    """Raise AnalysisError for a factor that cannot be one, or a seed that is none."""
    words = labels(rows[[*roles.factors, roles.seed]])
    for factor in roles.factors:
        levels = set(words[factor])
        if len(levels) < 2:
            level = words[factor].iloc[0]
            raise AnalysisError(f"the factor {factor!r} has one level, {level}: leave it out of --factors.")
        if len(levels) == len(rows) > 2:
            measured = pd.api.types.is_numeric_dtype(rows[factor])
            what = (
                "number of its own in each row, so it is probably a metric"
                if measured
                else "name of its own in each row"
            )
            raise AnalysisError(f"the factor {factor!r} has a {what}: leave it out of --factors.")
    seeds = words[roles.seed]
    if "absent" in set(seeds):
        raise AnalysisError(f"the seed {roles.seed!r} is missing in row {seeds.index[seeds == 'absent'][0]}.")
    if len(set(seeds)) < 2:
        raise AnalysisError(f"the column {roles.seed!r} has one seed, {seeds.iloc[0]}, and at least two are needed.")


def _check_repeated(rows: pd.DataFrame, roles: Roles, numeric: Sequence[str]) -> None:
    """Raise AnalysisError where two rows have the same levels and seed; name them, and what would tell them apart."""
    keys = [*roles.factors, roles.seed]
    words = labels(rows[keys])
    repeated = words[words.duplicated(keep=False)]
    if repeated.empty:
        return
    cell = repeated.iloc[0]
    numbers = repeated.index[(repeated == cell).all(axis=1)][:2]
    others = [
        c for c in map(str, rows) if c not in roles.all and rows[c].nunique() < len(rows) / (2 if c in numeric else 1)
    ]
    apart = [c for c in others if not rows.duplicated([*keys, c]).any()]
    cure = f"add {' or '.join(apart[:3]) or 'the factor that tells them apart'} to --factors"
    more = f" ({len(repeated)} rows have a double)" if len(repeated) > 2 else ""
    settings = ", ".join(f"{key}={level}" for key, level in cell.items())
    raise AnalysisError(
        f"rows {numbers[0]} and {numbers[1]} are both of {settings}{more}: {cure}, or drop one of them."
    )


def _varying(complete: pd.DataFrame, metrics: Sequence[str]) -> tuple[list[str], list[str]]:
    """The metrics that vary among the complete rows, and a line on those that do not. Raises AnalysisError if none."""
    counts = complete[[*metrics]].nunique()
    reasons = {"no value in any complete row": counts == 0, "constant": counts == 1}
    dull = [f"left out, {why}: {some(list(counts.index[which]))}" for why, which in reasons.items() if which.any()]
    varying = [metric for metric in metrics if counts[metric] > 1]
    if not varying:
        raise AnalysisError(f"no metric varies: {'; '.join(dull)}.")
    return varying, dull
