"""Do runs arrange the classes alike? Similarity of representations, within a level of a factor against between levels.

Each run's layer gives a matrix of distances between items (classes, or test samples where a run has recorded them).
`pairs_of_runs` compares two runs by RDM or by debiased linear CKA.

*Pairs.* Runs of one seed share their initial weights, and two runs of one level (all else equal) never share a seed. So
within and between are both taken over pairs of runs of *different* seeds, all other factors equal; pairs of one seed
have a column of their own. p: levels permuted within blocks (the same other factors, the same seed where levels share
seeds), one-sided, (1 + #{within* ≥ within}) / (1 + draws). Intervals: jackknife over items (ten classes are ten items,
not 45 pairs) with Student's t; of a pair of levels on Fisher's scale. The jackknife counts the part of a variance that
belongs to pairs of items twice (Efron & Stein 1981), so (n − 2)/n of its variance is taken, for n items. That is not
all of it for within minus between: of ten items its interval covers 97 to 98 %, not 95 %.

A run whose distances do not vary (a dead layer) cannot be compared: it is left out and counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from creditlab.analysis.agreement.pairs_of_runs import (
    Distance,
    Measure,
    Runs,
    distances,
    embed,
    means_by_level,
    permutation_p,
    products,
    within_and_between,
)
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.model.fits import Fits
from creditlab.analysis.model.jackknife import reach
from creditlab.analysis.model.permutation import blocks, cells
from creditlab.analysis.model.questions import question
from creditlab.analysis.names import SEED, coded, labels, level_order, natural
from creditlab.analysis.table import once, stacked, statistic

ABOUT = {
    "dataset": "data set",
    "layer": "layer of the network",
    "items": "classes or samples",
    "n_items": "items",
    "measure": "RDM (Spearman's ρ of dissimilarity matrices) or CKA (debiased, linear)",
    "distance": "distance between items",
    "factor": "the factor",
}
COMPARED = {
    "within": "mean similarity of two runs of one level, of different seeds and all else equal",
    "between": "mean similarity of two runs of two levels, of different seeds and all else equal",
    "difference": "within minus between",
    "ci_low": "lower end of the interval of the difference",
    "ci_high": "upper end of the interval of the difference",
    "p": "p of the difference, by permutation; not adjusted over rows",
    "between_same_seed": "mean similarity of two runs of two levels that share their seed",
}
PAIR = {
    "a": "one level",
    "b": "a level, the same one included",
    "n_pairs": "pairs of runs",
    "similarity": "mean similarity of two runs, in [−1, 1]",
    "ci_low": "lower end of its interval",
    "ci_high": "upper end of its interval",
}
KINDS = {"representation/": "classes", "sample_representation/": "samples"}
SAMPLES = 128  # at most, evenly spaced in the test set
GROUPS = 20  # of items that the jackknife leaves out in turn, at most
ALIKE = "runs left out, all their distances alike"


@statistic(
    "Similarity of representations",
    "One row per data set, layer, measure and factor: within its levels against between them.",
    ABOUT | {"n_runs": "runs", "left_out": "runs whose distances are all alike"} | COMPARED,
    place=50,
)
def similarity(sweep: Sweep, distance: Distance = "correlation") -> tuple[pd.DataFrame, list[str]]:
    """RDMs and CKA by data set, layer and factor, from the runs that are complete."""
    rows, _, _, notes = _compared(sweep, distance=distance)
    return rows, notes


@question
def representations(fits: Fits) -> pd.DataFrame:
    """Do runs of one level arrange the classes more alike than runs of different levels?"""
    table = similarity(fits).frame
    table = table[(table["measure"] == "RDM") & (table["items"] == "classes")]
    named = [question_of(*row) for row in table[["dataset", "layer", "factor"]].itertuples(index=False)]
    return pd.DataFrame(named, columns=["question", "metric"]).assign(p=table["p"].to_numpy(float))


def question_of(dataset: str, layer: str, factor: str) -> tuple[str, str]:
    """The question that a comparison of representations belongs to, and its name there."""
    return f"{factor}: representations", f"{dataset}, {layer}"


@statistic(
    "Similarity by pair of levels",
    "One row per data set, layer, measure, factor and pair of levels.",
    ABOUT | PAIR,
    place=55,
)
def similarity_pairs(sweep: Sweep, distance: Distance = "correlation") -> pd.DataFrame:
    """The mean similarity of two runs for each two levels of a factor."""
    return _compared(sweep, distance=distance)[1]


@statistic(
    "Dissimilarity of classes",
    "One row per data set, layer, factor, level and pair of classes.",
    {
        **{key: ABOUT[key] for key in ("dataset", "layer", "factor")},
        "level": "its level",
        "distance": "distance between classes",
        "a": "one class",
        "b": "another class",
        "dissimilarity": "mean distance of the two class means over the runs of the level",
    },
    place=200,
)
def rdms(sweep: Sweep, distance: Distance = "correlation") -> pd.DataFrame:
    """The mean representational dissimilarity matrix of each level."""
    return _compared(sweep, distance=distance)[2]


@once
def _compared(sweep: Sweep, distance: Distance) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, list[str]]:
    """The frames of `similarity`, `similarity_pairs` and `rdms`, and the notes."""
    notes: list[str] = []
    matrices_of = _representations(sweep, dict.fromkeys(("euclidean", distance)), notes)  # type: ignore[arg-type]
    settings = sweep.runs.set_index("run") if sweep.named else sweep.runs
    rows, pairs, mean_rdms = [], [], []
    for (dataset, kind, layer, n), runs in sorted(matrices_of.items(), key=lambda i: (*i[0][:2], natural(i[0][2]))):
        chosen = settings.loc[list(runs)]
        factors = [f for f in sweep.factors if f != "dataset" and len(set(labels(chosen[[f]])[f])) > 1]
        if n < 5:  # the jackknife leaves one out, and U-centring needs four
            notes.append(f"{dataset}, {layer}: {n} {kind} are too few to compare")
            continue
        ways: list[tuple[Measure, Distance]] = [("RDM", distance), ("CKA", "euclidean")]
        for measure, by in ways:
            matrices = np.stack([of_run[by] for of_run in runs.values()])
            for factor in factors:
                others = [f for f in factors if f != factor]
                about: dict[str, Any] = dict(zip(ABOUT, (dataset, layer, kind, n, measure, by, factor), strict=True))
                row, compared = compare(chosen, matrices, factor, others, measure)
                rows.append(about | row)
                pairs.append(compared.assign(**about))
                if row["left_out"]:
                    notes.append(f"{dataset}, {layer}, {measure}: {ALIKE}: {row['left_out']}")
                if np.isnan(row["p"]):
                    notes.append(f"{dataset}, {layer}, {factor}: no two runs of one level differ by their seed alone")
                if measure == "RDM" and kind == "classes":
                    mean_rdms.append(_mean_rdms(labels(chosen[[factor]])[factor], matrices, about))
    return (
        pd.DataFrame(rows, columns=list(similarity.columns)),
        stacked(pairs, list(similarity_pairs.columns)),
        stacked(mean_rdms, list(rdms.columns)),
        list(dict.fromkeys(notes)),
    )


def compare(
    settings: pd.DataFrame, matrices: np.ndarray, factor: str, others: Sequence[str], measure: Measure
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Within against between the levels of `factor`, and each pair of levels.

    `settings` has one row per run (`factor`, `others`, seed), `matrices` is (runs, items, items) of distances. Nothing
    depends on the order of rows. Gives a row of COMPARED and rows of PAIR.
    """
    words = labels(settings[[factor, *others, SEED]]).reset_index(drop=True)
    order = words.sort_values(list(words.columns), kind="stable").index.to_numpy()
    words, matrices = words.iloc[order].reset_index(drop=True), matrices[order]
    vectors = embed(matrices, measure)
    usable = np.isfinite(vectors).all(axis=1)
    words, vectors, matrices = words[usable].reset_index(drop=True), vectors[usable], matrices[usable]
    row: dict[str, Any] = {"n_runs": len(words), "left_out": int((~usable).sum())}
    if words.empty or words[factor].nunique() < 2:
        return row | dict.fromkeys(COMPARED, float("nan")), pd.DataFrame(columns=list(PAIR))

    level, names = coded(words[factor])
    runs = Runs(level, cells(words, others), coded(words[SEED])[0])
    means, n, together = means_by_level(vectors, runs)
    within, between = within_and_between(means, n)

    items = np.arange(matrices.shape[1])
    left_out = np.array_split(items, min(GROUPS, len(items)))
    parts, contrasts = [], []
    for group in left_out:
        kept = np.setdiff1d(items, group)
        part = embed(matrices[:, kept[:, None], kept], measure)
        part_means = means_by_level(part, runs)[0]
        parts.append(np.arctanh(part_means.clip(-1 + 1e-12, 1 - 1e-12)))
        contrasts.append(np.subtract(*within_and_between(part_means, n)))
    middle = np.arctanh(means.clip(-1 + 1e-12, 1 - 1e-12))
    around = reach(np.stack(parts), len(items))
    wide = float(reach(np.array(contrasts), len(items)))

    testable = np.isfinite(within) and np.isfinite(between)
    same_n = products(np.ones((len(vectors), 1)), runs)[1]
    row |= {
        "within": within,
        "between": between,
        "difference": within - between,
        "ci_low": within - between - wide,
        "ci_high": within - between + wide,
        "p": permutation_p(vectors, runs, blocks(words, factor, others)) if testable else float("nan"),
        "between_same_seed": within_and_between(together, same_n)[1],
    }
    a, b = np.triu_indices(len(names))
    pairs = pd.DataFrame(
        {
            "a": np.asarray(names, dtype=object)[a],
            "b": np.asarray(names, dtype=object)[b],
            "n_pairs": np.where(a == b, n[a, b] / 2, n[a, b]).astype(int),
            "similarity": means[a, b],
            "ci_low": np.tanh(middle - around)[a, b],
            "ci_high": np.tanh(middle + around)[a, b],
        }
    )
    return row, pairs[pairs["n_pairs"] > 0].reset_index(drop=True)


def _representations(
    sweep: Sweep, chosen: Iterable[Distance], notes: list[str]
) -> dict[tuple[str, str, str, int], dict[str, dict[str, np.ndarray]]]:
    """{(dataset, kind, layer, items): {run: {distance: matrix}}} of the runs that are complete, each read once."""
    complete = sweep.complete if sweep.named else sweep.complete[:0].assign(run="", dataset="")
    if diverged := len(sweep.usable) - len(sweep.complete):
        notes.append(f"left out, diverged: {diverged}")
    matrices_of: dict[tuple[str, str, str, int], dict[str, dict[str, np.ndarray]]] = defaultdict(dict)
    unread = []
    for run, dataset in zip(complete["run"], complete["dataset"], strict=True):
        try:
            arrays = sweep.named[run].arrays()
        except ValueError as error:
            unread.append(f"{run} ({type(error).__name__}: {error})")
            continue
        for name, points in arrays.items():
            prefix = next((p for p in KINDS if name.startswith(p)), None)
            if prefix is None or points.ndim != 2 or points.dtype.kind not in "fiu" or not points.shape[1]:
                continue
            if len(points) > SAMPLES:
                points = points[np.linspace(0, len(points) - 1, SAMPLES).astype(int)]
            key = (str(dataset), KINDS[prefix], name.removeprefix(prefix), len(points))
            matrices_of[key][run] = {distance: distances(points, distance) for distance in chosen}
    if unread:
        more = f" and {len(unread) - 1} more" if unread[1:] else ""
        notes.append(f"left out, no readable arrays: {unread[0]}{more}")
    if matrices_of and not any(kind == "samples" for _, kind, _, _ in matrices_of):
        notes.append("by classes only: no run has recorded its representation of single samples")
    return matrices_of


def _mean_rdms(level: pd.Series, matrices: np.ndarray, about: dict[str, Any]) -> pd.DataFrame:
    """Rows of `rdms`: the mean distance of each pair of classes over the runs of a level that have all of them."""
    a, b = np.triu_indices(matrices.shape[1], 1)
    whole = np.isfinite(matrices).all(axis=(1, 2))
    parts = []
    for name in sorted(set(level[whole]), key=level_order):
        mean = matrices[whole & (level == name).to_numpy()].mean(axis=0)
        parts.append(pd.DataFrame({"a": a, "b": b, "dissimilarity": mean[a, b], "level": name}))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["a", "b", "dissimilarity", "level"])
    return table.assign(**{key: about[key] for key in ("dataset", "layer", "factor", "distance")})
