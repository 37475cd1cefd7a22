"""Permutations that keep what must be kept: levels of a factor, shuffled within blocks.

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


def shuffled(level: np.ndarray, block: np.ndarray, draws: int, generator: np.random.Generator) -> np.ndarray:
    """`draws` permutations of `level` within blocks, (draws, runs)."""
    out = np.empty((draws, len(level)), dtype=level.dtype)
    order = np.argsort(block, kind="stable")
    for row in out:
        row[order] = level[np.lexsort((generator.random(len(level)), block))]
    return out
