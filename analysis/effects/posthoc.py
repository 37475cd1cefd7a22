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
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.model.fits import Fit, Fits
from creditlab.analysis.model.intervals import half_width
from creditlab.analysis.model.multiplicity import holm
from creditlab.analysis.model.studentised_range import range_quantile, range_sf
from creditlab.analysis.names import LEVEL, SEED, labels, level_order
from creditlab.analysis.table import stacked, statistic

PAIR: dict[str, str | tuple[str, str]] = {
    "metric": "name of the metric",
    "factor": "the factor whose levels are compared",
    "level_a": "one level",
    "level_b": "the other level",
    "method": "Tukey, Games-Howell, paired, or paired over all pairs at once",
    "difference": ("mean at level_a minus mean at level_b", "the metric's"),
    "ci_low": ("lower end of its interval", "the metric's"),
    "ci_high": ("upper end of its interval", "the metric's"),
    "t": "difference over its standard error",
    "df": "degrees of freedom",
    "p": "p of this pair alone",
    "p_adjusted": "p over all pairs of levels of the factor",
    "n_a": "runs at level_a; seeds, where the comparison is paired",
    "n_b": "runs at level_b; seeds, where the comparison is paired",
}


def _simultaneous(
    fit: Fit, factor: str, method: str, difference: np.ndarray, error: np.ndarray, df: np.ndarray
) -> Iterator[pd.DataFrame]:
    """One table per pair of levels, from (pairs, metrics) arrays; `df` too."""
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
    """One table per pair of levels."""
    design = fit.design
    q, r = design.factorised
    columns = design.columns_of[(factor,)]
    inverse = np.linalg.inv(r)
    levels = design.df((factor,)) + 1
    pairs = np.array(list(combinations(range(levels), 2)))
    chosen = np.eye(levels)[pairs[:, 0]] - np.eye(levels)[pairs[:, 1]]  # (pairs, levels)
    coded = chosen @ np.vstack([np.eye(levels - 1), np.full((1, levels - 1), -1.0)])
    weights = coded @ inverse[columns]  # on the projections q'y
    mean_square = (fit.residuals**2).sum(axis=0) / design.residual_df
    error = np.sqrt((weights**2).sum(axis=1)[:, None] * mean_square)
    df = np.full(error.shape, float(design.residual_df))
    yield from _simultaneous(fit, factor, "Tukey", weights @ (q.T @ design.within(fit.values)), error, df)


def games_howell(fit: Fit, factor: str) -> Iterator[pd.DataFrame]:
    """One table per pair of levels; none where seeds are a block or a cell has fewer than two runs."""
    if fit.design.paired or fit.cell_moments is None:
        return
    counts, means, variances = fit.cell_moments
    shape, axis = fit.design.cell_shape, fit.design.varying.index(factor)
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
    """Differences by seed between the levels of `factor`, of runs that agree in `others`, in the columns of `posthoc`.

    Only pairs of levels that share at least two seeds appear.
    """
    words = labels(runs[[factor, *others, SEED]])
    frame = pd.DataFrame(runs[metrics].to_numpy(float) if values is None else values, columns=metrics)
    means = frame.groupby([words[column].to_numpy() for column in (factor, SEED, *others)]).mean()
    tables = []
    levels = sorted(set(words[factor]), key=level_order)
    for a, b in combinations(levels, 2):
        both = means.loc[a].align(means.loc[b], join="inner", axis=0)
        difference = (both[0] - both[1]).groupby(level=0).mean()
        n = difference.notna().sum()
        mean, sd = difference.mean(), difference.std()
        t = (mean / (sd / np.sqrt(n))).where(n > 1)
        wide = half_width(sd, n)
        columns = {"metric": metrics, "difference": mean, "t": t, "df": n - 1, "p": 2 * stats.t.sf(t.abs(), n - 1)}
        columns |= {"ci_low": mean - wide, "ci_high": mean + wide, "n_a": n, "n_b": n}
        table = pd.DataFrame(columns).assign(factor=factor, level_a=a, level_b=b, method="paired")
        tables.append(table[n > 1])
    if not tables:
        return posthoc.empty()
    table = pd.concat(tables, ignore_index=True)
    table["p_adjusted"] = table.groupby("metric", sort=False)["p"].transform(
        lambda p: pd.Series(holm(p.to_numpy()), p.index) if p.notna().all() else np.nan
    )
    return table[list(posthoc.columns)]


def at_once(pairs: pd.DataFrame) -> pd.DataFrame:
    """Of a table of `paired` for one factor, intervals and p that hold for all pairs of levels at once."""
    m = pairs.groupby("metric")["p"].transform("size")
    longer = stats.t.isf((1 - LEVEL) / (2 * m), pairs["df"]) / stats.t.isf((1 - LEVEL) / 2, pairs["df"])
    wide = (pairs["ci_high"] - pairs["difference"]) * longer
    ends = {"ci_low": pairs["difference"] - wide, "ci_high": pairs["difference"] + wide}
    return pairs.assign(method="paired, all", **ends, p_adjusted=(m * pairs["p"]).clip(upper=1))


@statistic("Pairwise comparisons", "One row per metric, factor, pair of levels and method.", PAIR, place=90)
def posthoc(fits: Fits) -> pd.DataFrame:
    """Differences between the levels of each factor, by each method that the runs can bear."""
    tables = []
    for fit in fits:
        varying = fit.design.varying
        for factor in (axis for axis in varying if (axis,) in fit.design.terms):
            for method in (tukey, games_howell):
                tables += [table.assign(factor=factor) for table in method(fit, factor)]
            others = [other for other in varying if other != factor]
            pairs = paired(fit.runs, factor, others, fit.metrics, fit.values)
            tables += [pairs, *[at_once(pairs)] * fit.design.paired]
    return stacked(tables, list(posthoc.columns))
