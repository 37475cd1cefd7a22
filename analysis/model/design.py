"""Which effects a set of runs can separate, and against what each is tested: the model, from the factors and seeds.

    y = mean + effects of factors and of their combinations + seed + seed × factors + residual

The effects of factors are fixed: their levels are those one asks about. Seeds are random: they stand for all seeds that
one could have drawn, and the effect of a factor may vary from seed to seed. A factor is *within* seeds if some seed has
several of its levels, else *between* seeds. A design is *complete* if every seed has every combination of the factors
within, equally often, and every combination of the factors between has seeds.

An effect stays in the model if its columns are linearly independent of those before it. What cannot be separated is
left out, and a note says what and why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from itertools import combinations, islice, product

import numpy as np
import pandas as pd

from creditlab.analysis.names import SEED, coded, labels

Term = tuple[str, ...]

LEAST_SEEDS = 3  # for a verdict: with two, a difference has one degree of freedom, and its error is hardly known


def name_of(term: Term) -> str:
    return ":".join(term)


@dataclass
class Design:
    """A model that the runs can bear, or the reason why there is none (then `terms` is empty)."""

    varying: list[str]  # the factors that vary
    codes: np.ndarray  # (runs, factors): the level of each run, 0, 1, …
    levels: list[list[str]]  # by factor
    seeds: np.ndarray  # (runs,): the number of each run's seed, 0, 1, …
    terms: list[Term] = field(default_factory=list)  # the fixed effects
    notes: list[str] = field(default_factory=list)
    reason: str = ""
    holes: str = ""  # the combinations of levels that have no run, in words

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of levels of each factor."""
        return tuple(map(len, self.levels))

    @cached_property
    def n_seeds(self) -> int:
        return int(self.seeds.max()) + 1

    @cached_property
    def within(self) -> list[str]:
        """The factors of which some seed has several levels."""
        return [name for axis, name in enumerate(self.varying) if not self._one_level_per_seed(axis)]

    @property
    def between(self) -> list[str]:
        """The factors of which every seed has one level."""
        return [name for name in self.varying if name not in self.within]

    def _one_level_per_seed(self, axis: int) -> bool:
        pairs = np.unique(np.stack([self.seeds, self.codes[:, axis]], axis=1), axis=0)
        return len(pairs) == self.n_seeds

    @cached_property
    def complete(self) -> bool:
        """Whether each term has a stratum of its own: see the head of this file."""
        pairs, counts = np.unique(np.stack([self.seeds, self.cells()], axis=1), axis=0, return_counts=True)
        within = math.prod(self._size(name) for name in self.within)
        between = math.prod(self._size(name) for name in self.between)
        filled = len(np.unique(self.codes[:, [self.varying.index(name) for name in self.between]], axis=0))
        whole = len(pairs) == self.n_seeds * within and len(set(counts)) == 1
        return whole and filled == max(between, 1) and self.n_seeds > between

    def _size(self, name: str) -> int:
        return len(self.levels[self.varying.index(name)])

    def df(self, term: Term) -> int:
        """Degrees of freedom of an effect."""
        return math.prod(self._size(name) - 1 for name in term)

    def columns(self, term: Term, codes: np.ndarray | None = None) -> np.ndarray:
        """The sum-coded columns of `term`, (rows, df): of the runs, or of rows of `codes`."""
        codes = self.codes if codes is None else codes
        by_factor = []
        for name in term:
            axis = self.varying.index(name)
            eye = np.eye(len(self.levels[axis]))[codes[:, axis]]
            by_factor.append(eye[:, :-1] - eye[:, -1:])
        ones = np.ones((len(codes), 1))
        return reduce(lambda a, b: (a[:, :, None] * b[:, None, :]).reshape(len(a), -1), by_factor, ones)

    def matrix(self, codes: np.ndarray | None = None) -> np.ndarray:
        """The mean's column and those of all effects, (rows, 1 + df of the effects): of the runs, or of `codes`."""
        return np.hstack([self.columns(term, codes) for term in [(), *self.terms]])

    @cached_property
    def columns_of(self) -> dict[Term, slice]:
        """Where the columns of each effect stand in `matrix`."""
        ends = np.cumsum([1, *map(self.df, self.terms)])
        return {term: slice(int(a), int(b)) for term, a, b in zip(self.terms, ends, ends[1:], strict=False)}

    @cached_property
    def grid(self) -> np.ndarray:
        """All combinations of levels, (cells, factors), the last factor changing fastest."""
        return np.indices(self.shape).reshape(len(self.shape), -1).T

    def cells(self) -> np.ndarray:
        """The number of each run's combination of levels in `grid`, (runs,)."""
        return np.ravel_multi_index(tuple(self.codes.T), self.shape)

    def level_weights(self, term: Term, levels: Sequence[int]) -> np.ndarray:
        """Of the mean at the `levels` of the factors of `term`: the weight of each cell of `grid`, which sum to 1."""
        axes = [self.varying.index(name) for name in term]
        chosen = (self.grid[:, axes] == np.asarray(levels)).all(axis=1)
        return chosen / chosen.sum()

    def determines(self, source: int, target: int) -> bool:
        """Whether each level of the factor number `source` occurs with one level of that of `target`."""
        pairs = np.unique(self.codes[:, [source, target]], axis=0)
        return len(pairs) == len(np.unique(pairs[:, 0]))

    def empty(self, names: Sequence[str]) -> str:
        """The combinations of the levels of `names` that have no run, in words: the first few and how many more."""
        axes = [self.varying.index(name) for name in names]
        filled = set(map(tuple, self.codes[:, axes].tolist()))
        shape = [len(self.levels[a]) for a in axes]
        cells = islice((c for c in product(*map(range, shape)) if c not in filled), 3)
        words = [", ".join(f"{n}={self.levels[a][i]}" for n, a, i in zip(names, axes, c, strict=True)) for c in cells]
        more = math.prod(shape) - len(filled) - len(words)
        return "; ".join(words) + (f"; and {more} cells more" if more else "")

    @property
    def in_words(self) -> str:
        """How effects are tested, for a reader."""
        if self.complete:
            how = "each effect is tested against its own variation from seed to seed (error strata)"
        else:
            how = "mixed model by REML: seed and seed × factor are random"
        between = f"; {', '.join(self.between)} varies between seeds" if self.between and self.within else ""
        alone = "; no two cells share a seed" if not self.within else ""
        return how + between + alone


def build(settings: pd.DataFrame, factors: Sequence[str], order: int = 2) -> Design:
    """The model for runs with these `settings`: one row per run, a column for each of `factors` and one for the seed.

    `order` is the greatest number of factors in an interaction; 1 leaves the main effects.
    """
    settings = labels(settings[[*factors, SEED]])
    varying = [f for f in factors if len(set(settings[f])) > 1]
    notes = [f"{f} does not vary: {settings[f].iloc[0]} only" for f in factors if f not in varying]
    by_factor = [coded(settings[name]) for name in varying]
    codes = np.stack([numbers for numbers, _ in by_factor], axis=1) if varying else np.zeros((len(settings), 0), int)
    design = Design(varying, codes, [levels for _, levels in by_factor], coded(settings[SEED])[0], notes=notes)
    if not varying:
        design.reason = "no factor varies among the runs that have it"
        return design
    if design.n_seeds == 1:
        design.reason = "one seed: how much a result varies from seed to seed is not known; add seeds"
        return design
    if not design.within and design.n_seeds <= len(np.unique(codes, axis=0)):
        design.reason = "one seed in each cell, and no two cells share a seed: nothing to test against; add seeds"
        return design

    design.holes = design.empty(varying)
    wanted = [term for size in range(1, order + 1) for term in combinations(varying, size)]
    for term in wanted:
        if holes := design.empty(term):
            notes.append(f"{name_of(term)} left out: no run at {holes}")
        else:
            design.terms.append(term)
    if design.holes and design.terms == wanted:
        notes.append(f"no run at {design.holes}; the effects of the model can be estimated all the same")
    if design.holes:
        _keep_estimable(design)
    if design.n_seeds < LEAST_SEEDS:
        notes.append("two seeds: estimates without verdicts; a third seed gives them")
    return design


def _keep_estimable(design: Design) -> None:
    """Drop each term that does not add all its columns to the rank of those before it, and what contains it."""
    blocks = [design.columns(term) for term in [(), *design.terms]]
    ends = np.cumsum([block.shape[1] for block in blocks])
    # The rank of X'X is that of X, and X'X is small; its entries are whole numbers, so the rank is clear-cut.
    columns = np.hstack(blocks)
    products = columns.T @ columns
    kept: list[Term] = []
    chosen = [0]
    for term, start, end in zip(design.terms, ends, ends[1:], strict=False):
        more = [*chosen, *range(start, end)]
        marginal = len(term) == 1 or all(part in kept for part in combinations(term, len(term) - 1))
        if marginal and np.linalg.matrix_rank(products[np.ix_(more, more)], hermitian=True) == len(more):
            kept.append(term)
            chosen = more
            continue
        axis = design.varying.index(term[0])
        mains = [name for (name,) in (t for t in kept if len(t) == 1)]
        sources = [name for name in mains if design.determines(design.varying.index(name), axis)]
        why = f"cannot be separated from {sources[0]}, which determines its value" if len(term) == 1 and sources else ""
        why = why or "the runs cannot tell it from the effects before it"
        design.notes.append(f"{name_of(term)} left out: {why}")
    design.terms = kept
