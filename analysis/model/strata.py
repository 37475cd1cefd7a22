"""Tests of a complete design: each effect against its own variation from seed to seed.

For an effect with d degrees of freedom, z_s are its d orthonormal contrasts of the means of seed s, z their mean over S
seeds and V their covariance (Maxwell, Delaney & Kelley 2018, Designing Experiments, ch. 11 to 14):

    F = S |z|² / tr V        df = d h and d h (S − 1)        h = min(1, (S d g − 2) / (d (S − 1 − d g)))

with g = (tr V)² / (d tr V²) (Greenhouse & Geisser 1959) and Huynh & Feldt's h (1976), which shortens the degrees of
freedom where levels differ in spread; where S − 1 ≤ d g, h is 1. Where factors lie between seeds, V is pooled within
their G combinations, and S − G stands for S − 1 (Lecoutre 1991). F is that of `aov(… + Error(seed/(A*B)))` in R.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

import numpy as np
from scipy import stats

from creditlab.analysis.model.design import LEAST_SEEDS, Design, Term
from creditlab.analysis.model.tests import Estimate, Test


@dataclass(repr=False)
class Strata:
    """A complete design and the values of metrics, (runs, metrics)."""

    design: Design
    values: np.ndarray
    _tests: dict[Term, Test] = field(default_factory=dict)

    def __post_init__(self) -> None:
        design = self.design
        axes = [design.varying.index(name) for name in design.within]
        self.shape = tuple(design.shape[axis] for axis in axes)  # of the factors within seeds
        self.cells_within = int(np.prod(self.shape))
        within = (
            np.ravel_multi_index(tuple(design.codes[:, axes].T), self.shape)
            if axes
            else np.zeros(len(self.values), int)
        )
        self.means = np.zeros((design.n_seeds, self.cells_within, self.values.shape[1]))
        np.add.at(self.means, (design.seeds, within), self.values)
        self.replicates = len(self.values) // (design.n_seeds * self.cells_within)
        self.means /= self.replicates
        first = np.unique(design.seeds, return_index=True)[1]
        between = [design.varying.index(name) for name in design.between]
        self.codes_between = design.codes[first][:, between]  # (seeds, factors between)
        self.groups, self.group = np.unique(self.codes_between, axis=0, return_inverse=True)
        self.group = self.group.ravel()
        self.sizes = np.bincount(self.group)

    @property
    def error_df(self) -> int:
        """Seeds less the combinations of the factors between seeds."""
        return self.design.n_seeds - len(self.groups)

    def test(self, term: Term) -> Test:
        """The F test of an effect, for all metrics."""
        if term not in self._tests:
            self._tests[term] = self._test(term)
        return self._tests[term]

    def _test(self, term: Term) -> Test:
        design, n, groups = self.design, self.design.n_seeds, len(self.groups)
        z = np.einsum("scm,cd->msd", self.means, self._directions([name for name in term if name in design.within]))
        d = z.shape[2]
        means = np.stack([z[:, self.group == g].mean(axis=1) for g in range(groups)], axis=1)  # (metrics, groups, d)
        away = z - means[:, self.group]
        squares = np.matmul(away.transpose(0, 2, 1), away)  # (metrics, d, d)
        error = np.trace(squares, axis1=1, axis2=2)
        between = [name for name in term if name in design.between]
        contrasts = self._contrasts(between)  # (df between, groups)
        effect = np.einsum("kg,mgd->mkd", contrasts, means)
        spread = np.linalg.inv((contrasts / self.sizes) @ contrasts.T)
        sum_sq = np.einsum("mkd,kl,mld->m", effect, spread, effect)
        df, free = d * len(contrasts), n - groups
        with np.errstate(divide="ignore", invalid="ignore"):  # no variation between seeds: NaN says so
            f = np.where(error > 0, sum_sq / df / (error / (d * free)), np.nan)
            low = error**2 / (d * (squares**2).sum(axis=(1, 2)))
        left = free - d * low
        h = np.where(left > 1e-9, ((free + 1) * d * low - 2) / np.where(left > 1e-9, d * left, 1), 1.0)
        epsilon = np.clip(h, low, 1) if d > 1 else np.ones_like(f)
        df1, df2 = df * epsilon, d * free * epsilon
        p = stats.f.sf(f, df1, df2) if self.error_df >= LEAST_SEEDS - 1 else np.full_like(f, np.nan)
        units = n * int(np.prod([design.shape[design.varying.index(name)] for name in term if name in design.within]))
        return Test(
            f, df1, df2, epsilon, p, df, float(d * free), self.replicates * sum_sq, self.replicates * error, units
        )

    def _directions(self, within: list[str]) -> np.ndarray:
        """Orthonormal contrasts of an effect of factors within seeds between their cells, (cells within, d)."""
        directions = np.ones((1, 1))
        for name, size in zip(self.design.within, self.shape, strict=True):
            if name in within:
                sums = np.vstack([np.eye(size - 1), -np.ones((1, size - 1))])
                of_factor = np.linalg.qr(sums)[0]
            else:
                of_factor = np.full((size, 1), size**-0.5)
            directions = np.kron(directions, of_factor)
        return directions

    def _contrasts(self, between: list[str]) -> np.ndarray:
        """The hypothesis of an effect of factors between seeds, on the means of groups weighted alike, (k, groups)."""
        contrasts = np.ones((1, 1))
        for name in self.design.between:
            size = len(self.design.levels[self.design.varying.index(name)])
            of_factor = np.eye(size)[:-1] - 1 / size if name in between else np.full((1, size), 1 / size)
            contrasts = np.kron(contrasts, of_factor)
        return contrasts

    def mean(self, weights: np.ndarray) -> np.ndarray:
        """The value of `estimate`, (metrics,)."""
        return self.estimate(weights).value

    def estimate(self, weights: np.ndarray) -> Estimate:
        """Σ weight · mean over the cells of the design's grid, for all metrics, from its values seed by seed.

        Nothing is assumed of the spread of levels: the error is that of the sum itself from seed to seed, and where
        several groups of seeds take part, the degrees of freedom are those of Welch (1947) and Satterthwaite (1946).
        """
        design = self.design
        axes = [design.varying.index(name) for name in (*design.between, *design.within)]
        by_group = weights.reshape(design.shape).transpose(axes).reshape(len(self.groups), self.cells_within)
        value, variance, quartic = (np.zeros(self.values.shape[1]) for _ in range(3))
        smallest = np.inf
        for g in np.flatnonzero(np.abs(by_group).max(axis=1) > 0):
            z = np.tensordot(self.means[self.group == g], by_group[g], axes=(1, 0))  # (seeds, metrics)
            n = len(z)
            value = value + z.mean(axis=0)
            of_mean = z.var(axis=0, ddof=1) / n if n > 1 else np.full(len(value), np.nan)
            variance, quartic = variance + of_mean, quartic + of_mean**2 / max(n - 1, 1)
            smallest = min(smallest, n)
        with np.errstate(divide="ignore", invalid="ignore"):
            df = np.where(variance > 0, variance**2 / quartic, np.nan)
        return Estimate(value, np.sqrt(variance), df, int(smallest))

    @cached_property
    def cell_squares(self) -> np.ndarray:
        """Squares of what seeds leave of the means of cells, (metrics,): the denominator of generalised η²."""
        means = np.stack([self.means[self.group == g].mean(axis=0) for g in range(len(self.groups))])
        return self.replicates * ((self.means - means[self.group]) ** 2).sum(axis=(0, 1))

    @cached_property
    def mean_squares(self) -> dict[Term, tuple[np.ndarray, int]]:
        """Of each error stratum, by the factors within seeds that vary in it: mean square (metrics,) of the means of
        cells, and its degrees of freedom. The last one, of all factors within, takes all that is above the order of the
        model.
        """
        within = self.design.within
        order = max(map(len, self.design.terms))
        taken = [term for size in range(order + 1) for term in combinations(within, size) if size < len(within)]
        squares = {}
        left, df = self.cell_squares / self.replicates, self.error_df * self.cells_within
        for term in taken:
            z = np.einsum("scm,cd->msd", self.means, self._directions(list(term)))
            means = np.stack([z[:, self.group == g].mean(axis=1) for g in range(len(self.groups))], axis=1)
            sum_sq, term_df = ((z - means[:, self.group]) ** 2).sum(axis=(1, 2)), self.error_df * z.shape[2]
            squares[term] = (sum_sq / term_df, term_df)
            left, df = left - sum_sq, df - term_df
        squares[tuple(within)] = (left.clip(min=0) / df, df)
        return squares

    def components(self, mean_squares: dict[Term, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        """Variance of seed, of each seed × effect within seeds and of the residual, (…, metrics); may be below 0.

        By default of `mean_squares`, else of those given in their place.
        """
        given = mean_squares or {term: square for term, (square, _) in self.mean_squares.items()}
        within = self.design.within
        sizes = dict(zip(within, self.shape, strict=True))

        def others(term: Term) -> int:
            return int(np.prod([sizes[name] for name in within if name not in term]))

        variances: dict[Term, np.ndarray] = {}
        residual = given[tuple(within)]
        for term in sorted((t for t in given if len(t) < len(within)), key=len, reverse=True):
            above = [variances[other] * others(other) for other in variances if set(other) > set(term)]
            variances[term] = (given[term] - residual - sum(above)) / others(term)
        named = {":".join(("seed", *term)): variances[term] for term in sorted(variances, key=len)}
        return {**named, "residual": residual}

    def effect_variance(self, term: Term) -> np.ndarray:
        """Mean square of an effect over the cells of the grid, less what chance adds to it, (metrics,)."""
        test = self.test(term)
        cells = self.design.n_seeds * self.cells_within * self.replicates
        return (test.sum_sq - test.df * test.error_sq / test.error_df) / cells
