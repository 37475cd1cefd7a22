"""Which effects a set of runs can separate: the model of an analysis of variance, from its factors alone.

    y = mean + main effects + interactions (of two factors, or up to the order asked) + seed (block) + residual

An effect stays if its columns are linearly independent of those before it, so its degrees of freedom are those of
the design's rank (statsmodels 0.15 prints 16 for an interaction with an empty cell whose rank is 15). What cannot
be separated is left out, and a note says what and why. The seed is a block where cells share seeds: creditlab gives
runs of one seed the same initial weights and batches, so their contrasts are paired.
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


@dataclass
class Design:
    """A model that the runs can bear, or the reason why there is none (then `terms` is empty)."""

    axes: list[str]  # the factors that vary, then the seed if it is a block
    codes: np.ndarray  # (runs, axes): the level of each run, 0, 1, …
    levels: list[list[str]]  # by axis
    terms: list[Term] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reason: str = ""
    holes: str = ""  # the combinations of levels that have no run, in words

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(names) for names in self.levels)

    @property
    def paired(self) -> bool:
        """Whether the seed is a block of the model, so that runs of one seed are compared with each other."""
        return (SEED,) in self.terms

    @property
    def effects(self) -> list[Term]:
        """The terms but the seed."""
        return [term for term in self.terms if term != (SEED,)]

    @property
    def varying(self) -> list[str]:
        """The factors that vary: the axes but the seed."""
        return [axis for axis in self.axes if axis != SEED]

    @property
    def cell_shape(self) -> tuple[int, ...]:
        """The number of levels of each factor that varies."""
        return tuple(n for axis, n in zip(self.axes, self.shape, strict=True) if axis != SEED)

    @property
    def seeds(self) -> np.ndarray:
        """The number of each run's seed where the seed is a block of the model, else 0 for all, (runs,)."""
        return self.codes[:, self.axes.index(SEED)] if self.paired else np.zeros(len(self.codes), int)

    @property
    def role_of_seed(self) -> str:
        """What the seed is in the model."""
        if not self.paired:
            return "replicate"
        once = len(np.unique(self.codes, axis=0)) == len(self.codes)
        if self.balanced:
            return "random block, repeated measures" if once else "random block, replicated"
        return "random block, incomplete"

    @property
    def balanced(self) -> bool:
        """Whether each combination of levels (and seeds) has the same number of runs, and none is empty."""
        counts = np.unique(self.codes, axis=0, return_counts=True)[1]
        return len(counts) == math.prod(self.shape) and len(set(counts)) == 1

    def df(self, term: Term) -> int:
        return math.prod(len(self.levels[self.axes.index(name)]) - 1 for name in term)

    @property
    def residual_df(self) -> int:
        return len(self.codes) - 1 - sum(map(self.df, self.terms))

    def columns(self, term: Term) -> np.ndarray:
        """The sum-coded columns of `term`, (runs, df)."""
        coded = []
        for name in term:
            axis = self.axes.index(name)
            eye = np.eye(len(self.levels[axis]))[self.codes[:, axis]]
            coded.append(eye[:, :-1] - eye[:, -1:])
        return reduce(lambda a, b: (a[:, :, None] * b[:, None, :]).reshape(len(a), -1), coded)

    def contrasts(self, term: Term) -> np.ndarray:
        """The contrasts of `term` between cells in the order of `cells`, (df, cells); all cells must be filled."""
        matrix = np.ones((1, 1))
        for axis, levels in zip(self.varying, self.cell_shape, strict=True):
            of_axis = np.eye(levels)[:-1] - 1 / levels if axis in term else np.full((1, levels), 1 / levels)
            matrix = np.kron(matrix, of_axis)
        return matrix

    @cached_property
    def columns_of(self) -> dict[Term, list[int]]:
        """Where the columns of each effect stand among those of all effects."""
        ends = np.cumsum([0, *map(self.df, self.effects)])
        return {term: list(range(a, b)) for term, a, b in zip(self.effects, ends, ends[1:], strict=False)}

    @cached_property
    def matrix(self) -> np.ndarray:
        """The columns of all effects, (runs, df of the effects)."""
        return np.hstack([self.columns(term) for term in self.effects])

    @cached_property
    def factorised(self) -> tuple[np.ndarray, np.ndarray]:
        """Q and R of `matrix`, centred within seeds where these are a block."""
        q, r = np.linalg.qr(self.within(self.matrix))
        return q, r

    def determines(self, source: int, target: int) -> bool:
        """Whether each level of the axis `source` occurs with one level of `target`."""
        pairs = np.unique(self.codes[:, [source, target]], axis=0)
        return len(pairs) == len(np.unique(pairs[:, 0]))

    def cells(self) -> np.ndarray:
        """The number of each run's combination of levels, the seed aside: 0, 1, …, (runs,)."""
        axes = [axis for axis, name in enumerate(self.axes) if name != SEED]
        return np.unique(self.codes[:, axes], axis=0, return_inverse=True)[1].ravel()

    def within(self, values: np.ndarray) -> np.ndarray:
        """`values` (runs, …) less their mean over each seed where the seed is a block in the model, else over all."""
        if not self.paired:
            return values - values.mean(axis=0)
        seeds = self.seeds
        order = np.argsort(seeds, kind="stable")
        starts = np.unique(seeds[order], return_index=True)[1]
        means = np.add.reduceat(values[order], starts, axis=0) / np.diff([*starts, len(values)])[:, None]
        return values - means[seeds]

    def empty(self, names: Sequence[str]) -> str:
        """The combinations of the levels of `names` that have no run, in words: the first few and how many more."""
        axes = [self.axes.index(name) for name in names]
        filled = set(map(tuple, self.codes[:, axes].tolist()))
        shape = [len(self.levels[a]) for a in axes]
        cells = islice((c for c in product(*map(range, shape)) if c not in filled), 3)
        words = [", ".join(f"{n}={self.levels[a][i]}" for n, a, i in zip(names, axes, c, strict=True)) for c in cells]
        more = math.prod(shape) - len(filled) - len(words)
        return "; ".join(words) + (f"; and {more} cells more" if more else "")


def _crossed(settings: pd.DataFrame, factors: Sequence[str]) -> bool:
    """Whether some seed occurs in more than one cell."""
    seeds = settings[[*factors, SEED]].drop_duplicates()[SEED]
    return len(set(seeds)) > 1 and bool(seeds.duplicated().any())


def build(settings: pd.DataFrame, factors: Sequence[str], order: int = 2) -> Design:
    """The model for runs with these `settings`: one row per run, a column for each of `factors` and one for the seed.

    `order` is the greatest number of factors in an interaction; 1 leaves the main effects.
    """
    settings = labels(settings[[*factors, SEED]])
    varying = [f for f in factors if len(set(settings[f])) > 1]
    notes = [f"{f} does not vary: {settings[f].iloc[0]} only" for f in factors if f not in varying]
    block = _crossed(settings, varying)
    if len(set(settings[SEED])) == 1:
        notes.append("one seed: how much a result varies from seed to seed is not known")
    elif not block:
        notes.append("no two cells share a seed: seeds are replicates, not a block")

    axes = [*varying, *[SEED] * block]
    by_axis = [coded(settings[axis]) for axis in axes]
    codes = np.stack([numbers for numbers, _ in by_axis], axis=1) if axes else np.zeros((len(settings), 0), int)
    design = Design(axes, codes, [levels for _, levels in by_axis], notes=notes)
    if not varying:
        design.reason = "no factor varies among the runs that have it"
        return design

    design.holes = design.empty(varying)
    mains: list[Term] = [(name,) for name in axes]
    wanted = [term for size in range(2, order + 1) for term in combinations(varying, size)]
    filled: list[Term] = []
    for term in wanted:
        if holes := design.empty(term):
            notes.append(f"{':'.join(term)} left out: no run at {holes}")
        else:
            filled.append(term)
    if design.holes and filled == wanted:
        notes.append(f"no run at {design.holes}; the effects of the model can be estimated all the same")
    design.terms = [*mains, *filled]
    if not design.balanced:
        _keep_estimable(design)
    while design.residual_df < 1 and (largest := max(map(len, design.terms))) > 1:
        design.terms = [term for term in design.terms if len(term) < largest]
        of = f" of {largest} factors" if largest > 2 else ""
        notes.append(f"interactions{of} left out: with them no residual degree of freedom is left to test against")
    if design.residual_df < 1:
        design.terms = []
        design.reason = (
            f"no residual degree of freedom: {len(codes)} runs are no more than the model has parameters; add seeds"
        )
    design.terms.sort(key=lambda term: (term == (SEED,), len(term)))
    return design


def _keep_estimable(design: Design) -> None:
    """Drop each term that does not add all its columns to the rank of those before it, and what contains it."""
    blocks = [np.ones((len(design.codes), 1)), *map(design.columns, design.terms)]
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
        axis = design.axes.index(term[0])
        mains = [name for (name,) in (t for t in kept if len(t) == 1)]
        sources = [name for name in mains if design.determines(design.axes.index(name), axis)]
        why = f"cannot be separated from {sources[0]}, which determines its value" if len(term) == 1 and sources else ""
        why = why or "the runs cannot tell it from the effects before it"
        design.notes.append(f"{':'.join(term)} left out: {why}")
    design.terms = kept
