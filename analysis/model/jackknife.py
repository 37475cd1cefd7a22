"""Intervals from the jackknife: leave out a group of items each time, and see how far the estimate moves."""

from __future__ import annotations

import numpy as np
from scipy import stats

from creditlab.analysis.names import LEVEL


def jackknife(parts: np.ndarray) -> np.ndarray:
    """The standard error of an estimate from those that leave out a group of items each, (groups, …)."""
    return np.sqrt((len(parts) - 1) * parts.var(axis=0))


def reach(parts: np.ndarray, items: int) -> np.ndarray:
    """Half an interval of a statistic of pairs of `items`, from estimates that leave out a group each, (groups, …)."""
    return stats.t.ppf((1 + LEVEL) / 2, len(parts) - 1) * np.sqrt((items - 2) / items) * jackknife(parts)
