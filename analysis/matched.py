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

from analysis.design import SEED
from analysis.histories import CHANGE, outcomes
from analysis.posthoc import COLUMNS as PAIRS
from analysis.posthoc import paired

COLUMNS = ["by", "target", *(column for column in PAIRS if column not in ("method", "n_b"))]
BY = ("test/accuracy", "step", CHANGE)


def common(history: pd.DataFrame, by: str) -> float:
    """The greatest value of `by` that every run reaches."""
    return float(history.groupby("run")[by].max().min())


def at(history: pd.DataFrame, factors: Sequence[str], by: str, target: float) -> pd.DataFrame:
    """A row a run that reaches `target` of the column `by`: run, factors, seed, step (where it does), the metrics."""
    metrics = outcomes(history, list(factors))
    rows = []
    for _, run in history.sort_values(["run", "step"]).groupby("run"):
        there = run[np.isfinite(run[by])]
        reached = there[by].to_numpy() >= target
        if not reached.any():
            continue
        first = int(reached.argmax())
        around = there.iloc[max(first - 1, 0) : first + 1]
        step = float(np.interp(target, around[by], around["step"]))
        row = run.iloc[0][["run", *factors, SEED]].to_dict() | {"step": step}
        for metric in metrics:
            known = np.isfinite(run[metric].to_numpy(float))
            steps, values = run["step"].to_numpy()[known], run[metric].to_numpy()[known]
            row[metric] = np.interp(step, steps, values, left=np.nan, right=np.nan) if known.any() else np.nan
        rows.append(row)
    return pd.DataFrame(rows, columns=["run", *factors, SEED, "step", *metrics])


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
