"""Which levels of a factor differ, and by how much: all pairs, with intervals, by three methods.

*Tukey* (with Kramer's form for unequal numbers): difference of marginal means on the model of the analysis of variance,
its error from the residual mean square; p and interval hold for all pairs of a factor at once. *Games-Howell* (1976):
the same without equal spread, each mean with the variance of its own cells and Satterthwaite's degrees of freedom; it
needs two runs in each cell, and seeds that are no block. *Paired*: where levels share seeds, the mean over seeds of
differences between runs that differ in this factor alone, with Student's t over seeds: nothing is assumed of the
spread, and what a seed does to both levels cancels. Its interval is for one pair; its p_adjusted is Holm's over the
pairs of a factor. *Paired, all* stands in for Games-Howell where seeds are a block: the same, with Bonferroni's
interval and p, which hold for all pairs of a factor at once (each pair has a spread of its own, for which the
studentised range is too short: Maxwell 1980, J. Educ. Stat. 5).

The studentised range of k normal means, w its range and s² an independent χ²_ν/ν:
    P(q) = ∫ f_ν(s) W(qs) ds    W(w) = k ∫ φ(z) [Φ(z) − Φ(z − w)]^(k−1) dz
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import special, stats
from scipy.interpolate import CubicSpline

from creditlab.analysis.effects.robust import cell_moments
from creditlab.analysis.model.fits import Fit, fit_all
from creditlab.analysis.model.multiplicity import holm
from creditlab.analysis.names import LEVEL, SEED, labels

COLUMNS = [
    *["metric", "factor", "level_a", "level_b", "method", "difference", "ci_low", "ci_high"],
    *["t", "df", "p", "p_adjusted", "n_a", "n_b"],
]


@cache
def _range_of_normals(k: int) -> CubicSpline:
    """1 − W(w) of k normals."""
    z, weight = np.polynomial.legendre.leggauss(200)
    z, weight = 9 * z, 9 * weight
    w = np.linspace(0, 60, 1501)
    # As 1 = k ∫ φ Φ^(k−1), the difference of the integrands keeps the digits that 1 − W would lose.
    below = special.ndtr(z)[None, :] ** (k - 1)
    inside = (special.ndtr(z)[None, :] - special.ndtr(z[None, :] - w[:, None])) ** (k - 1)
    density = k * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    beyond = ((below - inside) * density * weight).sum(axis=1)
    return CubicSpline(w, beyond)


def range_sf(q: np.ndarray, k: int, df: np.ndarray) -> np.ndarray:
    """P(Q > q) of the studentised range of k means, elementwise; absolute error below 1e-8."""
    q, df = np.broadcast_arrays(np.asarray(q, float), np.asarray(df, float))
    node, weight = np.polynomial.legendre.leggauss(96)
    low, high = (np.sqrt(stats.chi2.ppf(edge, df) / df) for edge in (1e-13, 1 - 1e-13))
    s = low[..., None] + (high - low)[..., None] * (node + 1) / 2
    density = 2 * df[..., None] * s * stats.chi2.pdf(df[..., None] * s**2, df[..., None])
    beyond = _range_of_normals(k)((q[..., None] * s).clip(0, 60))
    return ((density * beyond * weight).sum(axis=-1) * (high - low) / 2).clip(0, 1)


def range_quantile(k: int, df: np.ndarray) -> np.ndarray:
    """The q that the studentised range of k means exceeds with probability 1 − LEVEL, by Newton's method on
    log P over log q."""
    df = np.asarray(df, float)
    q = np.sqrt(2) * stats.t.isf((1 - LEVEL) / (2 * k), df)  # not far off
    for _ in range(8):
        here, above = range_sf(q, k, df), range_sf(q * (1 + 1e-5), k, df)
        slope = (np.log(above) - np.log(here)) / np.log(1 + 1e-5)
        q = q * np.exp((np.log(1 - LEVEL) - np.log(here)) / slope)
    return q


def _simultaneous(
    fit: Fit, factor: str, method: str, difference: np.ndarray, error: np.ndarray, df: np.ndarray
) -> Iterator[pd.DataFrame]:
    """Tables, a pair each, from (pairs, metrics) arrays; `df` too."""
    axis = fit.design.axes.index(factor)
    levels, counts = fit.design.levels[axis], np.bincount(fit.design.codes[:, axis])
    t = difference / error
    wide = range_quantile(len(levels), df) / np.sqrt(2) * error
    adjusted = range_sf(np.abs(t) * np.sqrt(2), len(levels), df)
    for i, (a, b) in enumerate(combinations(range(len(levels)), 2)):
        columns = {"metric": fit.metrics, "difference": difference[i], "t": t[i], "df": df[i]}
        columns |= {"ci_low": difference[i] - wide[i], "ci_high": difference[i] + wide[i]}
        columns |= {"p": 2 * stats.t.sf(np.abs(t[i]), df[i]), "p_adjusted": adjusted[i]}
        yield pd.DataFrame(columns).assign(
            level_a=levels[a], level_b=levels[b], n_a=counts[a], n_b=counts[b], method=method
        )


def tukey(fit: Fit, factor: str) -> Iterator[pd.DataFrame]:
    """A table a pair of levels."""
    design = fit.design
    effects = [term for term in design.terms if term != (SEED,)]
    columns = [design.columns(term) for term in effects]
    start = sum(each.shape[1] for each in columns[: effects.index((factor,))])
    own = slice(start, start + design.df((factor,)))
    q, r = np.linalg.qr(design.within(np.hstack(columns)))
    inverse = np.linalg.inv(r)
    levels = design.df((factor,)) + 1
    pairs = np.array(list(combinations(range(levels), 2)))
    chosen = np.eye(levels)[pairs[:, 0]] - np.eye(levels)[pairs[:, 1]]  # (pairs, levels)
    coded = chosen @ np.vstack([np.eye(levels - 1), np.full((1, levels - 1), -1.0)])
    weights = coded @ inverse[own]  # on the projections q'y
    mean_square = (fit.residuals**2).sum(axis=0) / design.residual_df
    error = np.sqrt((weights**2).sum(axis=1)[:, None] * mean_square)
    df = np.full(error.shape, float(design.residual_df))
    yield from _simultaneous(fit, factor, "Tukey", weights @ (q.T @ design.within(fit.values)), error, df)


def games_howell(fit: Fit, factor: str) -> Iterator[pd.DataFrame]:
    """A table a pair of levels; none where seeds are a block or a cell has fewer than two runs."""
    if (SEED,) in fit.design.terms:
        return
    moments = cell_moments(fit)
    if moments is None:
        return
    counts, means, variances = moments
    shape = [levels for axis, levels in zip(fit.design.axes, fit.design.shape, strict=True) if axis != SEED]
    axis = [name for name in fit.design.axes if name != SEED].index(factor)
    level = np.indices(shape)[axis].ravel()  # of each cell
    others = len(counts) // shape[axis]
    pieces = variances / counts[:, None] / others**2
    mean, square, quartic = (
        np.stack([each[level == i].sum(axis=0) for i in range(shape[axis])])
        for each in (means / others, pieces, pieces**2 / (counts - 1)[:, None])
    )
    a, b = np.array(list(combinations(range(shape[axis]), 2))).T
    both = square[a] + square[b]
    with np.errstate(divide="ignore", invalid="ignore"):  # constant in all these cells: NaN says so
        df = both**2 / (quartic[a] + quartic[b])
        yield from _simultaneous(fit, factor, "Games-Howell", mean[a] - mean[b], np.sqrt(both), df)


def paired(
    runs: pd.DataFrame, factor: str, others: list[str], metrics: list[str], values: np.ndarray | None = None
) -> pd.DataFrame:
    """Differences by seed between the levels of `factor`, of runs that agree in `others`. Columns: COLUMNS.

    Only pairs of levels that share at least two seeds appear.
    """
    words = labels(runs[[factor, *others, SEED]])
    frame = pd.DataFrame(runs[metrics].to_numpy(float) if values is None else values, columns=metrics)
    means = frame.groupby([words[column].to_numpy() for column in (factor, SEED, *others)]).mean()
    tables = []
    levels = sorted(set(words[factor]))
    for a, b in combinations(levels, 2):
        both = means.loc[a].align(means.loc[b], join="inner", axis=0)
        difference = (both[0] - both[1]).groupby(level=0).mean()
        n = difference.notna().sum()
        mean, error = difference.mean(), difference.std() / np.sqrt(n)
        t = (mean / error).where(n > 1)
        wide = pd.Series(stats.t.ppf((1 + LEVEL) / 2, n - 1), n.index) * error
        columns = {"metric": metrics, "difference": mean, "t": t, "df": n - 1, "p": 2 * stats.t.sf(t.abs(), n - 1)}
        columns |= {"ci_low": mean - wide, "ci_high": mean + wide, "n_a": n, "n_b": n}
        table = pd.DataFrame(columns).assign(factor=factor, level_a=a, level_b=b, method="paired")
        tables.append(table[n > 1])
    if not tables:
        return pd.DataFrame(columns=COLUMNS)
    table = pd.concat(tables, ignore_index=True)
    table["p_adjusted"] = table.groupby("metric", sort=False)["p"].transform(
        lambda p: pd.Series(holm(p.to_numpy()), p.index) if p.notna().all() else np.nan
    )
    return table[COLUMNS]


def at_once(pairs: pd.DataFrame) -> pd.DataFrame:
    """Of a table of `paired` for one factor, intervals and p that hold for all pairs of levels at once."""
    m = pairs.groupby("metric")["p"].transform("size")
    longer = stats.t.isf((1 - LEVEL) / (2 * m), pairs["df"]) / stats.t.isf((1 - LEVEL) / 2, pairs["df"])
    wide = (pairs["ci_high"] - pairs["difference"]) * longer
    ends = {"ci_low": pairs["difference"] - wide, "ci_high": pairs["difference"] + wide}
    return pairs.assign(method="paired, all", **ends, p_adjusted=(m * pairs["p"]).clip(upper=1))


def posthoc(runs: pd.DataFrame, factors: Sequence[str], metrics: Sequence[str], order: int = 2) -> pd.DataFrame:
    """A row for each of `metrics` (as `anova` takes them), factor, pair of levels and method that the runs can bear.
    Columns: COLUMNS."""
    tables = []
    for fit in fit_all(runs, factors, metrics, order=order).found:
        varying = [axis for axis in fit.design.axes if axis != SEED]
        for factor in (axis for axis in varying if (axis,) in fit.design.terms):
            for method in (tukey, games_howell):
                tables += [table.assign(factor=factor) for table in method(fit, factor)]
            others = [other for other in varying if other != factor]
            pairs = paired(fit.runs, factor, others, fit.metrics, fit.values)
            tables += [pairs, *[at_once(pairs)] * ((SEED,) in fit.design.terms)]
    tables = [table for table in tables if len(table)]
    return pd.concat(tables, ignore_index=True)[COLUMNS] if tables else pd.DataFrame(columns=COLUMNS)
