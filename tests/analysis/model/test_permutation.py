"""Permutations move rows within blocks only, each order of a block is as likely, and p counts what was observed."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from creditlab.analysis.model.permutation import blocks, cells, orders, p_value, shuffled


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.integers(0, 2**32 - 1))
def test_rows_move_within_their_block_only(block, state):
    block = np.array(block)
    drawn = orders(block, 25, np.random.default_rng(state))
    assert drawn.shape == (25, len(block))
    assert (np.sort(drawn, axis=1) == np.arange(len(block))).all()  # every row once
    assert (block[drawn] == block).all()
    values = np.random.default_rng(1).normal(size=len(block))
    assert (shuffled(values, block, 25, np.random.default_rng(state)) == values[drawn]).all()


def test_every_order_of_a_block_is_as_likely():
    """Chi-square over the 3! · 2! joint orders of two blocks, whose rows are mixed."""
    block, draws = np.array([1, 0, 1, 0, 1]), 24_000
    drawn = orders(block, draws, np.random.default_rng(0))
    joint = [(a, b) for a in permutations((0, 2, 4)) for b in permutations((1, 3))]
    counts = [((drawn[:, [0, 2, 4]] == a).all(axis=1) & (drawn[:, [1, 3]] == b).all(axis=1)).sum() for a, b in joint]
    assert sum(counts) == draws
    assert stats.chisquare(counts).pvalue > 0.01


@pytest.mark.parametrize("draws", [1, 99, 999])
def test_p_counts_the_order_that_was_observed(draws):
    none, every = np.zeros((draws, 2), bool), np.ones((draws, 2), bool)
    assert p_value(none).tolist() == [1 / (1 + draws)] * 2
    assert p_value(every).tolist() == [1, 1]
    some = np.arange(draws) < 0.2 * draws
    assert p_value(some) == (1 + some.sum()) / (1 + draws)


def test_p_of_exchangeable_rows_is_uniform():
    """Of all ranks of the observed value among nine draws each is as likely, so p is at its level, not below it."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=(10, 4000))
    p = p_value(values[1:] >= values[0])
    counts = np.bincount((p * 10).round().astype(int), minlength=11)[1:]
    assert stats.chisquare(counts).pvalue > 0.01


def test_blocks_are_cells_of_the_other_factors_and_shared_seeds():
    grid = [(a, w, s) for a in ("bp", "fa") for w in (1, 2) for s in range(3)]
    runs = pd.DataFrame(grid, columns=["algorithm", "width", "seed"])
    paired = blocks(runs, "algorithm", ["width"])
    assert len(set(paired)) == 6
    assert [set(rows) for _, rows in runs.groupby(paired)["algorithm"]] == [{"bp", "fa"}] * 6
    assert len(runs[["width", "seed"]].assign(block=paired).drop_duplicates()) == 6
    free = blocks(runs.assign(seed=range(len(runs))), "algorithm", ["width"])
    assert len(set(free)) == 2
    assert len(runs[["width"]].assign(block=free).drop_duplicates()) == 2
    assert cells(runs, []).tolist() == [0] * 12
