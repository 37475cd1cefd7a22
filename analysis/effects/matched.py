"""Levels compared where they are equally far: at equal accuracy, at equal steps, at equal change of the weights.

A rule that learns more slowly has, at the end, other weights because it has learned less. So each run is read at the
point of its history where it first reaches a target (steps by linear interpolation between evaluations, every metric by
linear interpolation between its own records, none beyond its last). The runs read there are fitted by the model of all
other comparisons. The target is the greatest value that every run reaches; a run that does not reach it takes no part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from creditlab.analysis.data.histories import CHANGE, histories, outcomes
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.posthoc import PAIR, decided, pairs
from creditlab.analysis.model.design import name_of
from creditlab.analysis.model.fits import Fits, fit
from creditlab.analysis.model.questions import question
from creditlab.analysis.names import OUTCOME, SEED
from creditlab.analysis.table import once, stacked, statistic

BY = (OUTCOME, "step", CHANGE)


@statistic(
    "Matched comparison",
    "One row per target, metric and pair of levels.",
    {
        "by": "what is equal: test/accuracy, step, or the relative change of the weights",
        "target": "the value at which runs are compared",
        **{name: text for name, text in PAIR.items() if name != "at"},
    },
    place=140,
)
def matched(fits: Fits) -> pd.DataFrame:
    """Differences between the levels of each factor where each of BY has the greatest value that every run reaches.

    Empty where fewer than two seeds reach a target, and for one that the histories do not have.
    """
    tables = []
    for by, (target, points) in _matched(fits).items():
        table = pairs(points)
        table = table[table["at"] == ""]
        if len(table):
            table = table.assign(question=[_question(factor, by) for factor in table["factor"]])
            tables.append(decided(table, fits, points.scale_of).assign(by=by, target=target))
    return stacked(tables, list(matched.columns))


@question
def at_equal(fits: Fits) -> pd.DataFrame:
    """Does a factor change the metrics where runs are equally far?"""
    tables = [
        pd.DataFrame({"question": _question(name_of(term), by), "metric": one.metrics, "p": test.p})
        for by, (_, points) in _matched(fits).items()
        for one in points
        for term, test in one.tests.items()
        if len(term) == 1
    ]
    return stacked(tables, ["question", "metric", "p"])


def _question(factor: str, by: str) -> str:
    return f"{factor} at equal {by}"


@once
def _matched(fits: Fits) -> dict[str, tuple[float, Fits]]:
    """Of each of BY that the histories have: the target, and the fits of the runs that are read there."""
    sweep, history = fits.sweep, histories(fits.sweep)
    by_target = {}
    for by in BY:
        if by not in history:
            continue
        target = common(history, by)
        points = at(history, sweep.factors, by, target)
        metrics = [metric for metric in outcomes(history, sweep.factors) if metric != by]
        metrics = [*(["step"] if by != "step" else []), *(m for m in metrics if points[m].notna().any())]
        read = Sweep.of(points.assign(status="complete"), sweep.factors, metrics)
        by_target[by] = (target, fit(read, order=fits.order, scales=fits.scales))
    return by_target


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
