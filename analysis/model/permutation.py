"""Permutations that keep what must be kept: they shuffle within blocks only.

If a factor does nothing, the runs that agree in all else are exchangeable: those of one cell of the other factors and,
where levels share seeds (creditlab gives them the same initial weights and batches), of one seed.
p = (1 + #{as extreme}) / (1 + draws) then holds its level whatever the distribution (Phipson, Smyth 2010).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from creditlab.analysis.names import SEED, labels


def cells(words: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """The combination of `columns` of each row, as a number from 0."""
    if not len(columns):
        return np.zeros(len(words), dtype=np.int64)
    return words.groupby(list(columns), sort=True).ngroup().to_numpy()


def blocks(settings: pd.DataFrame, factor: str, others: Sequence[str]) -> np.ndarray:
    """The block of each row, as a number: runs of one block differ by `factor` alone, or by their seed too where no
    two levels share one."""
    words = labels(settings[[factor, *others, SEED]])
    paired = cells(words, [*others, SEED])
    shares = words[factor].groupby(paired).agg(lambda level: len(set(level))).max() > 1
    return paired if shares else cells(words, others)


def orders(block: np.ndarray, draws: int, generator: np.random.Generator) -> np.ndarray:
    """`draws` random orders of the rows, (draws, rows), which move each row within its `block` (rows,) only."""
    by_block = np.argsort(block, kind="stable")
    drawn = np.empty((draws, len(block)), dtype=np.intp)
    for order in drawn:
        order[by_block] = np.lexsort((generator.random(len(block)), block))
    return drawn


def shuffled(values: np.ndarray, block: np.ndarray, draws: int, generator: np.random.Generator) -> np.ndarray:
    """`draws` permutations of `values` (rows,) within blocks, (draws, rows)."""
    return values[orders(block, draws, generator)]


def p_value(as_extreme: np.ndarray) -> np.ndarray:
    """p of a test from which of its draws (draws, …) are as extreme as what was observed; in (0, 1], never 0."""
    return (1 + as_extreme.sum(axis=0)) / (1 + len(as_extreme))
