"""Does the data bear out what the F test assumes: normal residuals of equal spread in all cells?

Normality: Shapiro & Wilk's test (1965) of the model's residuals; above 5,000 runs, beyond which its p is not accurate,
D'Agostino & Pearson's K² (1973). Equal spread: Brown & Forsythe's test (1974), Levene's around the median, of the
residuals between cells (combinations of levels, the seed aside). With few seeds neither has much power: that an
assumption was not rejected does not say that it holds.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.model.fits import Fits
from creditlab.analysis.names import ALPHA
from creditlab.analysis.table import stacked, statistic

SHAPIRO_UP_TO = 5000  # runs
LEAST_DF = 3  # of the residual: with one, residuals of normal values look as far from normal as any
TOO_FEW = "too few runs to tell"


def brown_forsythe(values: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, int, int]:
    """F of each column of `values` (runs, metrics) with its degrees of freedom; `cells` (runs,) numbers 0, 1, ….

    NaN where no cell has three runs: in a cell of two both lie equally far from their median.
    """
    counts = np.bincount(cells)
    k, n = len(counts), len(cells)
    if k < 2 or counts.max() < 3:
        return np.full(values.shape[1], np.nan), k - 1, n - k
    order = np.argsort(cells, kind="stable")
    groups = np.split(values[order], np.cumsum(counts)[:-1])
    away = [np.abs(group - np.median(group, axis=0)) for group in groups]
    means = np.stack([each.mean(axis=0) for each in away])
    grand = np.concatenate(away).mean(axis=0)
    between = (counts[:, None] * (means - grand) ** 2).sum(axis=0) / (k - 1)
    within = sum(((each - mean) ** 2).sum(axis=0) for each, mean in zip(away, means, strict=True)) / (n - k)
    return np.divide(between, within, out=np.full_like(between, np.nan), where=within > 0), k - 1, n - k


@statistic(
    "Assumptions",
    "One row per metric: are its residuals normal, and equally spread over cells?",
    {
        "metric": "name of the metric",
        "n": "runs",
        "normality_test": f"test of normality; *{TOO_FEW}* with fewer than {LEAST_DF} residual degrees of freedom",
        "normality": "its statistic",
        "p_normality": "its p",
        "smallest_cell": "runs in the smallest cell",
        "spread": "F of Brown & Forsythe's test of equal spread",
        "spread_df1": "its degrees of freedom, between cells",
        "spread_df2": "its degrees of freedom, within cells",
        "p_spread": "its p",
        "fails": "the assumptions that are rejected at .05",
    },
    place=70,
)
def assumptions(fits: Fits) -> pd.DataFrame:
    """Tests of what the F test assumes, on the residuals of each metric."""
    tables = []
    for fit in fits:
        n, none = len(fit.residuals), np.full(len(fit.metrics), np.nan)
        if fit.residual_df < LEAST_DF:
            test, (score, p) = TOO_FEW, (none, none)
        elif n <= SHAPIRO_UP_TO:
            test, (score, p) = "Shapiro-Wilk", stats.shapiro(fit.residuals, axis=0)
        else:
            test, (score, p) = "D'Agostino-Pearson", stats.normaltest(fit.residuals, axis=0)
        cells = np.unique(fit.design.cells(), return_inverse=True)[1]  # those that have runs
        f, df1, df2 = brown_forsythe(fit.residuals, cells)
        table = pd.DataFrame({"metric": fit.metrics, "normality": score, "p_normality": p, "spread": f})
        table["p_spread"] = stats.f.sf(f, df1, df2)
        table[["n", "normality_test", "smallest_cell", "spread_df1", "spread_df2"]] = [
            *[n, test, np.bincount(cells).min(), df1, df2]
        ]
        rejected = (("normality", p), ("spread", table["p_spread"].to_numpy()))
        table["fails"] = [" and ".join(name for name, each in rejected if each[i] < ALPHA) for i in range(len(table))]
        tables.append(table)
    return stacked(tables, list(assumptions.columns))
