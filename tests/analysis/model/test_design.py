"""Which effects a set of runs can tell apart, against the rank of the design and by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from creditlab.analysis.model.design import build
from tests.analysis.frames import FACTORS, crossing, fitted

shapes = st.lists(st.integers(2, 4), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shapes, st.integers(1, 3), st.floats(0.2, 1), st.booleans(), st.integers(0, 2**32 - 1))
def test_degrees_of_freedom_are_the_rank_of_the_design(shape, seeds, kept, block, state):
    """Whatever runs are missing, the terms are independent and leave the residual what the rank leaves it."""
    runs = crossing(shape, seeds, block, np.random.default_rng(state)).sample(frac=kept, random_state=state % 1000)
    if runs.empty:
        return
    design = build(runs, FACTORS[: len(shape)])
    if design.reason:
        assert design.terms == []
        return
    columns = np.hstack([np.ones((len(runs), 1)), *map(design.columns, design.terms)])
    assert np.linalg.matrix_rank(columns) == 1 + sum(map(design.df, design.terms)) == columns.shape[1]
    assert design.residual_df == len(runs) - columns.shape[1] > 0
    for term in [*((f,) for f in FACTORS[: len(shape)]), *combinations(FACTORS[: len(shape)], 2)]:
        reasons = [f"{':'.join(term)} left out", *(f"{factor} does not vary" for factor in term)]
        reasons += ["interactions left out"] if len(term) == 2 else []
        assert (term in design.terms) != any(note.startswith(tuple(reasons)) for note in design.notes)


def test_confounded_interactions_are_left_out():
    """A half fraction: the third factor is the interaction of the first two."""
    runs = crossing([2, 2, 2], 4, True, np.random.default_rng(6))
    parity = sum(runs[f].str[1].astype(int) for f in FACTORS) % 2
    model = fitted(runs[parity == 0], FACTORS, ["m0"]).models[0].model
    assert model.terms == ["algorithm", "optimiser", "dataset", "seed"]
    assert sum("cannot tell it from the effects before it" in note for note in model.notes) == 3


def test_an_aliased_factor_is_named():
    runs = crossing([3, 2], 4, True, np.random.default_rng(17)).drop(index=0)
    runs["dataset"] = runs["algorithm"].map({"a0": "x", "a1": "y", "a2": "y"})
    notes = fitted(runs, FACTORS, ["m0"]).models[0].model.notes
    assert "dataset left out: cannot be separated from algorithm, which determines its value" in notes


def test_the_seed_is_a_block_or_a_replicate():
    def role(runs: pd.DataFrame) -> str:
        return fitted(runs, FACTORS[:2], ["m0"]).models[0].model.seed

    blocked = crossing([3, 2], 3, True, np.random.default_rng(18))
    assert role(blocked) == "random block, repeated measures"
    assert role(blocked.drop(index=3)) == "random block, incomplete"
    assert role(pd.concat([blocked, blocked.assign(m0=blocked["m1"])])) == "random block, replicated"
    assert role(crossing([3, 2], 3, False, np.random.default_rng(18))) == "replicate"


def test_an_empty_cell_of_three_factors_leaves_the_interactions_that_are_filled():
    runs = crossing([2, 2, 2], 3, True, np.random.default_rng(4)).query(
        "algorithm != 'a1' or optimiser != 'o1' or dataset != 'd0'"
    )
    model = fitted(runs, FACTORS, ["m0"]).models[0].model
    assert len([t for t in model.terms if ":" in t]) == 3
    assert model.notes[0].startswith("no run at algorithm=a1, optimiser=o1, dataset=d0;")
