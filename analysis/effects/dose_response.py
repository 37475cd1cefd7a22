"""How a metric responds to a numeric factor: its curve, whether it has a trend, where it changes.

*Trend*: Kendall's τ of metric and level, and a permutation p of the sum over runs of (rank of the level − its mean) ×
rank of the metric, levels permuted within seeds where seeds are shared. *Change point*: the split of the levels into
low and high ones that leaves the least of the metric's variation (a step; Hinkley 1970, Biometrika 57), the difference
of the two means, and p of so great a reduction by the same permutations. The interval holds every split that the data
do not refute: normal noise around the step at that split lets another split be better by as much.
Levels are discrete, so it covers at least what it says.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.model.intervals import half_width
from creditlab.analysis.model.permutation import orders, p_value
from creditlab.analysis.names import LEVEL, SEED, labels
from creditlab.analysis.table import stacked, statistic

DRAWS = 999


def numeric(sweep: Sweep) -> list[str]:
    """The factors whose levels are numbers, at least three of them."""
    runs = sweep.usable
    numbers = [f for f in sweep.factors if runs[f].map(lambda v: isinstance(v, int | float)).all()]
    return [f for f in numbers if runs[f].nunique() > 2]


def _points(sweep: Sweep, factor: str) -> pd.DataFrame:
    """The mean over the runs of each level and seed (the index, in order) of each metric (a column)."""
    runs = sweep.complete
    values = runs[sweep.outcomes].astype(float)
    keys = [runs[factor].astype(float).rename("level"), labels(runs[[SEED]])[SEED]]
    return values.where(np.isfinite(values)).groupby(keys).mean()


@statistic(
    "Curves",
    "One row per factor of at least three numeric levels, metric and level.",
    {
        "factor": "a factor of at least three numeric levels",
        "metric": "name of the metric",
        "level": "level of the factor",
        "n": "seeds",
        "mean": ("mean over seeds", "the metric's"),
        "low": ("lower end of Student's interval", "the metric's"),
        "high": ("upper end of Student's interval", "the metric's"),
    },
    place=170,
)
def curve(sweep: Sweep) -> pd.DataFrame:
    """Mean and Student's interval over seeds by level of each numeric factor."""
    return stacked([_curve(sweep, factor) for factor in numeric(sweep)], list(curve.columns))


def _curve(sweep: Sweep, factor: str) -> pd.DataFrame:
    levels = _points(sweep, factor).rename_axis(columns="metric").groupby(level=0)
    statistics = {"n": levels.count(), "mean": levels.mean(), "spread": levels.std()}
    columns = {name: table.melt(ignore_index=False)["value"] for name, table in statistics.items()}
    rows = statistics["n"].melt(ignore_index=False)[["metric"]].assign(**columns).reset_index()
    rows = rows[rows["n"] > 0]
    half = half_width(rows["spread"], rows["n"])
    rows = rows.assign(factor=factor, low=rows["mean"] - half, high=rows["mean"] + half)
    place = {metric: i for i, metric in enumerate(sweep.outcomes)}
    return rows.sort_values("metric", key=lambda m: m.map(place), kind="stable", ignore_index=True)


@statistic(
    "Trends",
    "One row per factor of at least three numeric levels, and metric.",
    {
        "factor": "a factor of at least three numeric levels",
        "metric": "name of the metric",
        "levels": "levels",
        "n": "means over the runs of a level and seed",
        "tau": "Kendall's τ of metric and level, in [−1, 1]",
        "p_trend": "p of a trend, by permutation",
        "change_after": ("last level before the best step", "the factor's"),
        "change_before": ("first level after the best step", "the factor's"),
        "ci_low": ("lower end of the interval of the step's place", "the factor's"),
        "ci_high": ("upper end of the interval of the step's place", "the factor's"),
        "change": ("mean after the step minus mean before it", "the metric's"),
        "p_change": "p of so great a step, by permutation",
    },
    place=160,
)
def dose(sweep: Sweep) -> pd.DataFrame:
    """Trend and change point of each metric that varies and has three levels, by each numeric factor."""
    rows = []
    for factor in numeric(sweep):
        designs: dict[bytes, _Trend] = {}  # metrics with values for the same runs share one
        points = _points(sweep, factor)
        levels, seeds = points.index.get_level_values(0).to_numpy(), pd.factorize(points.index.get_level_values(1))[0]
        for metric in sweep.outcomes:
            y = points[metric].to_numpy()
            present = ~np.isnan(y)
            y = y[present]
            if len(set(levels[present])) < 3 or len(y) < 4 or np.ptp(y) <= 1e-12 * np.abs(y).max():
                continue
            if (key := present.tobytes()) not in designs:
                designs[key] = _Trend(levels[present], pd.factorize(seeds[present])[0])
            rows.append((factor, metric, *designs[key].answer(y)))
    return pd.DataFrame(rows, columns=list(dose.columns))


class _Trend:
    """The levels and seeds of some points, and random draws for them."""

    def __init__(self, level: np.ndarray, seeds: np.ndarray) -> None:
        generator = np.random.default_rng(0)
        self.n = len(level)
        self.levels, self.place = np.unique(level, return_inverse=True)
        shared = self.n > seeds.max() + 1  # some seed has several levels: levels are compared within it
        self.block = seeds if shared else np.zeros(self.n, int)
        above = (self.place[:, None] >= np.arange(1, len(self.levels))).astype(float)
        steps = self.centred(above)  # (points, splits)
        self.lengths = np.sqrt((steps**2).sum(axis=0))
        self.splits = steps / np.where(self.lengths > 1e-9, self.lengths, np.inf)
        self.orders = orders(self.block, DRAWS, generator)
        self.free = max(self.n - self.block.max() - 2, 1)
        self.noise = generator.normal(size=(DRAWS, self.n)) @ self.splits  # (draws, splits)

    def centred(self, values: np.ndarray) -> np.ndarray:
        """`values` (points, …) less their mean over each block."""
        means = np.stack([values[self.block == b].mean(axis=0) for b in range(self.block.max() + 1)])
        return values - means[self.block]

    def answer(self, y: np.ndarray) -> tuple:
        """The columns of `dose` after `metric`, for `y` (points,)."""
        centred = self.centred(y)
        ranks, order = stats.rankdata(y), self.centred(stats.rankdata(self.place))
        trend = np.abs(ranks[self.orders] @ order) >= np.abs(ranks @ order) - 1e-9
        steps = centred @ self.splits  # (splits,)
        gain = steps**2
        beyond = ((centred[self.orders] @ self.splits) ** 2).max(axis=1) >= gain.max() * (1 - 1e-12)

        spread = np.sqrt(((centred**2).sum() - gain).clip(min=0) / self.free)  # around a step at each split
        expected = (self.splits * steps).T @ self.splits  # (split of the step, split looked at)
        gains = (spread[:, None] * self.noise[:, None, :] + expected) ** 2
        lead = gains.max(axis=2) - np.einsum("djj->dj", gains)  # (draws, splits)
        p = p_value(lead >= gain.max() - gain - 1e-12)
        inside = np.flatnonzero(p > 1 - LEVEL)

        best = int(gain.argmax())
        tau = stats.kendalltau(self.place, y).statistic
        p_trend, p_change = p_value(trend), p_value(beyond)
        ends = [self.levels[i] for i in (best, best + 1, inside.min(), inside.max() + 1)]
        change = float(steps[best]) / self.lengths[best]
        return (len(self.levels), self.n, float(tau), p_trend, *map(float, ends), change, p_change)
