"""Tests of a design that is not complete: a mixed model by REML, with the design's own random terms.

The seed is random, and so is seed × T for each set T of factors within seeds, up to the order of the interactions.
None of them is dropped because this sweep makes it small: its variance may even be estimated below 0. A bound at 0
would pool it with the residual, and tests would then count more degrees of freedom than there are seeds. In a complete
design this model gives the F and the degrees of freedom of `strata`.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy import stats

from creditlab.analysis.model.design import LEAST_SEEDS, Design, Term
from creditlab.analysis.model.reml import Reml
from creditlab.analysis.model.tests import Estimate, Test

LARGEST = 600  # random columns: what is beyond it joins the residual, which `pooled` says
SINGULAR = 1e-9  # of an eigenvalue, relative to the largest: none is left


def random_terms(design: Design) -> list[Term]:
    """The sets of factors whose effects vary from seed to seed; the empty one is the seed itself."""
    order = max((len(term) for term in design.terms), default=1)
    return [term for size in range(order + 1) for term in combinations(design.within, size)]


class Mixed:
    """The model of a design, fitted to each metric of `values` (runs, metrics).

    A random term that the runs cannot separate from those before it, or from the residual, is left out: `left_out`.
    In a very large design those of highest order join the residual: `pooled`.
    """

    def __init__(self, design: Design, values: np.ndarray) -> None:
        self.design = design
        self.random: list[Term] = []
        self.left_out: list[Term] = []
        self.pooled: list[Term] = []
        x = design.matrix()
        self.reml = Reml(x, self._choose(x), values)

    def _choose(self, x: np.ndarray) -> list[np.ndarray]:
        """The indicators of each random term that the runs can estimate, (runs, groups).

        A variance can be estimated if its Z Z', with the mean model taken out, is no sum of those before it and of I.
        """
        design = self.design
        q = np.linalg.qr(x)[0]
        kept: list[np.ndarray] = []
        spaces: list[np.ndarray] = []
        gram = np.array([[float(x.shape[0] - x.shape[1])]])  # of Z Z' of the terms, the residual's I first
        for term in random_terms(design):
            axes = [design.varying.index(name) for name in term]
            keys = np.column_stack([design.seeds, design.codes[:, axes]])
            member = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
            groups = int(member.max()) + 1
            if groups == len(x):
                continue  # one run in each: the residual itself
            if groups + sum(each.shape[1] for each in kept) > LARGEST:
                self.pooled.append(term)
                continue
            columns = np.eye(groups)[member]
            z = columns - q @ (q.T @ columns)
            row = np.array([(z**2).sum(), *(((other.T @ z) ** 2).sum() for other in [*spaces, z])])
            larger = np.block([[gram, row[:-1, None]], [row[None]]])
            scale = np.sqrt(larger.diagonal())
            if scale.min() > 0 and np.linalg.eigvalsh(larger / np.outer(scale, scale))[0] > SINGULAR:
                gram = larger
                spaces.append(z)
                kept.append(columns)
                self.random.append(term)
            else:
                self.left_out.append(term)
        return kept

    def test(self, term: Term) -> Test:
        """The F test of an effect, for all metrics."""
        rows = np.eye(self.reml.p)[self.design.columns_of[term]]
        results = np.array([solution.f_test(rows) for solution in self.reml.solutions])
        f, df2 = results[:, 0], results[:, 1]
        ones = np.ones(len(f))
        df = len(rows)
        enough = self.design.n_seeds >= LEAST_SEEDS
        p = stats.f.sf(f, df, df2) if enough else np.full(len(f), np.nan)
        axes = [self.design.varying.index(name) for name in term]
        units = len(np.unique(np.column_stack([self.design.seeds, self.design.codes[:, axes]]), axis=0))
        return Test(f, df * ones, df2, ones, p, df, df2, np.nan * ones, np.nan * ones, units)

    def mean(self, weights: np.ndarray) -> np.ndarray:
        """The value of `estimate`, (metrics,)."""
        row = weights @ self.design.matrix(self.design.grid)
        return (
            np.array([row @ each.beta for each in self.reml.solutions]) * self.reml.spread
            + weights.sum() * self.reml.average
        )

    def estimate(self, weights: np.ndarray) -> Estimate:
        """Σ weight · mean over the cells of the design's grid, for all metrics."""
        row = weights @ self.design.matrix(self.design.grid)
        value, error, df = np.array([solution.estimate(row) for solution in self.reml.solutions]).T
        value = value * self.reml.spread + weights.sum() * self.reml.average
        chosen = np.isin(self.design.cells(), np.flatnonzero(np.abs(weights) > 0))
        seeds = len(np.unique(self.design.seeds[chosen]))
        return Estimate(value, error * self.reml.spread, df, seeds)

    def components(self) -> dict[str, np.ndarray]:
        """Variance of each random term and of the residual, (metrics,); may be below 0."""
        named = {":".join(("seed", *term)): k for k, term in enumerate(self.random)}
        scale = self.reml.spread**2
        of_terms = {
            name: np.array([s.theta[k] * s.sigma_sq for s in self.reml.solutions]) * scale for name, k in named.items()
        }
        return {**of_terms, "residual": np.array([s.sigma_sq for s in self.reml.solutions]) * scale}

    def effect_variance(self, term: Term) -> np.ndarray:
        """Mean square of an effect over the cells of the grid, less what chance adds to it, (metrics,)."""
        x = np.zeros((len(self.design.grid), self.reml.p))
        columns = self.design.columns_of[term]
        x[:, columns] = self.design.columns(term, self.design.grid)
        of_metrics = [
            ((x @ s.beta) ** 2).mean() - np.einsum("ij,jk,ik->i", x, s.inverse * s.sigma_sq, x).mean()
            for s in self.reml.solutions
        ]
        return np.array(of_metrics) * self.reml.spread**2
