"""One model of all metrics of a sweep: what takes part, what cannot be fitted, and that it is fitted once."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols

from creditlab.analysis import fit
from creditlab.analysis.__main__ import main
from creditlab.analysis.catalogue import statistics
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.anova import anova
from creditlab.analysis.effects.anova import tests as f_tests
from creditlab.analysis.model import fits as module
from creditlab.analysis.model.design import build
from creditlab.analysis.model.mixed import Mixed
from creditlab.analysis.model.strata import Strata
from creditlab.analysis.names import AnalysisError
from tests.analysis.frames import FACTORS, crossing, fitted


@pytest.mark.parametrize(("block", "drop"), [(True, []), (True, [0, 7]), (False, []), (False, [3])])
def test_residuals_are_those_of_least_squares(block, drop):
    runs = crossing([3, 2], 4, block, np.random.default_rng(2)).drop(index=drop).reset_index(drop=True)
    (one,) = fitted(runs, FACTORS[:2], ["m0", "m1"])
    formula = "C(algorithm) * C(optimiser)" + " + C(seed)" * block
    for column, metric in enumerate(("m0", "m1")):
        theirs = ols(f"y ~ {formula}", one.runs.assign(y=one.runs[metric])).fit()
        np.testing.assert_allclose(one.residuals[:, column], theirs.resid, atol=1e-10)
        assert one.residual_df == theirs.df_resid


# What the runs cannot bear --------------------------------------------------------------------------------------------


def test_an_empty_cell_reduces_the_model_and_is_named():
    runs = crossing([3, 3], 3, True, np.random.default_rng(4)).query("algorithm != 'a2' or optimiser != 'o1'")
    fits = fitted(runs, FACTORS[:2], ["m0"])
    assert fits.models[0].model.terms == ["algorithm", "optimiser"]
    assert fits.models[0].model.notes == ["algorithm:optimiser left out: no run at algorithm=a2, optimiser=o1"]
    assert f_tests(fits)["p"].notna().all()
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
    assert fits.untested["one a cell"].startswith("one seed: how much a result varies from seed to seed is not known")


def test_of_one_seed_nothing_is_tested():
    runs = crossing([3, 3], 1, True, np.random.default_rng(8))
    fits = fitted(runs, FACTORS[:2], ["m0"])
    assert fits.models == []
    assert fits.untested == {
        "m0": "one seed: how much a result varies from seed to seed is not known; add seeds",
    }


def test_values_that_are_not_finite_are_left_out_by_metric_and_counted():
    runs = crossing([2, 2], 4, True, np.random.default_rng(9))
    runs.loc[3, ["m0", "status"]] = [np.inf, "diverged"]
    runs["only a0"] = runs["m1"].where(runs["algorithm"] == "a0")
    fits = fitted(runs, FACTORS[:2], ["m0", "m1", "only a0"])
    models = {each.metrics[0]: each.model for each in fits}
    assert (models["m0"].n, models["m0"].left_out) == (15, {"diverged": 1})
    assert models["m0"].metrics == ["m0", "m1"]  # the diverged run is left out where its value is finite, too
    assert models["only a0"].terms == ["optimiser"]
    assert models["only a0"].notes[0] == "without algorithm=a1: no finite value"
    table = f_tests(fits)
    assert set(table.loc[table["metric"] == "m0", "n"]) == {15}
    kept = f_tests(fitted(runs.drop(index=3), FACTORS[:2], ["m0"]))
    ours = table[table["metric"] == "m0"].reset_index(drop=True)
    np.testing.assert_allclose(ours["F"], kept["F"], rtol=1e-9)


def test_runs_that_did_not_finish_and_repeats_take_no_part():
    runs = crossing([2, 2], 4, True, np.random.default_rng(9)).assign(run=[f"r{i}" for i in range(16)])
    more = runs.iloc[[3, 5, 6]].assign(run=["again", "failed", "unfinished"], m0=1e9)
    more["status"] = ["complete", "failed", "unfinished"]
    sweep = Sweep.of(pd.concat([runs, more], ignore_index=True), FACTORS[:2], ["m0"])
    sweep.repeats.append("again")
    (ours,), (theirs,) = fit(sweep), fitted(runs, FACTORS[:2], ["m0"])
    assert ours.model == theirs.model
    assert ours.model.left_out == {}
    for part in ("values", "residuals"):
        np.testing.assert_array_equal(getattr(ours, part), getattr(theirs, part))


def test_an_accuracy_is_compared_by_its_log_odds_and_a_loss_by_its_logarithm():
    runs = crossing([2, 2], 4, True, np.random.default_rng(3)).assign(
        **{"test/accuracy": lambda t: 1 / (1 + np.exp(-t["m0"])), "test/loss": lambda t: np.exp(t["m1"])}
    )
    fits = fitted(runs, FACTORS[:2], ["test/accuracy", "test/loss", "m0", "m1"])
    assert {metric: scale.kind for metric, scale in fits.scale_of.items()} == {
        **{"test/accuracy": "logit", "test/loss": "log", "m0": "identity", "m1": "identity"},
    }
    assert fits.models[0].model.scales == {"test/accuracy": "logit", "test/loss": "log"}
    f = f_tests(fits).set_index(["metric", "term"])["F"]
    np.testing.assert_allclose(f["test/accuracy"], f["m0"], rtol=1e-8)
    np.testing.assert_allclose(f["test/loss"], f["m1"], rtol=1e-8)
    as_they_are = fitted(runs, FACTORS[:2], ["test/accuracy"], scales={"test/*": "identity"})
    assert as_they_are.scale_of["test/accuracy"].kind == "identity"


# Once -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch) -> dict[str, int]:
    """How often a design was built and a model fitted to it."""
    counted = {"build": 0, "Strata": 0, "Mixed": 0}

    def built(*arguments, **options):
        counted["build"] += 1
        return build(*arguments, **options)

    def counting(model):
        class Counted(model):
            def __init__(self, *arguments):
                counted[model.__name__] += 1
                super().__init__(*arguments)

        return Counted

    monkeypatch.setattr(module, "build", built)
    monkeypatch.setattr(module, "Strata", counting(Strata))
    monkeypatch.setattr(module, "Mixed", counting(Mixed))
    return counted


@pytest.mark.parametrize("whole", [True, False])
def test_a_command_fits_a_model_once_for_all_its_tables(small_sweep, calls, capsys, whole):
    if not whole:
        shutil.rmtree(next(small_sweep.glob("fa-*-s1*")))
    assert main([str(small_sweep), "--only", *statistics()]) == 0
    assert {path.stem for path in (small_sweep / "report").glob("*.csv")} == set(statistics())
    kind, other = ("Strata", "Mixed") if whole else ("Mixed", "Strata")
    assert calls == {"build": 2, kind: 2, other: 0}  # of the runs at their end, and of those that are equally far


def test_metrics_with_values_for_the_same_runs_share_a_model(calls):
    runs = crossing([3, 2], 3, True, np.random.default_rng(3), metrics=6)
    runs[["m4", "m5"]] = runs[["m4", "m5"]].where(runs["algorithm"] == "a0")
    fits = fitted(runs, FACTORS[:2], [f"m{i}" for i in range(6)])
    for each in statistics().values():
        if each.of_fits:
            each(fits)
    assert [each.metrics for each in fits] == [["m0", "m1", "m2", "m3"], ["m4", "m5"]]
    assert calls == {"build": 2, "Strata": 2, "Mixed": 0}
