"""How large an effect is: intervals of the shares of variance.

    share = Λ / (Λ + Λ_others + nσ²)    partial share = Λ / (Λ + nσ²)

Λ is an effect's sum of squares without noise, n the number of runs. η² estimates the share and overstates it, ω² hardly
does: one interval serves both. It comes from a parametric bootstrap of pivots (a generalised confidence interval;
Weerahandi 1993, J. Am. Stat. Assoc. 88): draw SS_residual/σ² and the noise in the direction of an effect and across it,
and solve for σ² and Λ. The spread of SS_residual/σ² is widened by the kurtosis of the residuals. Resampling runs or
seeds would overstate a share twice, for each resample adds noise to noise.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from creditlab.analysis.names import LEVEL

DRAWS = 2000


def intervals(
    sums: np.ndarray, df: np.ndarray, residual: np.ndarray, residual_df: int, total: np.ndarray, kurtosis: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the intervals of the population's share and partial share, each (2, terms, metrics).

    `sums` is (terms, metrics) and `df` (terms,); `residual`, `total` (sums of squares) and `kurtosis` (excess of
    the residuals, ≥ 0) are (metrics,). Runs are one more than all degrees of freedom.
    """
    generator = np.random.default_rng(0)
    model_df = int(df.sum())
    n = 1 + model_df + residual_df
    middles = generator.permutation((np.arange(DRAWS) + 0.5) / DRAWS)[:, None]  # of the residual's distribution
    # A sum of squared residuals has the variance 2 df + kurtosis df²/n: that of a χ² with fewer degrees of freedom.
    like = residual_df / (1 + kurtosis * residual_df / (2 * n))
    variance = residual / (special.gammaincinv(like / 2, middles) * 2 * residual_df / like)  # (draws, metrics)

    def without_noise(sum_sq: np.ndarray, df: int) -> np.ndarray:
        """Draws of Λ from SS = |√Λ + noise along it|² + |noise across it|²."""
        along = generator.normal(size=(DRAWS, 1))
        across = generator.chisquare(df - 1, size=(DRAWS, 1)) if df > 1 else 0.0
        left = sum_sq - variance * across
        root = np.sqrt(left.clip(min=0)) - np.sqrt(variance) * along
        return np.where(left > 0, root, 0).clip(min=0) ** 2

    shares, partial = [], []
    for sum_sq, term_df in zip(sums, df, strict=True):
        effect = without_noise(sum_sq, int(term_df))
        others = (total - residual - sum_sq).clip(min=0)
        rest = without_noise(others, model_df - int(term_df)) if model_df > term_df else 0.0
        ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        shares.append(np.quantile(effect / (effect + rest + n * variance), ends, axis=0))
        partial.append(np.quantile(effect / (effect + n * variance), ends, axis=0))
    return np.stack(shares, axis=1), np.stack(partial, axis=1)
