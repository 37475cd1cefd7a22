"""Do raters agree on which samples are hard, and on which classes are confused with which?

A rater is a level of a factor (an algorithm, an optimiser, …, a seed); its scores of items are averaged over the runs
of each seed and then over seeds (`ratings`). `kendall` has the arithmetic of W, `seed_limit` that of whether raters
agree less than seeds leave.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
from creditlab.analysis.agreement.seed_limit import (
    MARGIN,
    against_seeds,
    difference,
    without_each_seed,
)
from creditlab.analysis.data.ratings import rate
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.model.design import LEAST_SEEDS
from creditlab.analysis.model.fits import Fits
from creditlab.analysis.model.questions import adjusted, question
from creditlab.analysis.names import ALPHA, SEED, level_order
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


LESS, EQUIVALENT, NOT_SHOWN = "less than seeds leave", "equivalent within the margin", "not shown to be less"
QUESTION, EQUAL, DIFFERENT = "concordance", "concordance as of seeds", "concordance compared"


@statistic(
    "Concordance",
    "One row per data set, score and factor. The factor's levels are the raters.",
    ABOUT | STATISTICS,
    place=40,
)
def concordance(sweep: Sweep) -> tuple[pd.DataFrame, list[str]]:
    """Kendall's W over the levels of each factor and over seeds, from the runs that are complete."""
    compared = _compared(sweep)
    return stacked(compared.rows, list(concordance.columns)), compared.notes


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
    return stacked(_compared(sweep).pairs, list(concordance_pairs.columns))


@statistic(
    "Concordance against seeds",
    "One row per data set, score and factor: raters against the seeds of one rater.",
    {
        **ABOUT,
        "n_seeds": "seeds",
        "within": "mean Spearman's ρ of two seeds of one rater",
        "between": "mean Spearman's ρ of two raters, each with another seed",
        "difference": "within minus between",
        "ci_low": "lower end of its interval over seeds",
        "ci_high": "upper end of its interval over seeds",
        "upper": "its upper limit, which it exceeds in 5 of 100",
        "t": "difference over its standard error",
        "df": "degrees of freedom",
        "p": "p that raters agree no less than seeds, of this test alone",
        "p_adjusted": "that p over all tests of the report",
        "margin": "the difference in ρ that does not matter",
        "p_equivalent": "p that they agree less by the margin or more, of this test alone",
        "p_equivalent_adjusted": "that p over all tests of the report",
        "verdict": "less than seeds leave, equivalent within the margin, or not shown to be less",
        "noise_ceiling": "the W to expect if raters differed by their seeds alone",
        "ceiling_low": "lower end of its interval over seeds",
        "ceiling_high": "upper end of its interval over seeds",
    },
    place=42,
)
def seed_limit(fits: Fits, margin: float | None = None) -> pd.DataFrame:
    """Whether the levels of each factor agree less than seeds leave, or as well within `margin` (by default MARGIN)."""
    rows = _against_seeds(fits.sweep, MARGIN if margin is None else margin)
    for column, asked in (("p", QUESTION), ("p_equivalent", EQUAL)):
        p = _name(rows).map(adjusted(fits, asked)) if margin is None or column == "p" else rows[column]
        rows = rows.assign(**{f"{column}_adjusted": p.astype(float)})
    less, equivalent = rows["p_adjusted"] <= ALPHA, rows["p_equivalent_adjusted"] <= ALPHA
    verdict = np.select(
        [less & equivalent, less, equivalent], [f"{LESS}, by less than the margin", LESS, EQUIVALENT], NOT_SHOWN
    )
    rows = rows.assign(verdict=np.where(rows["p"].isna(), "", verdict))
    return rows[list(seed_limit.columns)]


@statistic(
    "Concordance compared",
    "One row per factor and two results of `concordance` whose raters and seeds are the same.",
    {
        "raters": ABOUT["raters"],
        "dataset_a": "data set of the one",
        "score_a": "score of the one",
        "dataset_b": "data set of the other",
        "score_b": "score of the other",
        "n_seeds": "seeds",
        "W_a": "W of the one",
        "W_b": "W of the other",
        "difference": "W_a minus W_b",
        "ci_low": "lower end of its interval over seeds",
        "ci_high": "upper end of its interval over seeds",
        "t": "difference over its standard error",
        "df": "degrees of freedom",
        "p": "p of no difference, of this test alone",
        "p_adjusted": "that p over all tests of the report",
    },
    place=43,
)
def concordance_differences(fits: Fits) -> pd.DataFrame:
    """Each two W of the same raters compared: of two data sets, of two scores."""
    rows = _differences(fits.sweep)
    p = _pair_name(rows).map(adjusted(fits, DIFFERENT)).astype(float)
    return rows.assign(p_adjusted=p)[list(concordance_differences.columns)]


@question
def _agree(fits: Fits) -> pd.DataFrame:
    """Whether raters agree at all."""
    table = concordance(fits).frame
    named = [above_chance(*row) for row in table[["dataset", "score", "raters"]].itertuples(index=False)]
    return pd.DataFrame(named, columns=["question", "metric"]).assign(p=table["p_permutation"].to_numpy(float))


def above_chance(dataset: str, score: str, raters: str) -> tuple[str, str]:
    """The question whether raters agree better than chance, and its name there."""
    return "concordance above chance", f"{dataset}, {score}, {raters}"


@question
def _question(fits: Fits) -> pd.DataFrame:
    """Whether raters agree less than seeds leave; as well within the margin; and more in one result than in another."""
    rows, pairs = _against_seeds(fits.sweep, MARGIN), _differences(fits.sweep)
    tests = [
        pd.DataFrame({"metric": _name(rows), "p": rows["p"]}).assign(question=QUESTION),
        pd.DataFrame({"metric": _name(rows), "p": rows["p_equivalent"]}).assign(question=EQUAL),
        pd.DataFrame({"metric": _pair_name(pairs), "p": pairs["p"]}).assign(question=DIFFERENT),
    ]
    return pd.concat(tests, ignore_index=True)


def _name(rows: pd.DataFrame) -> pd.Series:
    """What a row of `seed_limit` is called in the tree of questions."""
    return rows["dataset"].astype(str) + ", " + rows["score"].astype(str) + ": " + rows["raters"].astype(str)


def _pair_name(rows: pd.DataFrame) -> pd.Series:
    """What a row of `concordance_differences` is called in the tree of questions."""
    sides = [rows[f"dataset_{x}"].astype(str) + ", " + rows[f"score_{x}"].astype(str) for x in "ab"]
    return sides[0] + " and " + sides[1] + ": " + rows["raters"].astype(str)


@once
def _against_seeds(sweep: Sweep, margin: float) -> pd.DataFrame:
    """The rows of `seed_limit` but for what is adjusted, and the verdict."""
    without = ("p_adjusted", "p_equivalent_adjusted", "verdict")
    rows = []
    for (dataset, score, factor), scores in _compared(sweep).scores.items():
        about = {"dataset": dataset, "score": score, "raters": factor, "margin": margin}
        seeds = [of_rater.to_numpy() for _, of_rater in scores.groupby(level=0, sort=False)]
        rows.append(about | against_seeds(scores, margin) | {"noise_ceiling": noise_ceiling(seeds)})
    return pd.DataFrame(rows, columns=[name for name in seed_limit.columns if name not in without])


@once
def _differences(sweep: Sweep) -> pd.DataFrame:
    """The rows of `concordance_differences` but for p_adjusted."""
    by_factor: dict[str, list[tuple[str, str, pd.Series, list[str]]]] = {}
    for (dataset, score, factor), scores in _compared(sweep).scores.items():
        raters = list(dict.fromkeys(scores.index.get_level_values(0)))
        by_factor.setdefault(factor, []).append((dataset, score, without_each_seed(scores), raters))
    rows = []
    for factor, results in by_factor.items():
        for (dataset_a, score_a, a, raters_a), (dataset_b, score_b, b, raters_b) in combinations(results, 2):
            if raters_a == raters_b and set(a.index) == set(b.index) and len(a) > LEAST_SEEDS:
                about: dict[str, object] = {
                    "dataset_a": dataset_a,
                    "score_a": score_a,
                    "dataset_b": dataset_b,
                    "score_b": score_b,
                }
                about |= {"n_seeds": len(a) - 1, "W_a": a.iloc[0], "W_b": b.iloc[0], "raters": factor}
                rows.append(about | difference(a, b))
    return pd.DataFrame(rows, columns=[name for name in concordance_differences.columns if name != "p_adjusted"])


@dataclass
class _Compared:
    """What the ratings of a sweep give: the frames of `concordance` and `concordance_pairs`, scores and notes."""

    rows: list[pd.DataFrame] = field(default_factory=list)
    pairs: list[pd.DataFrame] = field(default_factory=list)
    scores: dict[tuple[str, str, str], pd.DataFrame] = field(default_factory=dict)  # by data set, score and factor
    notes: list[str] = field(default_factory=list)


@once
def _compared(sweep: Sweep) -> _Compared:
    """The ratings of each data set and score compared, by each factor."""
    factors = [factor for factor in [*sweep.factors, SEED] if factor != "dataset"]
    compared = _Compared()
    for dataset, runs in sweep.usable.groupby("dataset") if sweep.named else ():
        about_dataset: list[str] = []
        for (score, factor), scores in rate(runs, sweep.named, factors, about_dataset).items():
            if scores.index.get_level_values(0).nunique() < 2 or scores.shape[1] < 2:
                if factor != SEED:
                    about_dataset.append(f"{factor}: fewer than two raters or items, nothing to compare")
                continue
            row = compare_raters(scores)
            for frames, frame in ((compared.rows, row), (compared.pairs, spearman(scores))):
                frames.append(frame.assign(dataset=dataset, score=score, raters=factor))
            if factor != SEED:
                compared.scores[str(dataset), score, factor] = scores
            if np.isnan(row["noise_ceiling"].iloc[0]) and factor != SEED and score == "loss":
                about_dataset.append(f"{factor}: no rater has two seeds, so there is no noise ceiling")
        compared.notes += [f"{dataset}: {note}" for note in dict.fromkeys(about_dataset)]
    return compared


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
