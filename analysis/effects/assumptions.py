"""Does the data bear out what the F test assumes: normal residuals of equal spread in all cells?

Normality: Shapiro & Wilk's test (1965) of the model's residuals; above 5,000 runs, beyond which its p is not accurate,
D'Agostino & Pearson's K² (1973). Equal spread: Brown & Forsythe's test (1974), Levene's around the median, of the
residuals between cells (combinations of levels, the seed aside). With few seeds neither has much power: that an
assumption was not refuted does not say that it holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.model.fits import fit_all

COLUMNS = [
    *["metric", "n", "normality_test", "normality", "p_normality", "smallest_cell"],
    *["spread", "spread_df1", "spread_df2", "p_spread", "fails"],
]
ALPHA = 0.05
SHAPIRO_UP_TO = 5000  # runs


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


def assumptions(runs: pd.DataFrame, factors: Sequence[str], metrics: Sequence[str], order: int = 2) -> pd.DataFrame:
    """A row for each of `metrics`, as `anova` takes them; `fails` names what is refuted at 0.05 (normality,
    spread). Columns: COLUMNS."""
    tables = []
    for fit in fit_all(runs, factors, metrics, order=order).found:
        n = len(fit.residuals)
        if n <= SHAPIRO_UP_TO:
            test, (statistic, p) = "Shapiro-Wilk", stats.shapiro(fit.residuals, axis=0)
        else:
            test, (statistic, p) = "D'Agostino-Pearson", stats.normaltest(fit.residuals, axis=0)
        cells = fit.design.cells()
        f, df1, df2 = brown_forsythe(fit.residuals, cells)
        table = pd.DataFrame({"metric": fit.metrics, "normality": statistic, "p_normality": p, "spread": f})
        table["p_spread"] = stats.f.sf(f, df1, df2)
        table[["n", "normality_test", "smallest_cell", "spread_df1", "spread_df2"]] = [
            *[n, test, np.bincount(cells).min(), df1, df2]
        ]
        refuted = (("normality", p), ("spread", table["p_spread"].to_numpy()))
        table["fails"] = [" and ".join(name for name, each in refuted if each[i] < ALPHA) for i in range(len(table))]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)[COLUMNS] if tables else pd.DataFrame(columns=COLUMNS)
