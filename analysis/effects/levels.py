"""Each metric at each level of each factor: its mean on the model, with an interval, and what its runs have."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.model.design import LEAST_SEEDS
from creditlab.analysis.model.fits import Fit, Fits
from creditlab.analysis.names import LEVEL, labels
from creditlab.analysis.table import stacked, statistic


@statistic(
    "Metrics by level",
    "One row per metric, factor and level, over the complete runs that have a finite value.",
    {
        "metric": "name of the metric",
        "factor": "the factor",
        "level": "its level",
        "n_runs": "runs",
        "mean": ("marginal mean on the model; the median where the scale is log or logit", "the metric's"),
        "ci_low": ("lower end of its interval of 95 % over seeds", "the metric's"),
        "ci_high": ("upper end of its interval of 95 % over seeds", "the metric's"),
        "sd": ("standard deviation of the runs", "the metric's"),
        "lowest": ("lowest value", "the metric's"),
        "highest": ("highest value", "the metric's"),
    },
    place=30,
)
def levels(fits: Fits) -> pd.DataFrame:
    """Number, marginal mean, spread and range of each metric by level.

    A marginal mean gives each combination of the other factors the same weight, however many runs it has. It is empty
    for a metric that cannot be fitted, and the interval where a level rests on fewer than three seeds.
    """
    sweep = fits.sweep
    complete, metrics = sweep.complete, sweep.comparable
    parts = []
    for factor in sweep.factors:
        groups = complete[metrics].groupby(labels(complete[[factor]])[factor])
        statistics = {
            "n_runs": groups.count(),
            "sd": groups.std(),
            "lowest": groups.min(),
            "highest": groups.max(),
        }
        long = (frame.melt(ignore_index=False, var_name="metric", value_name=k) for k, frame in statistics.items())
        keyed = [table.rename_axis("level").set_index("metric", append=True) for table in long]
        parts.append(pd.concat(keyed, axis=1).reset_index().assign(factor=factor))
    table = stacked(parts, [c for c in levels.columns if c not in ("mean", "ci_low", "ci_high")])
    means = stacked([_means(fit) for fit in fits], ["metric", "factor", "level", "mean", "ci_low", "ci_high"])
    table = table.merge(means, on=["metric", "factor", "level"], how="left")
    place = {metric: i for i, metric in enumerate(metrics)}
    table = table.sort_values("metric", key=lambda m: m.map(place), kind="stable", ignore_index=True)
    return table[list(levels.columns)]


def _means(fit: Fit) -> pd.DataFrame:
    """Marginal means with their intervals, of each factor that the model has."""
    design, tables = fit.design, []
    for factor in (name for name in design.varying if (name,) in design.terms):
        for number, level in enumerate(design.levels[design.varying.index(factor)]):
            mean = fit.solved.estimate(design.level_weights((factor,), (number,)))
            half = stats.t.ppf((1 + LEVEL) / 2, mean.df) * mean.error
            half = half if mean.seeds >= LEAST_SEEDS else np.full_like(half, np.nan)
            ends = {"mean": mean.value, "ci_low": mean.value - half, "ci_high": mean.value + half}
            columns = {
                key: [float(scale.back(value)) for scale, value in zip(fit.scales, values, strict=True)]
                for key, values in ends.items()
            }
            tables.append(pd.DataFrame({"metric": fit.metrics, "factor": factor, "level": level, **columns}))
    return stacked(tables, ["metric", "factor", "level", "mean", "ci_low", "ci_high"])
