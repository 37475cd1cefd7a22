"""Which effects a set of runs can tell apart: the model of an analysis of variance, from its factors alone.

    y = mean + main effects + two-way interactions + seed (block) + residual

An effect stays if its columns are linearly independent of those before it, so its degrees of freedom are those of
the design's rank (statsmodels 0.15 prints 16 for an interaction with an empty cell whose rank is 15). What cannot be
told apart is left out, and a note says what and why. The seed is a block where cells share seeds: creditlab gives runs
of one seed the same initial weights and batches, so their contrasts are paired.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import combinations, islice, product

import numpy as np
import pandas as pd

SEED = "seed"
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

    def empty(self, names: Sequence[str]) -> str:
        """The combinations of the levels of `names` that have no run, in words: the first few and how many more."""
        axes = [self.axes.index(name) for name in names]
        there = set(map(tuple, self.codes[:, axes].tolist()))
        shape = [len(self.levels[a]) for a in axes]
        cells = islice((c for c in product(*map(range, shape)) if c not in there), 3)
        words = [", ".join(f"{n}={self.levels[a][i]}" for n, a, i in zip(names, axes, c, strict=True)) for c in cells]
        more = math.prod(shape) - len(there) - len(words)
        return "; ".join(words) + (f"; and {more} cells more" if more else "")


def _crossed(settings: pd.DataFrame, factors: Sequence[str]) -> bool:
    """Whether some seed occurs in more than one cell."""
    seeds = settings[[*factors, SEED]].drop_duplicates()[SEED]
    return len(set(seeds)) > 1 and bool(seeds.duplicated().any())


def labels(settings: pd.DataFrame) -> pd.DataFrame:
    """Levels as words; a key that an option does not have is a level too."""
    return settings.astype(object).map(lambda level: "absent" if pd.isna(level) else str(level))


def build(settings: pd.DataFrame, factors: Sequence[str]) -> Design:
    """The model for runs with these `settings`: a row a run, a column for each of `factors` and one for the seed."""
    settings = labels(settings[[*factors, SEED]])
    varying = [f for f in factors if len(set(settings[f])) > 1]
    notes = [f"{f} does not vary: {settings[f].iloc[0]} only" for f in factors if f not in varying]
    block = _crossed(settings, varying)
    if len(set(settings[SEED])) == 1:
        notes.append("one seed: how much a result varies from seed to seed is not known")
    elif not block:
        notes.append("no two cells share a seed: seeds are replicates, not a block")

    axes = [*varying, *[SEED] * block]
    coded = [pd.factorize(settings[axis], sort=True) for axis in axes]
    codes = np.stack([c for c, _ in coded], axis=1) if axes else np.zeros((len(settings), 0), int)
    design = Design(axes, codes, [list(names) for _, names in coded], notes=notes)
    if not varying:
        design.reason = "no factor varies among the runs that have it"
        return design

    design.holes = design.empty(varying)
    mains: list[Term] = [(name,) for name in axes]
    pairs: list[Term] = []
    for pair in combinations(varying, 2):
        if holes := design.empty(pair):
            notes.append(f"{':'.join(pair)} left out: no run at {holes}")
        else:
            pairs.append(pair)
    if design.holes and len(pairs) == len(list(combinations(varying, 2))):
        notes.append(f"no run at {design.holes}; the effects of the model can be estimated all the same")
    design.terms = [*mains, *pairs]
    if not design.balanced:
        _keep_estimable(design)
    if design.residual_df < 1 and pairs:
        design.terms = [term for term in design.terms if len(term) == 1]
        notes.append("interactions left out: with them no residual degree of freedom is left to test against")
    if design.residual_df < 1:
        design.terms = []
        design.reason = (
            f"no residual degree of freedom: {len(codes)} runs are no more than the model has parameters; add seeds"
        )
    design.terms.sort(key=lambda term: (term == (SEED,), len(term)))
    return design


def _keep_estimable(design: Design) -> None:
    """Drop each term that does not add all its columns to the rank of those before it, and what contains it."""
    kept: list[Term] = []
    columns = np.ones((len(design.codes), 1))
    rank = 1
    for term in design.terms:
        more = np.hstack([columns, design.columns(term)])
        marginal = len(term) == 1 or all((name,) in kept for name in term)
        # The rank of X'X is that of X, and X'X is small; its entries are whole numbers, so the rank is clear-cut.
        if marginal and np.linalg.matrix_rank(more.T @ more, hermitian=True) == rank + design.df(term):
            kept.append(term)
            columns, rank = more, rank + design.df(term)
        else:
            design.notes.append(f"{':'.join(term)} left out: the runs cannot tell it from the effects before it")
    design.terms = kept
