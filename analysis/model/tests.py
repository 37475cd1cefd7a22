"""What a model says of an effect or of a difference, for all metrics at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Test:
    """An F test. Arrays are (metrics,)."""

    f: np.ndarray
    df1: np.ndarray  # of the effect, times epsilon
    df2: np.ndarray  # of what it is tested against, times epsilon
    epsilon: np.ndarray  # how far levels differ in spread: 1 where they do not
    p: np.ndarray  # NaN where there are too few seeds for a verdict
    df: int
    error_df: np.ndarray | float
    sum_sq: np.ndarray  # NaN where the design is not complete
    error_sq: np.ndarray  # the sum of squares that it is tested against
    units: int  # the means over the levels of the effect that it rests on: seeds × levels

    @property
    def partial_eta_sq(self) -> np.ndarray:
        """Share of what the effect and its error have together; overstates the share, most of all with few seeds."""
        return self.df * self.f / (self.df * self.f + self.error_df)

    @property
    def omega_sq(self) -> np.ndarray:
        """Partial ω²: the same corrected for chance; negative where chance explains more than the effect."""
        excess = self.df * (self.f - 1)
        return excess / (excess + self.units)


@dataclass(frozen=True)
class Estimate:
    """A weighted sum of the means of cells. Arrays are (metrics,)."""

    value: np.ndarray
    error: np.ndarray  # its standard error
    df: np.ndarray
    seeds: int  # that it rests on
