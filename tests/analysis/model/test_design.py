"""Which effects a set of runs can separate, and what each is tested against: by the rank of the design and by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creditlab.analysis.model.design import build
from tests.analysis.frames import FACTORS, crossing, fitted

shapes = st.lists(st.integers(2, 4), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shapes, st.integers(1, 3), st.floats(0.2, 1), st.booleans(), st.integers(0, 2**32 - 1))
def test_terms_are_independent_whatever_runs_are_missing(shape, seeds, kept, block, state):
    """What is left out has a note that says so, and nothing else has one."""
    runs = crossing(shape, seeds, block, np.random.default_rng(state)).sample(frac=kept, random_state=state % 1000)
    if runs.empty:
        return
    design = build(runs, FACTORS[: len(shape)])
    if design.reason:
        assert design.terms == []
        return
    columns = design.matrix()
    assert columns.shape[1] == 1 + sum(map(design.df, design.terms))
    filled = design.matrix(np.unique(design.codes, axis=0))
    assert np.linalg.matrix_rank(columns) == np.linalg.matrix_rank(filled) == columns.shape[1]
    for term in [*((f,) for f in FACTORS[: len(shape)]), *combinations(FACTORS[: len(shape)], 2)]:
        reasons = [f"{':'.join(term)} left out", *(f"{factor} does not vary" for factor in term)]
        assert (term in design.terms) != any(note.startswith(tuple(reasons)) for note in design.notes)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(shapes, st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_marginal_weights_are_those_of_the_mean_of_cells(shape, seeds, state):
    """The weights of a level, on the columns of the model, give the mean of the fitted cells of that level."""
    runs = crossing(shape, seeds, True, np.random.default_rng(state))
    design = build(runs, FACTORS[: len(shape)], order=len(shape))
    cells = runs.groupby(FACTORS[: len(shape)])["m0"].mean()
    coefficients = np.linalg.lstsq(design.matrix(), runs["m0"].to_numpy(), rcond=None)[0]
    for axis, factor in enumerate(FACTORS[: len(shape)]):
        for number, level in enumerate(design.levels[axis]):
            weights = design.level_weights((factor,), (number,))
            assert weights.sum() == pytest.approx(1)
            fitted_mean = weights @ design.matrix(design.grid) @ coefficients
            assert fitted_mean == pytest.approx(
                cells.xs(level, level=factor).mean() if len(shape) > 1 else cells[level]
            )


def test_confounded_interactions_are_left_out():
    """A half fraction: the third factor is the interaction of the first two."""
    runs = crossing([2, 2, 2], 4, True, np.random.default_rng(6))
    parity = sum(runs[f].str[1].astype(int) for f in FACTORS) % 2
    model = fitted(runs[parity == 0], FACTORS, ["m0"]).models[0].model
    assert model.terms == ["algorithm", "optimiser", "dataset"]
    assert sum("cannot tell it from the effects before it" in note for note in model.notes) == 3


def test_an_aliased_factor_is_named():
    runs = crossing([3, 2], 4, True, np.random.default_rng(17)).drop(index=0)
    runs["dataset"] = runs["algorithm"].map({"a0": "x", "a1": "y", "a2": "y"})
    notes = fitted(runs, FACTORS, ["m0"]).models[0].model.notes
    assert "dataset left out: cannot be separated from algorithm, which determines its value" in notes


def test_a_factor_is_within_seeds_or_between_them():
    """What an effect is tested against, in words, and whether each has a stratum of its own."""

    def role(runs: pd.DataFrame) -> tuple[bool, list[str], list[str], str]:
        design = build(runs, FACTORS[:2])
        return design.complete, design.within, design.between, design.in_words

    strata = "each effect is tested against its own variation from seed to seed (error strata)"
    mixed = "mixed model by REML: seed and seed × factor are random"
    both = FACTORS[:2]
    shared = crossing([3, 2], 3, True, np.random.default_rng(18))
    assert role(shared) == (True, both, [], strata)
    assert role(shared.drop(index=3)) == (False, both, [], mixed)
    assert role(pd.concat([shared, shared])) == (True, both, [], strata)  # equally many runs of a seed in each cell
    assert role(pd.concat([shared, shared.iloc[:2]])) == (False, both, [], mixed)
    alone = crossing([3, 2], 3, False, np.random.default_rng(18))
    assert role(alone) == (True, [], both, f"{strata}; no two cells share a seed")
    nested = shared.assign(seed=shared["algorithm"] + shared["seed"].astype(str))
    assert role(nested) == (True, ["optimiser"], ["algorithm"], f"{strata}; algorithm varies between seeds")
    one_in_common = nested.assign(seed=nested["seed"].replace({"a0" + "0": "x", "a1" + "0": "x"}))
    assert role(one_in_common)[:3] == (False, both, [])


def test_an_empty_cell_of_three_factors_leaves_the_interactions_that_are_filled():
    runs = crossing([2, 2, 2], 3, True, np.random.default_rng(4)).query(
        "algorithm != 'a1' or optimiser != 'o1' or dataset != 'd0'"
    )
    model = fitted(runs, FACTORS, ["m0"]).models[0].model
    assert len([t for t in model.terms if ":" in t]) == 3
    assert model.notes[0].startswith("no run at algorithm=a1, optimiser=o1, dataset=d0;")


def test_too_few_seeds_are_named():
    def built(runs: pd.DataFrame):
        return build(runs, FACTORS[:2])

    shared = crossing([3, 2], 2, True, np.random.default_rng(1))
    assert built(shared).notes == ["two seeds: estimates without verdicts; a third seed gives them"]
    assert built(shared[shared["seed"] == 0]).reason.startswith("one seed: how much a result varies")
    alone = crossing([3, 2], 1, False, np.random.default_rng(1))
    assert built(alone).reason.startswith("one seed in each cell, and no two cells share a seed")
    assert built(shared[shared["algorithm"] == "a0"].query("optimiser == 'o0'")).reason == (
        "no factor varies among the runs that have it"
    )
