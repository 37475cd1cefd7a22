"""What goes with what: metrics with accuracy across runs, and metrics over training.

*Association*: Pearson's r of a metric with an outcome, by Fisher's z for the interval and Student's t for p, in scopes
that answer different questions. Across all runs r is large as soon as algorithms differ in both, which says nothing of
the runs of one algorithm. *Within* takes each level's means away first, and pays a degree of freedom for each;
*between* is of the means of levels, of which there are few. Runs that share a seed or another factor are not
independent: read the interval across all runs as a lower bound of its width.

*Trajectories*: mean over seeds (over the runs of each first) with Student's band, by level and step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.design import SEED, labels
from analysis.effects import LEVEL
from analysis.histories import outcomes

COLUMNS = ["factor", "outcome", "metric", "scope", "n", "r", "ci_low", "ci_high", "p", "spearman"]
TRAJECTORIES = ["factor", "level", "metric", "step", "n", "mean", "low", "high"]


def correlation(x: np.ndarray, y: np.ndarray, lost: int = 0) -> tuple[float, float, float, float]:
    """r of `x` and `y` (n,), the ends of its interval, p; `lost` is how many means were taken away beside the mean.

    NaN where there are too few points or one does not vary.
    """
    free = len(x) - lost
    x, y = x - x.mean(), y - y.mean()
    length = np.sqrt((x**2).sum() * (y**2).sum())
    if free < 3 or not length > 1e-12 * max(np.abs(x).max(), np.abs(y).max(), 1e-300):
        return (float("nan"),) * 4
    r = float(np.clip((x * y).sum() / length, -1, 1))
    t = r * np.sqrt((free - 2) / max(1 - r**2, 1e-300))
    wide = stats.norm.ppf((1 + LEVEL) / 2) / np.sqrt(free - 3) if free > 3 else np.inf
    low, high = np.tanh(np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15)) + np.array([-wide, wide]))
    return r, float(low), float(high), float(2 * stats.t.sf(abs(t), free - 2))


def association(runs: pd.DataFrame, factor: str, outcome: str, metrics: Sequence[str]) -> pd.DataFrame:
    """r of each of `metrics` with `outcome` over `runs` (a row a run): across all, within the levels of `factor`
    (pooled, and of each), and between them. Columns: COLUMNS."""
    runs = runs[runs["status"] == "complete"] if "status" in runs else runs
    words = labels(runs[[factor]])[factor]
    rows = []
    for metric in metrics:
        kept = np.isfinite(runs[metric].to_numpy(float)) & np.isfinite(runs[outcome].to_numpy(float))
        data = pd.DataFrame({"level": words, "x": runs[metric], "y": runs[outcome]})[kept].astype(
            {"x": float, "y": float}
        )
        means = data.groupby("level")[["x", "y"]].mean()
        own = data[["x", "y"]] - means.loc[data["level"]].to_numpy()
        scopes = [("across all runs", data, 0), (f"within {factor}", own, max(len(means) - 1, 0))]
        scopes += [(f"between {factor}", means, 0)]
        scopes += [(f"within {factor}={level}", each, 0) for level, each in data.groupby("level")]
        for scope, points, lost in scopes:
            x, y = points["x"].to_numpy(), points["y"].to_numpy()
            if not len(x):
                continue
            found = correlation(x, y, lost)
            ranks = correlation(stats.rankdata(x), stats.rankdata(y))[0]
            rows.append((factor, outcome, metric, scope, len(x), *found, ranks))
    return pd.DataFrame(rows, columns=COLUMNS)


def trajectories(history: pd.DataFrame, factors: Sequence[str], factor: str) -> pd.DataFrame:
    """Of `histories`, mean and band of every metric by level of `factor` and step. Columns: TRAJECTORIES.

    One seed has a mean and no band (NaN).
    """
    words = labels(history[[factor, SEED]])
    metrics = outcomes(history, list(factors))
    long = history[["step", *metrics]].assign(level=words[factor], seed=words[SEED])
    long = long.melt(["level", "seed", "step"], var_name="metric", value_name="value").dropna(subset="value")
    seeds = long.groupby(["level", "metric", "step", "seed"], sort=False)["value"].mean()
    table = seeds.groupby(["level", "metric", "step"]).agg(n="count", mean="mean", spread="std").reset_index()
    wide = stats.t.ppf((1 + LEVEL) / 2, table["n"] - 1) * table["spread"] / np.sqrt(table["n"])
    return table.assign(factor=factor, low=table["mean"] - wide, high=table["mean"] + wide)[TRAJECTORIES]
