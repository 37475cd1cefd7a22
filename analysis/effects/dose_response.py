"""How a metric answers to a numeric factor: its curve, whether it has a trend, where it changes.

*Trend*: Kendall's τ of metric and level, and a permutation p of the sum over runs of (rank of the level − its mean) ×
rank of the metric, levels permuted within seeds where seeds are shared. *Change point*: the split of the levels into
low and high ones that leaves the least of the metric's variation (a step; Hinkley 1970, Biometrika 57), the difference
of the two means, and p of so great a reduction by the same permutations. The interval holds every split that the data
do not refute: normal noise around the step at that split lets another split be better by as much.
Levels are discrete, so it covers at least what it says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.names import LEVEL, SEED, labels

CURVE = ["factor", "metric", "level", "n", "mean", "low", "high"]
COLUMNS = [
    *["factor", "metric", "levels", "n", "tau", "p_trend"],
    *["change_after", "change_before", "ci_low", "ci_high", "change", "p_change"],
]
DRAWS = 999


def numeric(runs: pd.DataFrame, factors: Sequence[str]) -> list[str]:
    """The factors whose levels are numbers, at least three of them."""
    return [f for f in factors if runs[f].map(lambda v: isinstance(v, int | float)).all() and runs[f].nunique() > 2]


def _points(runs: pd.DataFrame, factor: str, metrics: Sequence[str]) -> pd.DataFrame:
    """The mean over the runs of each level and seed (the index, in order) of each metric (a column)."""
    runs = runs[runs["status"] == "complete"] if "status" in runs else runs
    values = runs[list(metrics)].astype(float)
    keys = [runs[factor].astype(float).rename("level"), labels(runs[[SEED]])[SEED]]
    return values.where(np.isfinite(values)).groupby(keys).mean()


def curve(runs: pd.DataFrame, factor: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Mean and Student's interval over seeds by level. Columns: CURVE."""
    levels = _points(runs, factor, metrics).rename_axis(columns="metric").groupby(level=0)
    each = {"n": levels.count(), "mean": levels.mean(), "spread": levels.std()}
    columns = {name: table.melt(ignore_index=False)["value"] for name, table in each.items()}
    found = each["n"].melt(ignore_index=False)[["metric"]].assign(**columns).reset_index()
    found = found[found["n"] > 0]
    wide = stats.t.ppf((1 + LEVEL) / 2, found["n"] - 1) * found["spread"] / np.sqrt(found["n"])
    found = found.assign(factor=factor, low=found["mean"] - wide, high=found["mean"] + wide)
    place = {metric: i for i, metric in enumerate(metrics)}
    return found.sort_values("metric", key=lambda m: m.map(place), kind="stable", ignore_index=True)[CURVE]


def dose(runs: pd.DataFrame, factor: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Trend and change point of each of `metrics` that varies and has three levels. Columns: COLUMNS."""
    rows = []
    designs: dict[bytes, _Design] = {}  # metrics with values for the same runs share one
    points = _points(runs, factor, metrics)
    levels, seeds = points.index.get_level_values(0).to_numpy(), pd.factorize(points.index.get_level_values(1))[0]
    for metric in metrics:
        y = points[metric].to_numpy()
        there = ~np.isnan(y)
        y = y[there]
        if len(set(levels[there])) < 3 or len(y) < 4 or np.ptp(y) <= 1e-12 * np.abs(y).max():
            continue
        if (key := there.tobytes()) not in designs:
            designs[key] = _Design(levels[there], pd.factorize(seeds[there])[0])
        rows.append((factor, metric, *designs[key].answer(y)))
    return pd.DataFrame(rows, columns=COLUMNS)


class _Design:
    """The levels and seeds of some points, and random draws for them."""

    def __init__(self, level: np.ndarray, seeds: np.ndarray) -> None:
        generator = np.random.default_rng(0)
        self.n = len(level)
        self.levels, self.place = np.unique(level, return_inverse=True)
        shared = self.n > seeds.max() + 1  # some seed has several levels: levels are compared within it
        self.block = seeds if shared else np.zeros(self.n, int)
        above = (self.place[:, None] >= np.arange(1, len(self.levels))).astype(float)
        steps = self.within(above)  # (points, splits)
        self.lengths = np.sqrt((steps**2).sum(axis=0))
        self.splits = steps / np.where(self.lengths > 1e-9, self.lengths, np.inf)
        mixed = np.argsort(self.block + generator.random((DRAWS, self.n)), axis=1)
        self.orders = np.empty_like(mixed)
        self.orders[:, np.argsort(self.block, kind="stable")] = mixed
        self.free = max(self.n - self.block.max() - 2, 1)
        self.noise = generator.normal(size=(DRAWS, self.n)) @ self.splits  # (draws, splits)

    def within(self, values: np.ndarray) -> np.ndarray:
        """`values` (points, …) less their mean over each block."""
        means = np.stack([values[self.block == b].mean(axis=0) for b in range(self.block.max() + 1)])
        return values - means[self.block]

    def answer(self, y: np.ndarray) -> tuple:
        """The columns after `metric` of `dose`, of `y` (points,)."""
        own = self.within(y)
        ranks, order = stats.rankdata(y), self.within(stats.rankdata(self.place))
        trend = np.abs(ranks[self.orders] @ order) >= np.abs(ranks @ order) - 1e-9
        seen = own @ self.splits  # (splits,)
        gain = seen**2
        beyond = ((own[self.orders] @ self.splits) ** 2).max(axis=1) >= gain.max() * (1 - 1e-12)

        spread = np.sqrt(((own**2).sum() - gain).clip(min=0) / self.free)  # around a step at each split
        steps = (self.splits * seen).T @ self.splits  # (split of the step, split looked at)
        gains = (spread[:, None] * self.noise[:, None, :] + steps) ** 2
        lead = gains.max(axis=2) - np.einsum("djj->dj", gains)  # (draws, splits)
        p = (1 + (lead >= gain.max() - gain - 1e-12).sum(axis=0)) / (1 + DRAWS)
        inside = np.flatnonzero(p > 1 - LEVEL)

        best = int(gain.argmax())
        tau = stats.kendalltau(self.place, y).statistic
        p_trend, p_change = ((1 + each.sum()) / (1 + DRAWS) for each in (trend, beyond))
        ends = [self.levels[i] for i in (best, best + 1, inside.min(), inside.max() + 1)]
        change = float(seen[best]) / self.lengths[best]
        return (len(self.levels), self.n, float(tau), p_trend, *map(float, ends), change, p_change)
