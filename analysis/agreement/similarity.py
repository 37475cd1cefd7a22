"""Do runs arrange the classes alike? Similarity of representations, within a level of a factor against between levels.

Each run's layer gives a matrix of distances between items (classes, or test samples where a run has recorded them); two
runs are compared by the inner product of two vectors of unit length made from their matrices:

    RDM   ranks of the distances, centred: Spearman's ρ between representational dissimilarity matrices
          (Kriegeskorte, Mur, Bandettini 2008)
    CKA   −½ squared Euclidean distances, U-centred: debiased linear CKA, HSIC_u(K, L) / √(HSIC_u(K, K) HSIC_u(L, L))
          (Kornblith et al. 2019; HSIC_u of Song et al. 2007 is the inner product of U-centred Gram matrices, Székely &
          Rizzo 2014, and U-centring takes a Gram matrix and −½ the squared distances to the same matrix)

So every mean over pairs of runs is a difference of squared lengths of sums, and no matrix of all pairs is built.

*Pairs.* Runs of one seed share their initial weights, and two runs of one level (all else equal) never share a seed. So
within and between are both taken over pairs of runs of *different* seeds, all other factors equal; pairs of one seed
stand in a column of their own. p: levels permuted within blocks (the same other factors, the same seed where levels
share seeds), one-sided, (1 + #{within* ≥ within}) / (1 + draws). Intervals: jackknife over items
(ten classes are ten items, not 45 pairs) with Student's t; of a pair of levels on Fisher's scale. The jackknife counts
twice what of a variance is of pairs of items (Efron & Stein 1981), so (n − 2)/n of its variance is taken, for n items.
That is not all of it in within less between: of ten items its interval covers 97 to 98 %, not 95 %.

A run whose distances do not vary (a dead layer) has no such vector: it is left out and counted.
"""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse, stats
from scipy.spatial.distance import pdist, squareform

from creditlab.analysis.data.collect import Sweep
from creditlab.analysis.model.jackknife import reach
from creditlab.analysis.model.permutation import blocks, cells, shuffled
from creditlab.analysis.names import SEED, labels, natural

Distance = Literal["correlation", "euclidean"]
Measure = Literal["RDM", "CKA"]

ABOUT = ["dataset", "layer", "items", "n_items", "measure", "distance", "factor"]
COLUMNS = [
    *ABOUT,
    *["n_runs", "left_out", "within", "between", "difference", "ci_low", "ci_high", "p", "between_same_seed"],
]
PAIRS = [*ABOUT, "a", "b", "n_pairs", "similarity", "ci_low", "ci_high"]
RDMS = ["dataset", "layer", "factor", "level", "distance", "a", "b", "dissimilarity"]
KINDS = {"representation/": "classes", "sample_representation/": "samples"}
SAMPLES = 128  # at most, evenly spaced in the test set
DRAWS = 499  # permutations
GROUPS = 20  # of items that the jackknife leaves out in turn, at most
ALIKE = "runs left out, all their distances alike"


@dataclass(frozen=True)
class Similarity:
    table: pd.DataFrame  # COLUMNS; a row a layer, measure and factor: within against between
    pairs: pd.DataFrame  # PAIRS; a row a pair of levels, a level with itself included
    rdms: pd.DataFrame  # RDMS; mean distance of each pair of classes by level
    notes: list[str]


def distances(points: np.ndarray, distance: Distance) -> np.ndarray:
    """Distances of the rows of `points` (items, units), (items, items); 1 − Pearson's r, or Euclidean.

    NaN where a row is constant and the distance is a correlation.
    """
    return squareform(pdist(np.asarray(points, dtype=float), distance), checks=False)


def embed(matrices: np.ndarray, measure: Measure) -> np.ndarray:
    """The vectors (runs, pairs) of unit length whose inner products compare distance `matrices` (runs, items, items).

    CKA takes Euclidean distances and at least four items. A row is NaN where a matrix has NaN or does not vary.
    """
    n = matrices.shape[1]
    above = np.triu_indices(n, 1)
    if measure == "RDM":
        flat = matrices[:, *above]
        vectors = stats.rankdata(flat, axis=1) - (len(above[0]) + 1) / 2
        vectors[~np.isfinite(flat).all(axis=1)] = np.nan
        rounding = 0.0
    else:
        gram = -(matrices**2) / 2
        rows = gram.sum(axis=2)
        centred = gram - (rows[:, :, None] + rows[:, None, :]) / (n - 2)
        vectors = (centred + rows.sum(axis=1)[:, None, None] / ((n - 1) * (n - 2)))[:, *above]
        rounding = 1e-12
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    scale = np.abs(matrices).max(axis=(1, 2), initial=0)[:, None] ** 2
    length[~(length > rounding * scale)] = np.nan
    return vectors / length


@dataclass(frozen=True)
class _Runs:
    """Level, cell (all other factors) and seed of each run, as numbers from 0."""

    level: np.ndarray
    cell: np.ndarray
    seed: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        return int(self.level.max()) + 1, int(self.cell.max()) + 1, int(self.seed.max()) + 1


def _sums(vectors: np.ndarray, codes: np.ndarray, n: int) -> np.ndarray:
    """Sums of the rows of `vectors` by code, for each row of `codes` (draws, runs): (draws, n, pairs)."""
    draws, runs = codes.shape
    rows = (codes + n * np.arange(draws)[:, None]).ravel()
    pick = sparse.csr_array((np.ones(rows.size), (rows, np.tile(np.arange(runs), draws))), shape=(draws * n, runs))
    return np.asarray(pick @ vectors).reshape(draws, n, -1)


def _products(vectors: np.ndarray, runs: _Runs) -> tuple[np.ndarray, np.ndarray]:
    """Σ of inner products over ordered pairs of runs of one cell, by levels: different seeds, and the same seed.

    Two arrays (levels, levels); the second counts a run with itself.
    """
    levels, cells, seeds = runs.shape
    code = (runs.level * cells + runs.cell) * seeds + runs.seed
    used, index = np.unique(code, return_inverse=True)
    sums = _sums(vectors, index[None], len(used))[0]
    same = np.zeros((levels, levels))
    level, place = used // (cells * seeds), used % (cells * seeds)
    whole = np.zeros((levels, cells, vectors.shape[1]))
    np.add.at(whole, (level, place // seeds), sums)
    order = np.argsort(place, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(place[order])) + 1):
        same[np.ix_(level[members], level[members])] += sums[members] @ sums[members].T
    return np.einsum("acp,bcp->ab", whole, whole) - same, same


def _means(vectors: np.ndarray, runs: _Runs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean similarity by levels over pairs of different seeds, number of pairs, mean over pairs of one seed."""
    apart, together = _products(vectors, runs)
    n_apart, n_together = (np.rint(n) for n in _products(np.ones((len(vectors), 1)), runs))
    with np.errstate(invalid="ignore", divide="ignore"):
        return apart / n_apart, n_apart, together / n_together


def _contrast(means: np.ndarray, n: np.ndarray) -> tuple[float, float]:
    """Within and between: the mean over all pairs of runs of one level, and of two."""

    def mean(chosen: np.ndarray) -> float:
        return float((means[chosen] * n[chosen]).sum() / n[chosen].sum()) if n[chosen].any() else float("nan")

    own = np.eye(len(means), dtype=bool)
    return mean(own & (n > 0)), mean(~own & (n > 0))


def _permutation_p(vectors: np.ndarray, runs: _Runs, block: np.ndarray) -> float:
    """How often levels permuted within blocks are as alike within as the true ones. Permuting keeps the sum over all
    pairs and the numbers of pairs, so the sum over pairs within a level says it all.
    """
    levels, cells, seeds = runs.shape

    def within(level: np.ndarray) -> np.ndarray:
        code = level * cells + runs.cell
        total = (_sums(vectors, code, levels * cells) ** 2).sum(axis=(1, 2))
        seeded = code * seeds + runs.seed
        if len(np.unique(seeded[0])) == seeded.shape[1]:  # no two runs of a level and cell share a seed, however drawn
            return total
        used, index = np.unique(seeded, return_inverse=True)
        return total - (_sums(vectors, index.reshape(seeded.shape), len(used)) ** 2).sum(axis=(1, 2))

    generator = np.random.default_rng(0)
    observed = within(runs.level[None])[0]
    batch = max(1, 2**22 // (levels * cells * vectors.shape[1]))
    as_high = 0
    for start in range(0, DRAWS, batch):
        level = shuffled(runs.level, block, min(batch, DRAWS - start), generator)
        as_high += int((within(level) >= observed - 1e-9 * abs(observed)).sum())
    return (1 + as_high) / (1 + DRAWS)


def compare(
    settings: pd.DataFrame, matrices: np.ndarray, factor: str, others: Sequence[str], measure: Measure
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Within against between the levels of `factor`, and each pair of levels.

    `settings` has a row a run (`factor`, `others`, seed), `matrices` is (runs, items, items) of distances. Nothing
    depends on the order of rows. Gives a row of COLUMNS and rows of PAIRS, both without ABOUT.
    """
    words = labels(settings[[factor, *others, SEED]]).reset_index(drop=True)
    order = words.sort_values(list(words.columns), kind="stable").index.to_numpy()
    words, matrices = words.iloc[order].reset_index(drop=True), matrices[order]
    vectors = embed(matrices, measure)
    there = np.isfinite(vectors).all(axis=1)
    words, vectors, matrices = words[there].reset_index(drop=True), vectors[there], matrices[there]
    row: dict[str, Any] = {"n_runs": len(words), "left_out": int((~there).sum())}
    if words.empty or words[factor].nunique() < 2:
        return row | dict.fromkeys(COLUMNS[COLUMNS.index("within") :], float("nan")), pd.DataFrame(columns=PAIRS[7:])

    level, names = pd.factorize(words[factor], sort=True)
    runs = _Runs(level, cells(words, others), pd.factorize(words[SEED], sort=True)[0])
    means, n, together = _means(vectors, runs)
    within, between = _contrast(means, n)

    items = np.arange(matrices.shape[1])
    left_out = np.array_split(items, min(GROUPS, len(items)))
    parts, contrasts = [], []
    for group in left_out:
        kept = np.setdiff1d(items, group)
        part = embed(matrices[:, kept[:, None], kept], measure)
        part_means = _means(part, runs)[0]
        parts.append(np.arctanh(part_means.clip(-1 + 1e-12, 1 - 1e-12)))
        contrasts.append(np.subtract(*_contrast(part_means, n)))
    middle = np.arctanh(means.clip(-1 + 1e-12, 1 - 1e-12))
    around = reach(np.stack(parts), len(items))
    wide = float(reach(np.array(contrasts), len(items)))

    testable = np.isfinite(within) and np.isfinite(between)
    same_n = _products(np.ones((len(vectors), 1)), runs)[1]
    row |= {
        "within": within,
        "between": between,
        "difference": within - between,
        "ci_low": within - between - wide,
        "ci_high": within - between + wide,
        "p": _permutation_p(vectors, runs, blocks(words, factor, others)) if testable else float("nan"),
        "between_same_seed": _contrast(together, same_n)[1],
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
    usable = sweep.usable
    complete = usable[usable["status"] == "complete"]
    if len(complete) < len(usable):
        notes.append(f"left out, diverged: {len(usable) - len(complete)}")
    held: dict[tuple[str, str, str, int], dict[str, dict[str, np.ndarray]]] = defaultdict(dict)
    unread = []
    for run, dataset in zip(complete["run"], complete["dataset"], strict=True):
        try:
            arrays = sweep.named[run].arrays()
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            unread.append(f"{run} ({type(error).__name__}: {error})")
            continue
        for name, points in arrays.items():
            prefix = next((p for p in KINDS if name.startswith(p)), None)
            if prefix is None or points.ndim != 2:
                continue
            if len(points) > SAMPLES:
                points = points[np.linspace(0, len(points) - 1, SAMPLES).astype(int)]
            key = (str(dataset), KINDS[prefix], name.removeprefix(prefix), len(points))
            held[key][run] = {distance: distances(points, distance) for distance in chosen}
    if unread:
        more = f" and {len(unread) - 1} more" if unread[1:] else ""
        notes.append(f"left out, no readable arrays: {unread[0]}{more}")
    if held and not any(kind == "samples" for _, kind, _, _ in held):
        notes.append("by classes only: no run has recorded its representation of single samples")
    return held


def similarity(sweep: Sweep, distance: Distance = "correlation") -> Similarity:
    """RDMs and CKA by data set, layer and factor, from the runs that are complete."""
    notes: list[str] = []
    held = _representations(sweep, dict.fromkeys(("euclidean", distance)), notes)  # type: ignore[arg-type]
    settings = sweep.runs.set_index("run")
    rows, pairs, rdms = [], [], []
    for (dataset, kind, layer, n), runs in sorted(held.items(), key=lambda item: (*item[0][:2], natural(item[0][2]))):
        here = settings.loc[list(runs)]
        factors = [f for f in sweep.factors if f != "dataset" and len(set(labels(here[[f]])[f])) > 1]
        if n < 5:  # the jackknife leaves one out, and U-centring needs four
            notes.append(f"{dataset}, {layer}: {n} {kind} are too few to compare")
            continue
        ways: list[tuple[Measure, Distance]] = [("RDM", distance), ("CKA", "euclidean")]
        for measure, by in ways:
            matrices = np.stack([each[by] for each in runs.values()])
            for factor in factors:
                others = [f for f in factors if f != factor]
                about: dict[str, Any] = dict(zip(ABOUT, (dataset, layer, kind, n, measure, by, factor), strict=True))
                row, compared = compare(here, matrices, factor, others, measure)
                rows.append(about | row)
                if len(compared):
                    pairs.append(compared.assign(**about))
                if row["left_out"]:
                    notes.append(f"{dataset}, {layer}, {measure}: {ALIKE}: {row['left_out']}")
                if np.isnan(row["p"]):
                    notes.append(f"{dataset}, {layer}, {factor}: no two runs of one level differ by their seed alone")
                if measure == "RDM" and kind == "classes":
                    rdms.append(_mean_rdms(labels(here[[factor]])[factor], matrices, about))
    return Similarity(
        pd.DataFrame(rows, columns=COLUMNS),
        pd.concat(pairs, ignore_index=True)[PAIRS] if pairs else pd.DataFrame(columns=PAIRS),
        pd.concat(rdms, ignore_index=True) if rdms else pd.DataFrame(columns=RDMS),
        list(dict.fromkeys(notes)),
    )


def _mean_rdms(level: pd.Series, matrices: np.ndarray, about: dict[str, Any]) -> pd.DataFrame:
    """Rows of RDMS: the mean distance of each pair of classes over the runs of a level that have all of them."""
    a, b = np.triu_indices(matrices.shape[1], 1)
    there = np.isfinite(matrices).all(axis=(1, 2))
    parts = []
    for name in sorted(set(level[there])):
        mean = matrices[there & (level == name).to_numpy()].mean(axis=0)
        parts.append(pd.DataFrame({"a": a, "b": b, "dissimilarity": mean[a, b], "level": name}))
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["a", "b", "dissimilarity", "level"])
    return table.assign(**{key: about[key] for key in ("dataset", "layer", "factor", "distance")})[RDMS]
