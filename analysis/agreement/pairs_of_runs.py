"""Similarity of pairs of runs: means over pairs by level, without a matrix of all pairs.

Each run's layer gives a matrix of distances between items; two runs are compared by the inner product of two vectors of
unit length made from their matrices. So every mean over pairs of runs is a difference of squared lengths of sums.

    RDM   ranks of the distances, centred: Spearman's ρ between representational dissimilarity matrices
          (Kriegeskorte, Mur, Bandettini 2008)
    CKA   −½ squared Euclidean distances, U-centred: debiased linear CKA, HSIC_u(K, L) / √(HSIC_u(K, K) HSIC_u(L, L))
          (Kornblith et al. 2019; HSIC_u of Song et al. 2007 is the inner product of U-centred Gram matrices, Székely &
          Rizzo 2014, and U-centring takes a Gram matrix and −½ the squared distances to the same matrix)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse, stats
from scipy.spatial.distance import pdist, squareform

from creditlab.analysis.model.permutation import p_value, shuffled

Distance = Literal["correlation", "euclidean"]
Measure = Literal["RDM", "CKA"]
DRAWS = 499  # permutations


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
class Runs:
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


def products(vectors: np.ndarray, runs: Runs) -> tuple[np.ndarray, np.ndarray]:
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


def means_by_level(vectors: np.ndarray, runs: Runs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean similarity by levels over pairs of different seeds, number of pairs, mean over pairs of one seed."""
    apart, together = products(vectors, runs)
    n_apart, n_together = (np.rint(n) for n in products(np.ones((len(vectors), 1)), runs))
    with np.errstate(invalid="ignore", divide="ignore"):
        return apart / n_apart, n_apart, together / n_together


def within_and_between(means: np.ndarray, n: np.ndarray) -> tuple[float, float]:
    """Within and between: the mean over all pairs of runs of one level, and of two."""

    def mean(chosen: np.ndarray) -> float:
        return float((means[chosen] * n[chosen]).sum() / n[chosen].sum()) if n[chosen].any() else float("nan")

    one_level = np.eye(len(means), dtype=bool)
    return mean(one_level & (n > 0)), mean(~one_level & (n > 0))


def permutation_p(vectors: np.ndarray, runs: Runs, block: np.ndarray) -> float:
    """How often levels permuted within blocks are as alike within as the true ones. Permuting keeps the sum over all
    pairs and the numbers of pairs, so the sum over pairs within a level decides.
    """
    levels, cells, seeds = runs.shape

    def likeness(level: np.ndarray) -> np.ndarray:
        code = level * cells + runs.cell
        total = (_sums(vectors, code, levels * cells) ** 2).sum(axis=(1, 2))
        seeded = code * seeds + runs.seed
        if len(np.unique(seeded[0])) == seeded.shape[1]:  # no two runs of a level and cell share a seed, however drawn
            return total
        used, index = np.unique(seeded, return_inverse=True)
        return total - (_sums(vectors, index.reshape(seeded.shape), len(used)) ** 2).sum(axis=(1, 2))

    generator = np.random.default_rng(0)
    observed = likeness(runs.level[None])[0]
    batch = max(1, 2**22 // (levels * cells * vectors.shape[1]))
    sizes = [min(batch, DRAWS - start) for start in range(0, DRAWS, batch)]
    sums = [likeness(shuffled(runs.level, block, size, generator)) for size in sizes]
    return float(p_value(np.concatenate(sums) >= observed - 1e-9 * abs(observed)))
