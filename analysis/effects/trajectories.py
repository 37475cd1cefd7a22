"""Metrics during training: mean over seeds (over the runs of each first) with Student's band, by level and step."""

from __future__ import annotations

import pandas as pd

from creditlab.analysis.data.histories import histories, outcomes
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.model.intervals import half_width
from creditlab.analysis.names import SEED, labels
from creditlab.analysis.table import stacked, statistic


@statistic(
    "Trajectories",
    "One row per factor, level, metric and step.",
    {
        "factor": "the factor",
        "level": "its level",
        "metric": "name of the metric",
        "step": ("step of training", "updates"),
        "n": "seeds",
        "mean": ("mean over seeds", "the metric's"),
        "low": ("lower end of Student's interval; empty for one seed", "the metric's"),
        "high": ("upper end of Student's interval; empty for one seed", "the metric's"),
    },
    place=190,
)
def trajectories(sweep: Sweep) -> pd.DataFrame:
    """Mean and band of every metric in the histories, by level of each factor and step."""
    return stacked([_of_factor(sweep, factor) for factor in sweep.factors], list(trajectories.columns))


def _of_factor(sweep: Sweep, factor: str) -> pd.DataFrame:
    history = histories(sweep)
    words = labels(history[[factor, SEED]])
    metrics = outcomes(history, sweep.factors)
    long = history[["step", *metrics]].assign(level=words[factor], seed=words[SEED])
    long = long.melt(["level", "seed", "step"], var_name="metric", value_name="value").dropna(subset="value")
    seeds = long.groupby(["level", "metric", "step", "seed"], sort=False)["value"].mean()
    table = seeds.groupby(["level", "metric", "step"]).agg(n="count", mean="mean", spread="std").reset_index()
    half = half_width(table["spread"], table["n"])
    return table.assign(factor=factor, low=table["mean"] - half, high=table["mean"] + half)
