"""How a metric responds to a numeric factor: its curve, whether it has a trend, where it changes.

*Trend*: orthogonal polynomials, linear and quadratic, over the levels: over their logarithms for learning rates and for
levels that are evenly spaced in the logarithm. Where seeds are shared, they are fitted for each seed with all levels
(its means over the other factors), and Student's t over seeds tests their mean, with S − 1 degrees of freedom: seeds
may differ in their slope, and a common slope with one pooled error is then found in one of five sweeps without a trend.
Where no two levels share a seed, one line is fitted to all points, with n − 3 degrees of freedom.

*Change point*: the split of the levels into low and high ones that leaves the least of the metric's variation (a step;
Hinkley 1970, Biometrika 57), and the difference of the two means. Its p asks whether any split steps: of all splits the
largest |t| over seeds, and how often it is as large with the levels of each seed's whole curve permuted. Without shared
seeds the reduction itself is compared. The interval holds every split that the data do not refute: normal noise around
the step at that split lets another split be better by as much. Levels are discrete, so it covers at least what it says.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.model.fits import Fits
from creditlab.analysis.model.intervals import half_width
from creditlab.analysis.model.permutation import orders, p_value
from creditlab.analysis.model.questions import adjusted, question
from creditlab.analysis.names import LEVEL, SEED, labels
from creditlab.analysis.table import once, stacked, statistic

DRAWS = 999
ASKED = {"p": "trend in", "p_quadratic": "curvature in", "p_change": "step in"}  # the questions of each factor
RATES = ("lr", "learning_rate")  # the last part of the name of a learning rate
EVEN = 1.5  # the longest step between levels is at most so many times the shortest one where they are evenly spaced


def numeric(sweep: Sweep) -> list[str]:
    """The factors whose levels are numbers, at least three of them."""
    runs = sweep.usable
    numbers = [f for f in sweep.factors if runs[f].map(lambda v: isinstance(v, int | float)).all()]
    return [f for f in numbers if runs[f].nunique() > 2]


def _points(sweep: Sweep, factor: str) -> pd.DataFrame:
    """The mean over the runs of each level and seed (the index, in order) of each metric (a column)."""
    runs = sweep.complete
    values = runs[sweep.comparable].astype(float)
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
        "scale": "linear; or log10, where the slope is per tenfold increase of the factor",
        "levels": "levels",
        "n": "seeds with a value at each level; points, where no two levels share a seed",
        "slope": ("change of the metric per unit of the scale, the mean over seeds", "the metric's"),
        "slope_low": ("lower end of its interval", "the metric's"),
        "slope_high": ("upper end of its interval", "the metric's"),
        "t": "slope over its standard error",
        "df": "degrees of freedom",
        "p": "p of the slope, of this test alone",
        "p_adjusted": "p of the slope over all tests of the report",
        "quadratic": ("curvature: coefficient of the scale's square, the linear part removed", "the metric's"),
        "p_quadratic": "p of the curvature, of this test alone",
        "p_quadratic_adjusted": "p of the curvature over all tests of the report",
        "tau": "Kendall's τ of metric and level, in [−1, 1]",
        "change_after": ("last level before the best step", "the factor's"),
        "change_before": ("first level after the best step", "the factor's"),
        "ci_low": ("lower end of the interval of the step's place", "the factor's"),
        "ci_high": ("upper end of the interval of the step's place", "the factor's"),
        "change": ("mean after the step minus mean before it", "the metric's"),
        "p_change": "p of so great a step, by permutation, of this test alone",
        "p_change_adjusted": "p of so great a step over all tests of the report",
    },
    place=160,
)
def dose(fits: Fits) -> pd.DataFrame:
    """Trend and change point of each metric that varies and has three levels, by each numeric factor."""
    rows = responses(fits.sweep).copy()
    for column, asked in ASKED.items():
        tests = {factor: adjusted(fits, f"{asked} {factor}") for factor in rows["factor"].unique()}
        pairs = zip(rows["factor"], rows["metric"], strict=True)
        rows[f"{column}_adjusted"] = [tests[factor].get(metric, np.nan) for factor, metric in pairs]
    return rows[list(dose.columns)]


@question
def _question(fits: Fits) -> pd.DataFrame:
    """Whether a metric has a trend, a curvature, a step: each a question for each numeric factor."""
    rows = responses(fits.sweep)
    tests = [
        pd.DataFrame({"question": f"{asked} " + rows["factor"], "metric": rows["metric"], "p": rows[column]})
        for column, asked in ASKED.items()
    ]
    return pd.concat(tests, ignore_index=True)


@once
def responses(sweep: Sweep) -> pd.DataFrame:
    """The rows of `dose` but for p_adjusted."""
    rows = []
    for factor in numeric(sweep):
        designs: dict[bytes, _Curves] = {}  # metrics with values for the same runs share one
        points = _points(sweep, factor)
        levels, seeds = points.index.get_level_values(0).to_numpy(), pd.factorize(points.index.get_level_values(1))[0]
        for metric in sweep.comparable:
            y = points[metric].to_numpy()
            present = ~np.isnan(y)
            y = y[present]
            if len(set(levels[present])) < 3 or len(y) < 4 or np.ptp(y) <= 1e-12 * np.abs(y).max():
                continue
            if (key := present.tobytes()) not in designs:
                designs[key] = _Curves(factor, levels[present], pd.factorize(seeds[present])[0])
            rows.append({"factor": factor, "metric": metric, **designs[key].trend(y), **designs[key].step(y)})
    return pd.DataFrame(rows, columns=[name for name in dose.columns if not name.endswith("_adjusted")])


def logarithmic(factor: str, levels: np.ndarray) -> bool:
    """Whether the trend over `levels`, in order, is one over their logarithms."""
    if levels.min() <= 0:
        return False
    longest = [float(steps.max() / steps.min()) for steps in (np.diff(np.log(levels)), np.diff(levels))]
    return factor.rpartition(".")[2] in RATES or (longest[0] <= EVEN and longest[0] < longest[1])


def polynomials(x: np.ndarray) -> np.ndarray:
    """What gives the coefficient of x, and that of what x² adds to a line, of values at `x` (levels,), (2, levels)."""
    line = x - x.mean()
    square = line**2 - (line**2).mean()
    square = square - line * (line @ square) / (line @ line)
    return np.stack([line / (line @ line), square / (square @ square)])


class _Curves:
    """The levels and seeds of some points, and random draws for them."""

    def __init__(self, factor: str, level: np.ndarray, seeds: np.ndarray) -> None:
        generator = np.random.default_rng(0)
        self.n = len(level)
        self.levels, self.place = np.unique(level, return_inverse=True)
        self.log = logarithmic(factor, self.levels)
        self.x = np.log10(self.levels) if self.log else self.levels
        shared = self.n > seeds.max() + 1  # some seed has several levels: levels are compared within it
        self.block = seeds if shared else np.zeros(self.n, int)
        whole = np.flatnonzero(np.bincount(seeds) == len(self.levels)) if shared else np.zeros(0, int)
        order = np.lexsort([self.place, seeds])
        self.whole = order[np.isin(seeds[order], whole)].reshape(len(whole), -1) if shared else None  # (seeds, levels)
        above = (self.place[:, None] >= np.arange(1, len(self.levels))).astype(float)
        steps = self.centred(above)  # (points, splits)
        self.lengths = np.sqrt((steps**2).sum(axis=0))
        self.splits = steps / np.where(self.lengths > 1e-9, self.lengths, np.inf)
        self.orders = orders(self.block, DRAWS, generator)
        self.free = max(self.n - self.block.max() - 2, 1)
        self.noise = generator.normal(size=(DRAWS, self.n)) @ self.splits  # (draws, splits)
        if self.whole is not None and self.whole.size:
            self.permuted = generator.permuted(
                np.tile(np.arange(len(self.levels)), (DRAWS, len(whole), 1)), axis=2
            )  # of each seed's curve

    def centred(self, values: np.ndarray) -> np.ndarray:
        """`values` (points, …) less their mean over each block."""
        means = np.stack([values[self.block == b].mean(axis=0) for b in range(self.block.max() + 1)])
        return values - means[self.block]

    def trend(self, y: np.ndarray) -> dict[str, object]:
        """The columns of `dose` from `scale` to `tau`, for `y` (points,)."""
        tau = float(stats.kendalltau(self.place, y).statistic)
        about = {"scale": "log10" if self.log else "linear", "levels": len(self.levels), "tau": tau}
        if self.whole is None:
            n, df = self.n, self.n - 3
            both = polynomials(self.x[self.place]) if len(set(self.place)) > 2 else np.full((2, n), np.nan)
            mean = both @ y
            fitted = (y - y.mean()) - (mean / (both**2).sum(axis=1)) @ both
            error = np.sqrt((fitted @ fitted) / max(df, 1) * (both**2).sum(axis=1)) if df > 0 else np.full(2, np.nan)
        else:
            slopes = y[self.whole] @ polynomials(self.x).T  # (seeds, 2)
            n, df = len(slopes), len(slopes) - 1
            mean = slopes.mean(axis=0) if n else np.full(2, np.nan)
            error = slopes.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full(2, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = mean / error
        wide = stats.t.ppf((1 + LEVEL) / 2, df) * error[0] if df > 0 else np.nan
        p = 2 * stats.t.sf(np.abs(t), df) if df > 0 else np.full(2, np.nan)
        slope = {"slope": mean[0], "slope_low": mean[0] - wide, "slope_high": mean[0] + wide, "t": t[0]}
        return about | {"n": n, **slope, "df": df, "p": p[0], "quadratic": mean[1], "p_quadratic": p[1]}

    def step(self, y: np.ndarray) -> dict[str, float]:
        """The columns of `dose` from `change_after` on, for `y` (points,)."""
        centred = self.centred(y)
        steps = centred @ self.splits  # (splits,)
        gain = steps**2
        spread = np.sqrt(((centred**2).sum() - gain).clip(min=0) / self.free)  # around a step at each split
        expected = (self.splits * steps).T @ self.splits  # (split of the step, split looked at)
        gains = (spread[:, None] * self.noise[:, None, :] + expected) ** 2
        lead = gains.max(axis=2) - np.einsum("djj->dj", gains)  # (draws, splits)
        p = p_value(lead >= gain.max() - gain - 1e-12)
        inside = np.flatnonzero(p > 1 - LEVEL)
        best = int(gain.argmax())
        ends = [self.levels[i] for i in (best, best + 1, inside.min(), inside.max() + 1)]
        names = ("change_after", "change_before", "ci_low", "ci_high")
        change = {"change": float(steps[best]) / self.lengths[best], "p_change": self._p_change(y, centred, gain)}
        return dict(zip(names, map(float, ends), strict=True)) | change

    def _p_change(self, y: np.ndarray, centred: np.ndarray, gain: np.ndarray) -> float:
        """p of as great a step at any split."""
        if self.whole is None:
            beyond = ((centred[self.orders] @ self.splits) ** 2).max(axis=1) >= gain.max() * (1 - 1e-12)
            return float(p_value(beyond))
        if len(self.whole) < 2:
            return float("nan")
        curves = y[self.whole] - y[self.whole].mean(axis=1, keepdims=True)
        permuted = np.take_along_axis(np.broadcast_to(curves, self.permuted.shape), self.permuted, axis=2)
        observed = _largest_t(curves[None])
        return float(p_value(_largest_t(permuted) >= observed * (1 - 1e-9)))


def _largest_t(curves: np.ndarray) -> np.ndarray:
    """The largest |t| over seeds of a step at any split, of `curves` (draws, seeds, levels), (draws,)."""
    levels, seeds = curves.shape[2], curves.shape[1]
    below = curves.cumsum(axis=2)[..., :-1]  # (draws, seeds, splits); the curves sum to 0
    sizes = np.arange(1, levels)
    steps = -below * (1 / sizes + 1 / (levels - sizes))
    error = steps.std(axis=1, ddof=1) / np.sqrt(seeds)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nanmax(np.abs(steps.mean(axis=1)) / error, axis=1)
