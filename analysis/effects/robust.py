"""The effects again, by tests that do without equal spread or without normal residuals.

*Welch-James* (Johansen 1980, Biometrika 67; for one factor it is Welch's ANOVA of 1951): with cell means m, their
variances S = diag(s²/n) and C the contrasts of a term between cells,

    T = (C m)' (C S C')⁻¹ (C m)    M = S C' (C S C')⁻¹ C    A = Σ_j M_jj² / (n_j − 1)
    F = T / (df + 2A − 6A/(df + 2)),  df1 = df,  df2 = df (df + 2) / (3A)

It needs two runs in each cell, every cell filled, and weighs cells alike (as type III does). It knows no block.

*Repeated measures*, where seeds are a block: with z_s the orthonormal contrasts of a term between the cells of seed s,
of n seeds that have run every cell, z their mean and V their covariance,

    F = n |z|² / tr V,  df1 = ε df,  df2 = ε df (n − 1)

a term against its own interaction with the seed, so that nothing is assumed of the spread of cells nor of what a seed
does to them. ε is the mean (Stevens 2002) of g = (tr V)² / (df tr V²) (Greenhouse & Geisser 1959, too cautious with
few seeds) and min(1, (n df g − 2) / (df (n − 1 − df g))) (Huynh & Feldt 1976, not cautious enough). Where fewer than
two seeds have run every cell, Welch-James stands; it leaves the seed out and is cautious for it.

*Permutation* (Freedman & Lane 1983, J. Bus. Econ. Stat. 1): permute what all other terms leave of the metric, within
seeds where they are a block, and count how often F is as large. It needs exchangeable residuals, so equal spread, not
normal ones, and is for up to 500 runs: with more the F test has no need of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.effects.assumptions import assumptions
from creditlab.analysis.model.fits import ROUNDING, Fit, Fits, directions, name_of
from creditlab.analysis.model.permutation import orders, p_value
from creditlab.analysis.table import stacked, statistic

PERMUTATIONS = 999
PERMUTE_UP_TO = 500  # runs
AT_ONCE = 2_000_000  # numbers that are permuted at a time


def repeated_measures(fit: Fit) -> Iterator[pd.DataFrame]:
    """A table for each term but the seed; none where seeds are no block or fewer than two have run every cell."""
    design = fit.design
    if not design.paired:
        return
    seed, cell = design.seeds, design.cells()
    shape = (seed.max() + 1, math.prod(design.cell_shape))
    counts, sums = np.zeros((*shape, 1)), np.zeros((*shape, fit.values.shape[1]))
    np.add.at(counts, (seed, cell), 1)
    np.add.at(sums, (seed, cell), fit.values)
    whole = (counts > 0).all(axis=(1, 2))
    n = int(whole.sum())
    if n < 2:
        return
    means = sums[whole] / counts[whole]  # (seeds, cells, metrics)
    names, least = np.array(fit.metrics, dtype=object), (ROUNDING * np.abs(means).max(axis=(0, 1))) ** 2
    for term in design.effects:
        q = np.linalg.qr(design.contrasts(term).T)[0]  # (cells, df)
        df = q.shape[1]
        z = np.einsum("scm,cd->msd", means, q)
        away = z - z.mean(axis=1, keepdims=True)
        v = np.matmul(away.transpose(0, 2, 1), away) / (n - 1)
        trace, square = np.trace(v, axis1=1, axis2=2), (v**2).sum(axis=(1, 2))
        usable = trace > least  # where all seeds have the same effect there is nothing to test against
        trace, square = trace[usable], square[usable]
        f = n * (z[usable].mean(axis=1) ** 2).sum(axis=1) / trace
        low = trace**2 / (df * square)
        free = df * (n - 1 - df * low)
        high = np.divide(n * df * low - 2, free, out=low.copy(), where=free > 1e-9).clip(low, 1)
        df1 = df * (low + high) / 2
        columns = {"metric": names[usable], "term": name_of(term), "F": f, "df1": df1, "df2": df1 * (n - 1)}
        yield pd.DataFrame(columns).assign(p=stats.f.sf(f, df1, df1 * (n - 1)), test="repeated measures")


def welch_james(fit: Fit) -> Iterator[pd.DataFrame]:
    """A table for each term but the seed; none where cells are too small."""
    moments = fit.cell_moments
    if moments is None:
        return
    counts, means, variances = moments
    usable = (variances > 0).all(axis=0)  # a metric that is constant in a cell has no weight there
    metrics = np.array(fit.metrics, dtype=object)[usable]
    s = (variances / counts[:, None])[:, usable].T  # (metrics, cells)
    for term in fit.design.effects:
        c = fit.design.contrasts(term)
        effect = (c @ means[:, usable]).T  # (metrics, df)
        inverse = np.linalg.inv(np.einsum("ij,mj,kj->mik", c, s, c))
        t = np.einsum("mi,mik,mk->m", effect, inverse, effect)
        share = s * np.einsum("ij,mik,kj->mj", c, inverse, c)  # the diagonal of M
        a = (share**2 / (counts - 1)).sum(axis=1)
        df = len(c)
        f, df2 = t / (df + 2 * a - 6 * a / (df + 2)), df * (df + 2) / (3 * a)
        p = stats.f.sf(f, df, df2)
        yield pd.DataFrame({"metric": metrics, "term": name_of(term), "F": f, "df1": df, "df2": df2, "p": p}).assign(
            test="Welch-James"
        )


def freedman_lane(fit: Fit) -> Iterator[pd.DataFrame]:
    """A table for each term but the seed, of type II; none where there are too many runs."""
    design, runs = fit.design, len(fit.values)
    if runs > PERMUTE_UP_TO:
        return
    q, r = design.factorised
    y = design.within(fit.values)
    draws = orders(design.seeds, PERMUTATIONS, np.random.default_rng(0))
    at_once = max(1, AT_ONCE // y.size)
    for term in design.effects:
        effect = q @ directions(design, term, "II")
        rest = [column for other in design.effects if other != term for column in design.columns_of[other]]
        others = q @ np.linalg.qr(r[:, rest])[0]
        free = y - others @ (others.T @ y)

        def f(values: np.ndarray, effect: np.ndarray = effect) -> np.ndarray:
            """F of `values` (…, runs, metrics)."""
            explained = (np.matmul(effect.T, values) ** 2).sum(axis=-2)
            left = (values**2).sum(axis=-2) - (np.matmul(q.T, values) ** 2).sum(axis=-2)
            return explained / effect.shape[1] / (left / design.residual_df)

        observed = f(y)
        drawn = [f(free[draws[start : start + at_once]]) for start in range(0, PERMUTATIONS, at_once)]
        others_f = np.concatenate(drawn)  # (draws, metrics)
        largest = np.maximum(others_f.max(axis=0), observed)
        p, least = (p_value(others_f >= value * (1 - 1e-9)) for value in (observed, largest))
        table = pd.DataFrame({"metric": fit.metrics, "F": observed, "p": p, "least_p": least})
        yield table.assign(term=name_of(term), test="permutation", df1=effect.shape[1], df2=design.residual_df)


@statistic(
    "Where assumptions fail",
    "One row per metric, term and test that does without the assumptions; empty where no assumption is rejected.",
    {
        "metric": "name of the metric",
        "term": "factor or interaction",
        "test": "repeated measures, Welch-James or permutation",
        "F": "its F",
        "df1": "degrees of freedom of the effect",
        "df2": "degrees of freedom of the error",
        "p": "its p, not adjusted",
        "least_p": "the least p that a permutation test of these runs can give: above .05 it cannot show anything",
    },
    place=80,
)
def robust(fits: Fits, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """The tests of `metrics` that the runs can bear; by default of those with an assumption that is rejected."""
    if metrics is None:
        tested = assumptions(fits).frame
        metrics = list(tested.loc[tested["fails"] != "", "metric"])
    tables: list[pd.DataFrame] = []
    for fit in filter(None, (fit.of(metrics) for fit in fits)):
        tables += list(repeated_measures(fit)) or list(welch_james(fit))
        tables += freedman_lane(fit)
    return stacked([table.reindex(columns=list(robust.columns)) for table in tables], list(robust.columns))
