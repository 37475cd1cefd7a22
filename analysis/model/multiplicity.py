"""Many metrics, many tests: adjusted p within named families, and how many of a family's metrics are independent.

A family is all tests of one term over the metrics of one scope: *behaviour* (test, validation, train), or what stands
before the first slash of an encoding metric's name (weights, changes, activations, signals, …).

Holm's step-down (1979) bounds the chance of any false positive; Benjamini and Hochberg's step-up (1995) the expected
share of false ones among the positives. The *effective* number of metrics is that of the eigenvalues λ of their
correlation matrix, of M metrics (Li & Ji 2005, Heredity 95: Σ 1[λ ≥ 1] + (λ − ⌊λ⌋); Nyholt 2004, Am. J. Hum. Genet. 74:
1 + (M − 1)(1 − Var λ / M)), taken of residuals, so that what the factors do to all metrics alike does not count.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from creditlab.analysis.names import BEHAVIOUR

COLUMNS = ["metric", "term", "family", "size", "effective_li_ji", "effective_nyholt", "p", "p_holm", "p_bh"]


def holm(p: np.ndarray) -> np.ndarray:
    """p adjusted by Holm's step-down (1979). That of statsmodels collects garbage at each call, 0.2 s a family."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return stepped[np.argsort(order, kind="stable")]


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """p adjusted by Benjamini and Hochberg's step-up (1995)."""
    order = np.argsort(-p, kind="stable")
    stepped = np.minimum.accumulate(p[order] * len(p) / np.arange(len(p), 0, -1)).clip(max=1)
    return stepped[np.argsort(order, kind="stable")]


def family(metric: str) -> str:
    """The name of the family of a metric."""
    return "behaviour" if metric.startswith(BEHAVIOUR) else metric.partition("/")[0]


def effective(values: np.ndarray) -> tuple[float, float]:
    """The effective number of the columns of `values` (runs, metrics) that vary, by Li & Ji and by Nyholt, each in
    [1, metrics]; NaN where fewer than two rows or no column does."""
    values = values[np.isfinite(values).all(axis=1)]
    if len(values):
        values = values[:, values.std(axis=0) > 0]
    if len(values) < 2 or not values.shape[1]:
        return float("nan"), float("nan")
    m = values.shape[1]
    correlation = np.atleast_2d(np.corrcoef(values, rowvar=False))
    eigenvalues = np.abs(np.linalg.eigvalsh(correlation)).round(9)  # 2.9999999999 is 3
    li_ji = ((eigenvalues >= 1) + eigenvalues % 1).sum()
    nyholt = 1 + (m - 1) * (1 - eigenvalues.var(ddof=1) / m) if m > 1 else 1
    return float(min(li_ji, m)), float(nyholt)


def multiplicity(table: pd.DataFrame, residuals: pd.DataFrame) -> pd.DataFrame:
    """Adjusted p of the tests in `table` (metric, term, p: of `anova`), within families. Columns: COLUMNS.

    `residuals` has a column a metric, a row a run (`fits.residuals`).
    """
    tests = table.loc[table["p"].notna(), ["metric", "term", "p"]].copy()
    tests["family"] = [family(metric) for metric in tests["metric"]]
    numbers = {
        each: effective(residuals[list(dict.fromkeys(members))].to_numpy())
        for each, members in tests.groupby("family")["metric"]
    }
    tests["effective_li_ji"] = [numbers[each][0] for each in tests["family"]]
    tests["effective_nyholt"] = [numbers[each][1] for each in tests["family"]]
    groups = tests.groupby(["term", "family"], sort=False)["p"]
    tests["size"] = groups.transform("size")
    tests["p_holm"] = groups.transform(lambda p: holm(p.to_numpy()))
    tests["p_bh"] = groups.transform(lambda p: benjamini_hochberg(p.to_numpy()))
    return tests.reset_index(drop=True)[COLUMNS]
