"""Levels compared where they are equally far: at equal accuracy, at equal steps, at equal change of the weights.

A rule that learns more slowly has, at the end, other weights because it has learned less. So each run is read at the
point of its history where it first reaches a target (steps by linear interpolation between evaluations, every metric by
linear interpolation between its own records, none beyond its last), and levels are compared there by the paired
differences of `posthoc`. The target is the greatest value that every run reaches, unless one is given; a run that does
not reach it takes no part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from creditlab.analysis.data.histories import CHANGE, outcomes
from creditlab.analysis.effects.posthoc import COLUMNS as PAIRS
from creditlab.analysis.effects.posthoc import paired
from creditlab.analysis.names import SEED

COLUMNS = ["by", "target", *(column for column in PAIRS if column not in ("method", "n_b"))]
BY = ("test/accuracy", "step", CHANGE)


def common(history: pd.DataFrame, by: str) -> float:
    """The greatest value of `by` that every run reaches."""
    return float(history.groupby("run")[by].max().min())


def at(history: pd.DataFrame, factors: Sequence[str], by: str, target: float) -> pd.DataFrame:
    """A row a run that reaches `target` of the column `by`: run, factors, seed, step (where it does), the metrics."""
    metrics = outcomes(history, list(factors))
    history = history.sort_values(["run", "step"], kind="stable")
    steps, progress, values = (history[c].to_numpy(float) for c in ("step", by, metrics))
    known = np.isfinite(values)
    first = np.flatnonzero(~history["run"].duplicated())
    found: list[int] = []
    rows = []
    for start, end in zip(first, np.append(first[1:], len(history)), strict=False):
        there = start + np.flatnonzero(np.isfinite(progress[start:end]))
        reached = progress[there] >= target
        if not reached.any():
            continue
        around = there[max(int(reached.argmax()) - 1, 0) : int(reached.argmax()) + 1]
        step = float(np.interp(target, progress[around], steps[around]))
        row = np.full(len(metrics), np.nan)
        recorded = known[start:end]
        for pattern in np.unique(recorded, axis=1).T:  # metrics that are recorded at the same steps
            rows_of = start + np.flatnonzero(pattern)
            if len(rows_of) and steps[rows_of[0]] <= step <= steps[rows_of[-1]]:
                alike = np.flatnonzero((recorded == pattern[:, None]).all(axis=0))
                after = rows_of[np.searchsorted(steps[rows_of], step)]
                before = after if steps[after] == step else rows_of[np.searchsorted(steps[rows_of], step) - 1]
                share = (step - steps[before]) / (steps[after] - steps[before]) if after > before else 0.0
                row[alike] = values[before, alike] + share * (values[after, alike] - values[before, alike])
        found.append(int(start))
        rows.append([step, *row])
    settings = history.iloc[found][["run", *factors, SEED]].reset_index(drop=True)
    return pd.concat([settings, pd.DataFrame(rows, columns=["step", *metrics], dtype=float)], axis=1)


def matched(history: pd.DataFrame, factors: Sequence[str], by: str, target: float | None = None) -> pd.DataFrame:
    """Paired differences between the levels of each of `factors` where `by` is `target`. Columns: COLUMNS.

    Empty where no target is reached by the seeds of two levels, and for a `by` that the history does not have.
    """
    if by not in history:
        return pd.DataFrame(columns=COLUMNS)
    target = common(history, by) if target is None else target
    there = at(history, factors, by, target)
    metrics = [metric for metric in outcomes(history, list(factors)) if metric != by and there[metric].notna().any()]
    metrics = [*(["step"] if by != "step" else []), *metrics]
    tables = [
        paired(there, factor, [other for other in factors if other != factor], metrics)
        for factor in factors
        if len(set(there[factor])) > 1
    ]
    tables = [table.assign(by=by, target=target) for table in tables if len(table)]
    return pd.concat(tables, ignore_index=True)[COLUMNS] if tables else pd.DataFrame(columns=COLUMNS)
