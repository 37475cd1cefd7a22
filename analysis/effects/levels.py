"""Each metric at each level of each factor: what its runs have, before any test."""

from __future__ import annotations

import pandas as pd

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.names import labels
from creditlab.analysis.table import stacked, statistic


@statistic(
    "Metrics by level",
    "One row per metric, factor and level, over the complete runs that have a finite value.",
    {
        "metric": "name of the metric",
        "factor": "the factor",
        "level": "its level",
        "n_runs": "runs",
        "mean": ("mean", "the metric's"),
        "sd": ("standard deviation", "the metric's"),
        "lowest": ("lowest value", "the metric's"),
        "highest": ("highest value", "the metric's"),
    },
    place=30,
)
def levels(sweep: Sweep) -> pd.DataFrame:
    """Number, mean, standard deviation and range of each metric by level."""
    complete, metrics = sweep.complete, sweep.outcomes
    parts = []
    for factor in sweep.factors:
        groups = complete[metrics].groupby(labels(complete[[factor]])[factor])
        statistics = {
            "n_runs": groups.count(),
            "mean": groups.mean(),
            "sd": groups.std(),
            "lowest": groups.min(),
            "highest": groups.max(),
        }
        long = (frame.melt(ignore_index=False, var_name="metric", value_name=k) for k, frame in statistics.items())
        keyed = [table.rename_axis("level").set_index("metric", append=True) for table in long]
        parts.append(pd.concat(keyed, axis=1).reset_index().assign(factor=factor))
    place = {metric: i for i, metric in enumerate(metrics)}
    table = stacked(parts, list(levels.columns))
    return table.sort_values("metric", key=lambda m: m.map(place), kind="stable", ignore_index=True)
