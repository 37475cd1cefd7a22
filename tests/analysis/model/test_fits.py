"""Least squares of all metrics at once: two ways to one answer, what takes part, what cannot be fitted."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from creditlab.analysis import fit
from creditlab.analysis.__main__ import main
from creditlab.analysis.catalogue import statistics
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.anova import anova
from creditlab.analysis.model import fits as module
from creditlab.analysis.model.design import build
from creditlab.analysis.model.fits import closed_form, projection
from creditlab.analysis.names import AnalysisError
from tests.analysis.frames import FACTORS, crossing, fitted, oracle

shapes = st.lists(st.integers(2, 4), min_size=1, max_size=3)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(shapes, st.integers(2, 4), st.booleans(), st.integers(0, 2**32 - 1))
def test_closed_form_is_least_squares_to_ten_digits(shape, seeds, block, state):
    runs = crossing(shape, seeds, block, np.random.default_rng(state))
    design = build(runs, FACTORS[: len(shape)])
    values = runs[["m0", "m1"]].to_numpy()
    for kind in ("I", "II", "III"):
        for ours, theirs in zip(closed_form(values, design), projection(values, design, kind), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10 * values.var() * len(values))


# What the runs cannot bear --------------------------------------------------------------------------------------------


# statsmodels warns of the empty cell that it gets on purpose.
@pytest.mark.filterwarnings("ignore:The design matrix is rank-deficient")
def test_an_empty_cell_reduces_the_model_and_is_named():
    runs = crossing([3, 3], 3, True, np.random.default_rng(4)).query("algorithm != 'a2' or optimiser != 'o1'")
    trap = oracle(runs, FACTORS[:2], "m0", True, 2)
    assert trap.loc["algorithm:optimiser", "df"] == 4  # what statsmodels prints; the rank of the design allows 3
    fits = fitted(runs, FACTORS[:2], ["m0"])
    assert fits.models[0].model.terms == ["algorithm", "optimiser", "seed"]
    assert fits.models[0].model.notes == ["algorithm:optimiser left out: no run at algorithm=a2, optimiser=o1"]
    theirs = oracle(runs, FACTORS[:2], "m0", True, 2, pairs=False)
    table = anova(fits).frame
    np.testing.assert_allclose(table["F"], theirs["F"][table["term"]], rtol=1e-9)
    with pytest.raises(AnalysisError, match=r"m0: no run at algorithm=a2, optimiser=o1\."):
        fitted(runs, FACTORS[:2], ["m0"], strict=True)


def test_what_cannot_be_tested_has_its_reason():
    runs = crossing([2, 2], 3, True, np.random.default_rng(7))
    runs["constant"] = 0.1 + 0.2
    runs["by cell"] = (runs["algorithm"] == "a1") * 0.3 + (runs["optimiser"] == "o1") * 0.1
    runs["absent"] = np.nan
    runs["one level"] = runs["m0"].where((runs["algorithm"] == "a0") & (runs["optimiser"] == "o0"))
    runs["one a cell"] = runs["m0"].where((runs["seed"] == 0) & (runs["optimiser"] == "o0"))
    fits = fitted(runs, FACTORS[:2], ["constant", "by cell", "absent", "one level", "one a cell"])
    assert anova(fits).frame.empty
    assert list(anova(fits).frame) == list(anova.columns)
    assert fits.untested["constant"] == "constant"
    assert fits.untested["by cell"] == "does not vary within cells: nothing to test against"
    assert fits.untested["absent"] == "no finite value in any finished run"
    assert fits.untested["one level"] == "no factor varies among the runs that have it"
    assert fits.untested["one a cell"].startswith("no residual degree of freedom")


def test_one_seed_tests_main_effects_against_the_interaction():
    runs = crossing([3, 3], 1, True, np.random.default_rng(8))
    fits = fitted(runs, FACTORS[:2], ["m0"])
    model = fits.models[0].model
    assert model.terms == ["algorithm", "optimiser"]
    assert model.residual_df == 4
    assert any(note.startswith("one seed") for note in model.notes)
    assert any(note.startswith("interactions left out") for note in model.notes)
    theirs = oracle(runs, FACTORS[:2], "m0", False, 2, pairs=False)
    table = anova(fits).frame
    np.testing.assert_allclose(table["F"], theirs["F"][table["term"]], rtol=1e-9)


def test_values_that_are_not_finite_are_left_out_by_metric_and_counted():
    runs = crossing([2, 2], 4, True, np.random.default_rng(9))
    runs.loc[3, ["m0", "status"]] = [np.inf, "diverged"]
    runs["only a0"] = runs["m1"].where(runs["algorithm"] == "a0")
    fits = fitted(runs, FACTORS[:2], ["m0", "m1", "only a0"])
    models = {each.metrics[0]: each.model for each in fits}
    assert (models["m0"].n, models["m0"].left_out) == (15, {"diverged": 1})
    assert models["m0"].metrics == ["m0", "m1"]  # the diverged run is left out where its value is finite, too
    assert models["only a0"].terms == ["optimiser", "seed"]
    assert models["only a0"].notes[0] == "without algorithm=a1: no finite value"
    kept = runs.drop(index=3)
    table = anova(fits).frame
    ours = table[table["metric"] == "m0"]
    np.testing.assert_allclose(ours["F"], oracle(kept, FACTORS[:2], "m0", True, 2)["F"][ours["term"]], rtol=1e-9)
    assert set(ours["n"]) == {15}


def test_runs_that_did_not_finish_and_repeats_take_no_part():
    runs = crossing([2, 2], 4, True, np.random.default_rng(9)).assign(run=[f"r{i}" for i in range(16)])
    more = runs.iloc[[3, 5, 6]].assign(run=["again", "failed", "unfinished"], m0=1e9)
    more["status"] = ["complete", "failed", "unfinished"]
    sweep = Sweep.of(pd.concat([runs, more], ignore_index=True), FACTORS[:2], ["m0"])
    sweep.repeats.append("again")
    (ours,), (theirs,) = fit(sweep), fitted(runs, FACTORS[:2], ["m0"])
    assert ours.model == theirs.model
    assert ours.model.left_out == {}
    for part in ("values", "sums", "residuals"):
        np.testing.assert_array_equal(getattr(ours, part), getattr(theirs, part))


# Once -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch) -> dict[str, int]:
    """How often a design was built, decomposed, and the columns of all its effects factorised."""
    counted = {"build": 0, "decompose": 0, "qr": 0}

    def counting(name, function):
        def counts(*arguments, **options):
            counted[name] += 1
            return function(*arguments, **options)

        return counts

    for name in ("build", "decompose"):
        monkeypatch.setattr(module, name, counting(name, getattr(module, name)))
    factorised = module.Design.factorised
    monkeypatch.setattr(factorised, "func", counting("qr", factorised.func))
    return counted


@pytest.mark.parametrize("whole", [True, False])
def test_a_command_fits_a_model_once_for_all_its_tables(small_sweep, calls, capsys, whole):
    if not whole:
        shutil.rmtree(next(small_sweep.glob("fa-*-s1*")))
    assert main([str(small_sweep), "--only", *statistics()]) == 0
    assert {path.stem for path in (small_sweep / "report").glob("*.csv")} == set(statistics())
    assert calls == {"build": 1, "decompose": 1, "qr": 1}


def test_metrics_with_values_for_the_same_runs_share_a_model(calls):
    runs = crossing([3, 2], 3, True, np.random.default_rng(3), metrics=6)
    runs[["m4", "m5"]] = runs[["m4", "m5"]].where(runs["algorithm"] == "a0")
    fits = fitted(runs, FACTORS[:2], [f"m{i}" for i in range(6)])
    for each in statistics().values():
        if each.of_fits:
            each(fits)
    assert [each.metrics for each in fits] == [["m0", "m1", "m2", "m3"], ["m4", "m5"]]
    assert calls == {"build": 2, "decompose": 2, "qr": 2}


def test_a_statistic_of_few_metrics_takes_their_columns_of_the_fit():
    runs = crossing([3, 2], 3, True, np.random.default_rng(3), metrics=4)
    (all_four,) = fitted(runs, FACTORS[:2], ["m0", "m1", "m2", "m3"])
    few = all_four.of(["m3", "m1"])
    (alone,) = fitted(runs, FACTORS[:2], ["m1", "m3"])
    assert few.metrics == alone.metrics == ["m1", "m3"]
    assert few.design is all_four.design
    for part in ("values", "sums", "residuals"):
        np.testing.assert_allclose(getattr(few, part), getattr(alone, part), rtol=1e-12)
    assert all_four.of(["absent"]) is None
