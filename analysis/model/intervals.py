"""Student's interval of a mean over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.names import LEVEL, SEED


def half_width(sd: Any, n: Any, level: float = LEVEL) -> Any:
    """Half the interval of `level` of a mean of `n` independent values with standard deviation `sd`; NaN of one value.

    Elementwise, over numbers, arrays or series of one shape.
    """
    return stats.t.ppf((1 + level) / 2, n - 1) * (sd / np.sqrt(n))


def band(runs: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """The mean over seeds of `value` and the ends of Student's 95 % interval, for each combination of `by` in its
    order; a seed counts by the mean over all its runs (the levels of other factors). One seed has no interval (NaN).
    """
    seeds = runs.dropna(subset=[value]).groupby([*by, SEED], sort=False)[value].mean().reset_index()
    table = seeds.groupby(list(by), sort=False)[value].agg(n="size", mean="mean", spread="std").reset_index()
    half = half_width(table["spread"], table["n"])
    return table.drop(columns="spread").assign(low=table["mean"] - half, high=table["mean"] + half)
