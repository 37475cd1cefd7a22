"""Do raters agree less than their seeds leave? Agreement between raters against that of the seeds of one rater.

With ρ the Spearman correlation of two raters' scores for one seed each,

    D = mean ρ(same rater, other seed) − mean ρ(other rater, other seed)

Pairs of runs of the same seed are left out, so that what a seed does to all raters cannot lift their agreement. The
standard error is the jackknife's over seeds (a seed is left out of all raters), with Student's t of S − 1 degrees of
freedom. Raters agree *less than seeds leave* where D is above 0; they are *equivalent within the margin* where the 95 %
upper limit of D is below it; else they are *not shown to be less* in agreement. Items are taken as fixed.

The same jackknife gives the interval of the noise ceiling (on Fisher's scale of the reliability) and that of the
difference between two W of which the raters share seeds.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.agreement.kendall import kendall_w
from creditlab.analysis.model.design import LEAST_SEEDS
from creditlab.analysis.model.jackknife import jackknife
from creditlab.analysis.names import LEVEL

MARGIN = 0.05  # in ρ


def against_seeds(scores: pd.DataFrame, margin: float = MARGIN) -> dict[str, float]:
    """D, its limits and those of the ceiling, from `scores`: one row per rater and seed (the index), one column per
    item. NaN where no rater has two seeds; without limits below LEAST_SEEDS seeds.
    """
    seeds = scores.index.get_level_values(1)
    names = list(dict.fromkeys(seeds))
    correlation, rater, seed = _correlations(scores)
    whole = _difference(correlation, rater, seed)
    count = np.bincount(rater)
    reliability = _reliability(correlation, rater, seed, count)
    result = {"n_seeds": len(names), "within": whole[0], "between": whole[1], "difference": whole[0] - whole[1]}
    limits = dict.fromkeys(
        ("ci_low", "ci_high", "upper", "t", "p", "p_equivalent", "ceiling_low", "ceiling_high"), np.nan
    )
    df = len(names) - 1
    if len(names) >= LEAST_SEEDS:
        kept = [seed != i for i in range(len(names))]
        cut = [(correlation[np.ix_(k, k)], rater[k], seed[k]) for k in kept]
        parts = np.array([np.subtract(*_difference(*each)) for each in cut])
        error, d = float(jackknife(parts)), result["difference"]
        t = d / error if error > 0 else np.nan
        two_sided, one_sided = (stats.t.ppf(level, df) * error for level in ((1 + LEVEL) / 2, LEVEL))
        limits |= {"ci_low": d - two_sided, "ci_high": d + two_sided, "upper": d + one_sided, "t": t}
        limits |= {"p": min(1.0, 2 * float(stats.t.sf(t, df))) if error > 0 else np.nan}
        limits |= {"p_equivalent": float(stats.t.cdf((d - margin) / error, df)) if error > 0 else np.nan}
        z = np.arctanh(np.clip([reliability, *(_reliability(*each, count) for each in cut)], 0, 1 - 1e-12))
        half = stats.t.ppf((1 + LEVEL) / 2, df) * jackknife(z[1:])
        m = rater.max() + 1
        low, high = (1 + (m - 1) * np.tanh([max(z[0] - half, 0), z[0] + half])) / m
        limits |= {"ceiling_low": float(low), "ceiling_high": float(high)}
    return result | {"df": df} | limits


def _correlations(scores: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The Spearman correlations of all rows of `scores`, and the number of each row's rater and of its seed."""
    ranks = stats.rankdata(scores.to_numpy(), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a row that ties every item correlates with none: NaN
        correlation = np.corrcoef(ranks)
    return correlation, *(pd.factorize(scores.index.get_level_values(level))[0] for level in (0, 1))


def _difference(correlation: np.ndarray, rater: np.ndarray, seed: np.ndarray) -> tuple[float, float]:
    """The mean correlation of other seeds within raters, and between raters; each rater, each pair of raters, weighs
    the same. NaN where there is no such pair."""
    other = seed[:, None] != seed[None, :]
    raters = range(rater.max() + 1)
    blocks = {
        (i, j): _mean(correlation, other & (rater == i)[:, None] & (rater == j))
        for i in raters
        for j in raters
        if i <= j
    }
    within = [mean for (i, j), mean in blocks.items() if i == j and not np.isnan(mean)]
    between = [mean for (i, j), mean in blocks.items() if i < j and not np.isnan(mean)]
    return (float(np.mean(within)) if within else np.nan), (float(np.mean(between)) if between else np.nan)


def _mean(values: np.ndarray, chosen: np.ndarray) -> float:
    return float(values[chosen].mean()) if chosen.any() else float("nan")


def _reliability(correlation: np.ndarray, rater: np.ndarray, seed: np.ndarray, count: np.ndarray) -> float:
    """The mean over raters of how an average over a rater's S seeds (`count`) correlates with another such average:
    Sρ / (1 + (S − 1)ρ), with its mean ρ between seeds."""
    of_rater = []
    for i, s in enumerate(count):
        rho = _mean(correlation, (rater == i)[:, None] & (rater == i) & (seed[:, None] != seed))
        if not np.isnan(rho):
            of_rater.append(s * max(rho, 0.0) / (1 + (s - 1) * max(rho, 0.0)))
    return float(np.mean(of_rater)) if of_rater else float("nan")


def without_each_seed(scores: pd.DataFrame) -> pd.Series:
    """Kendall's W of the means over seeds, without each seed in turn (the index); under "" with all of them.

    Empty where a rater would lose its only seed.
    """
    seeds = scores.index.get_level_values(1)
    names = list(dict.fromkeys(seeds))
    raters = scores.index.get_level_values(0).nunique()
    values = {}
    for name in ["", *names]:
        means = scores[seeds != name].groupby(level=0, sort=False).mean()
        if len(means) < raters:
            return pd.Series(dtype=float)
        values[name] = kendall_w(means.to_numpy())
    return pd.Series(values)


def difference(first: pd.Series, second: pd.Series) -> dict[str, float]:
    """W₁ − W₂ with its limits, from two results of `without_each_seed` of the same seeds."""
    gap = first - second[first.index]
    error, df = float(jackknife(gap.iloc[1:].to_numpy())), len(gap) - 2
    d = float(gap.iloc[0])
    half = stats.t.ppf((1 + LEVEL) / 2, df) * error
    t = d / error if error > 0 else np.nan
    p = 2 * float(stats.t.sf(abs(t), df))
    return {"difference": d, "ci_low": d - half, "ci_high": d + half, "t": t, "df": df, "p": p}
