"""The mixed model of a design that is not complete: equal to the strata where it is, and robust where it is not."""

import numpy as np
import pytest

from creditlab.analysis.model.design import build
from creditlab.analysis.model.mixed import Mixed
from creditlab.analysis.model.strata import Strata
from tests.analysis.model.test_strata import CASES, DESIGNS
from tests.analysis.oracles import data, numbers

FACTORS = ["algorithm", "optimiser"]


@pytest.mark.parametrize(("name", "metric"), CASES)
def test_it_says_of_a_complete_design_what_the_strata_say(name, metric):
    """F, degrees of freedom, differences and components, negative ones too."""
    factors, seed, _ = DESIGNS[name]
    runs = data(name, seed)
    design, values = build(runs, factors, order=3), runs[[metric]].to_numpy(float)
    strata, mixed = Strata(design, values), Mixed(design, values)
    for term in design.terms:
        a, b = strata.test(term), mixed.test(term)
        assert b.f == pytest.approx(a.f, rel=1e-6, abs=1e-9)
        assert b.df2 == pytest.approx(a.error_df, rel=1e-6)
        assert b.omega_sq == pytest.approx(a.omega_sq, rel=1e-5, abs=1e-8)
        assert mixed.effect_variance(term) == pytest.approx(strata.effect_variance(term), rel=1e-5, abs=1e-9)
    components = strata.components()
    for component, value in mixed.components().items():
        assert value == pytest.approx(components[component], rel=1e-4, abs=1e-6 * values.var())
    weights = design.level_weights(design.varying[:1], (0,))
    assert mixed.mean(weights) == pytest.approx(strata.mean(weights), rel=1e-9)


@pytest.mark.parametrize("metric", ["loss", "change_rank", "accuracy", "stable_rank"])
def test_missing_runs(metric):
    """lme4 bounds variances at 0, where these lie: near its numbers, and F and df change smoothly with the data."""
    runs = data("sweep_missing")
    model = Mixed(build(runs, FACTORS), runs[[metric]].to_numpy(float))
    assert model.random == [(), ("algorithm",), ("optimiser",)]
    oracle = numbers("sweep_missing")[metric]
    assert model.reml.deviance[0] <= oracle["reml_deviance"] + 1e-9  # a larger space has a smaller minimum
    for row in oracle["type3_kenward_roger"]:
        test = model.test(tuple(row["term"].split(":")))
        assert test.df2[0] == pytest.approx(row["DenDF"], rel=0.05)
        assert test.f[0] == pytest.approx(row["F value"], rel=0.25)


def test_one_seed_shared_by_accident():
    """The design's own random terms hold the test of the factor near the degrees of freedom of seeds, not of runs."""
    runs = data("partly_shared")
    design = build(runs, FACTORS)
    assert not design.complete
    assert design.within == FACTORS
    test = Mixed(design, runs[["y"]].to_numpy(float)).test(("algorithm",))
    row = numbers("partly_shared")["mixed"]["type3_kenward_roger"][0]
    assert test.df2[0] == pytest.approx(row["DenDF"], rel=1e-3)
    assert test.f[0] == pytest.approx(row["F value"], rel=1e-3)


def test_a_level_with_seeds_of_its_own():
    """fa has run with seeds 5 to 9: its difference to bp rests on ten seeds in two groups, not on shared ones."""
    runs = data("sweep_complete")
    apart = runs.assign(seed=runs["seed"] + 5 * (runs["algorithm"] == "fa"))
    design = build(apart, FACTORS)
    assert not design.complete
    test = Mixed(design, apart[["accuracy"]].to_numpy(float)).test(("algorithm",))
    assert 4 < test.df2[0] < 14
    assert test.p[0] < 1e-3


def test_differences_are_those_of_cells_where_nothing_but_runs_is_missing():
    runs = data("sweep_missing")
    design = build(runs, FACTORS)
    model = Mixed(design, runs[["accuracy"]].to_numpy(float))
    weights = [design.level_weights(("algorithm",), (i,)) for i in range(2)]
    pair = model.estimate(weights[0] - weights[1])
    assert pair.value == pytest.approx(model.mean(weights[0]) - model.mean(weights[1]))
    assert 4 < pair.df[0] < 12
    assert pair.error[0] > 0


def test_a_term_that_the_runs_cannot_separate_is_left_out():
    """Two runs of each seed, one per level: seed × factor is the residual."""
    runs = data("sweep_complete")
    runs = runs[(runs["optimiser"] == "adamw") & ~((runs["seed"] == 0) & (runs["algorithm"] == "bp"))]
    model = Mixed(build(runs, FACTORS), runs[["accuracy"]].to_numpy(float))
    assert model.random == [()]


def test_metrics_are_fitted_one_by_one():
    runs, metrics = data("sweep_missing"), ["accuracy", "loss"]
    design = build(runs, FACTORS)
    both = Mixed(design, runs[metrics].to_numpy(float)).test(("algorithm",))
    alone = [Mixed(design, runs[[metric]].to_numpy(float)).test(("algorithm",)) for metric in metrics]
    assert both.f == pytest.approx(np.concatenate([test.f for test in alone]))
    assert both.df2 == pytest.approx(np.concatenate([test.df2 for test in alone]))
