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

from creditlab.analysis.data.histories import CHANGE, histories, outcomes
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.posthoc import PAIR, paired
from creditlab.analysis.names import SEED
from creditlab.analysis.table import stacked, statistic

BY = ("test/accuracy", "step", CHANGE)


@statistic(
    "Matched comparison",
    "One row per target, metric and pair of levels that share at least two seeds.",
    {
        "by": "what is equal: test/accuracy, step, or the relative change of the weights",
        "target": "the value at which runs are compared",
        **{name: text for name, text in PAIR.items() if name not in ("method", "n_b")},
    },
    place=140,
)
def matched(sweep: Sweep, by: str | None = None, target: float | None = None) -> pd.DataFrame:
    """Paired differences between the levels of each factor where `by` has the value `target`.

    By default at all of BY, each at the greatest value that every run reaches. Empty where the seeds of two levels do
    not reach a target, and for a `by` that the histories do not have.
    """
    tables = [_matched(histories(sweep), sweep.factors, each, target) for each in ((by,) if by else BY)]
    return stacked(tables, list(matched.columns))


def _matched(history: pd.DataFrame, factors: Sequence[str], by: str, target: float | None) -> pd.DataFrame:
    if by not in history:
        return matched.empty()
    target = common(history, by) if target is None else target
    points = at(history, factors, by, target)
    metrics = [metric for metric in outcomes(history, factors) if metric != by and points[metric].notna().any()]
    metrics = [*(["step"] if by != "step" else []), *metrics]
    tables = [
        paired(points, factor, [other for other in factors if other != factor], metrics)
        for factor in factors
        if len(set(points[factor])) > 1
    ]
    return stacked([table.assign(by=by, target=target) for table in tables], list(matched.columns))


def common(history: pd.DataFrame, by: str) -> float:
    """The greatest value of `by` that every run reaches."""
    return float(history.groupby("run")[by].max().min())


def at(history: pd.DataFrame, factors: Sequence[str], by: str, target: float) -> pd.DataFrame:
    """One row per run that reaches `target` of the column `by`: run, factors, seed, step at which it does, metrics."""
    metrics = outcomes(history, list(factors))
    history = history.sort_values(["run", "step"], kind="stable")
    steps, progress, values = (history[c].to_numpy(float) for c in ("step", by, metrics))
    recorded_at = np.isfinite(values)
    first = np.flatnonzero(~history["run"].duplicated())
    reaching: list[int] = []  # the first row of each run that reaches the target
    rows = []
    for start, end in zip(first, np.append(first[1:], len(history)), strict=False):
        measured = start + np.flatnonzero(np.isfinite(progress[start:end]))
        reached = progress[measured] >= target
        if not reached.any():
            continue
        around = measured[max(int(reached.argmax()) - 1, 0) : int(reached.argmax()) + 1]
        step = float(np.interp(target, progress[around], steps[around]))
        row = np.full(len(metrics), np.nan)
        recorded = recorded_at[start:end]
        for pattern in np.unique(recorded, axis=1).T:  # metrics that are recorded at the same steps
            rows_of = start + np.flatnonzero(pattern)
            if len(rows_of) and steps[rows_of[0]] <= step <= steps[rows_of[-1]]:
                alike = np.flatnonzero((recorded == pattern[:, None]).all(axis=0))
                after = rows_of[np.searchsorted(steps[rows_of], step)]
                before = after if steps[after] == step else rows_of[np.searchsorted(steps[rows_of], step) - 1]
                share = (step - steps[before]) / (steps[after] - steps[before]) if after > before else 0.0
                row[alike] = values[before, alike] + share * (values[after, alike] - values[before, alike])
        reaching.append(int(start))
        rows.append([step, *row])
    settings = history.iloc[reaching][["run", *factors, SEED]].reset_index(drop=True)
    return pd.concat([settings, pd.DataFrame(rows, columns=["step", *metrics], dtype=float)], axis=1)
