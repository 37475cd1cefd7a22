"""Do raters agree on which samples are hard, and on which classes are confused with which?

A rater is a level of a factor (an algorithm, an optimiser, …, a seed); its scores of items are averaged over the runs
of each seed and then over seeds (`ratings`). `kendall` has the arithmetic.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.agreement.kendall import (
    interval,
    interval_over_classes,
    kendall_w,
    mean_spearman,
    noise_ceiling,
    permutation_p,
)
from creditlab.analysis.data.ratings import rate
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.names import SEED, level_order
from creditlab.analysis.table import once, stacked, statistic

STATISTICS = {
    "n_raters": "raters (m)",
    "n_items": "items",
    "W": "Kendall's W, tie-corrected, in [0, 1]",
    "chi2": "Friedman's χ²",
    "df": "its degrees of freedom",
    "p": "its p; empty for confusion, whose items are not independent",
    "mean_spearman": "mean Spearman correlation of pairs of raters",
    "ci_low": "lower end of the interval of W",
    "ci_high": "upper end of the interval of W",
    "noise_ceiling": "the W to expect if raters differed by their seeds alone",
    "floor": "1/m: the W to expect of unrelated raters",
    "F": "Kendall & Babington Smith's F",
    "df1": "its degrees of freedom, of items",
    "df2": "its degrees of freedom, of raters and items",
    "p_F": "its p; empty for confusion",
    "p_permutation": "p by permutation",
}
ABOUT = {
    "dataset": "data set",
    "score": "loss (which samples are hard) or confusion (which classes are confused with which)",
    "raters": "the factor whose levels are the raters",
}


@statistic(
    "Concordance",
    "One row per data set, score and factor. The factor's levels are the raters.",
    ABOUT | STATISTICS,
    place=40,
)
def concordance(sweep: Sweep) -> tuple[pd.DataFrame, list[str]]:
    """Kendall's W over the levels of each factor and over seeds, from the runs that are complete."""
    rows, _, notes = _compared(sweep)
    return rows, notes


@statistic(
    "Concordance by pair of raters",
    "One row per data set, score, factor and pair of its levels.",
    {
        **ABOUT,
        "rater_a": "one level",
        "rater_b": "another level",
        "spearman": "Spearman's ρ of their scores of all items",
    },
    place=45,
)
def concordance_pairs(sweep: Sweep) -> pd.DataFrame:
    """The rank correlation of each two raters of `concordance`."""
    return _compared(sweep)[1]


@once
def _compared(sweep: Sweep) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The frames of `concordance` and of `concordance_pairs`, and the notes."""
    factors = [factor for factor in [*sweep.factors, SEED] if factor != "dataset"]
    rows: list[pd.DataFrame] = []
    pairs: list[pd.DataFrame] = []
    notes: list[str] = []
    for dataset, runs in sweep.usable.groupby("dataset") if sweep.named else ():
        about_dataset: list[str] = []
        for (score, factor), scores in rate(runs, sweep.named, factors, about_dataset).items():
            if scores.index.get_level_values(0).nunique() < 2 or scores.shape[1] < 2:
                if factor != SEED:
                    about_dataset.append(f"{factor}: fewer than two raters or items, nothing to compare")
                continue
            row = compare_raters(scores)
            for frames, frame in ((rows, row), (pairs, spearman(scores))):
                frames.append(frame.assign(dataset=dataset, score=score, raters=factor))
            if np.isnan(row["noise_ceiling"].iloc[0]) and factor != SEED and score == "loss":
                about_dataset.append(f"{factor}: no rater has two seeds, so there is no noise ceiling")
        notes += [f"{dataset}: {note}" for note in dict.fromkeys(about_dataset)]
    return stacked(rows, list(concordance.columns)), stacked(pairs, list(concordance_pairs.columns)), notes


def compare_raters(scores: pd.DataFrame) -> pd.DataFrame:
    """One row of STATISTICS from `scores`: one row per rater and seed (the index, in this order), one column per item,
    which is a pair of classes where columns have two levels.

    At least two raters and two items.
    """
    scores = scores.sort_index(key=lambda level: level.map(str).map(level_order))
    seeds = [of_rater.to_numpy() for _, of_rater in scores.groupby(level=0, sort=False)]
    raters = np.stack([each.mean(axis=0) for each in seeds])
    m, n = raters.shape
    generator = np.random.default_rng(0)  # one of its own, so that no row depends on which others there are
    w = kendall_w(raters)
    chi2 = m * (n - 1) * w
    pairs = np.array(scores.columns.tolist()) if scores.columns.nlevels == 2 else None
    low, high = interval(raters, generator) if pairs is None else interval_over_classes(raters, pairs)
    df1 = n - 1 - 2 / m
    f = (m - 1) * w / (1 - w) if w < 1 else np.inf
    row = {
        "n_raters": m,
        "n_items": n,
        "W": w,
        "chi2": chi2,
        "df": n - 1,
        "p": float(stats.chi2.sf(chi2, n - 1)) if pairs is None else np.nan,
        "mean_spearman": mean_spearman(raters),
        "ci_low": low,
        "ci_high": high,
        "noise_ceiling": noise_ceiling(seeds),
        "floor": 1 / m,
        "F": f,
        "df1": df1,
        "df2": (m - 1) * df1,
        "p_F": float(stats.f.sf(f, df1, (m - 1) * df1)) if df1 > 0 and pairs is None else np.nan,
        "p_permutation": permutation_p(raters, generator, pairs),
    }
    return pd.DataFrame([row], columns=list(STATISTICS))


def spearman(scores: pd.DataFrame) -> pd.DataFrame:
    """The rank correlation of each two raters of `scores` (as in `concordance_pairs`): rater_a, rater_b, spearman."""
    means = scores.groupby(level=0, sort=False).mean()
    ranks = stats.rankdata(means.to_numpy(), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # a rater that ties every item correlates with none: NaN
        matrix = np.corrcoef(ranks)
    rows = [(means.index[a], means.index[b], matrix[a, b]) for a, b in combinations(range(len(means)), 2)]
    return pd.DataFrame(rows, columns=["rater_a", "rater_b", "spearman"])
