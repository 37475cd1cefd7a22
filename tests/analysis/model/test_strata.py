"""Error strata against R: every F, sum of squares, degree of freedom, epsilon and effect size, to the last digits."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from creditlab.analysis.model.design import build
from creditlab.analysis.model.strata import Strata
from tests.analysis.oracles import data, numbers

DESIGNS = {
    "sweep_complete": (["algorithm", "optimiser"], "seed", ["accuracy", "loss", "stable_rank", "change_rank"]),
    "three_factors": (["A", "B", "C"], "seed", ["y"]),
    "nested_seeds": (["algorithm", "optimiser"], "seed", ["y"]),
    "co2": (["Type", "Treatment", "conc"], "Plant", ["uptake"]),
}
CASES = [(name, metric) for name, (_, _, metrics) in DESIGNS.items() for metric in metrics]


def strata(name: str, metric: str) -> Strata:
    factors, seed, _ = DESIGNS[name]
    runs = data(name, seed)
    design = build(runs, factors, order=3)
    assert design.complete
    return Strata(design, runs[[metric]].to_numpy(float))


def oracle(name: str, metric: str) -> dict:
    every = numbers(name)
    return every.get(metric, every)


@pytest.mark.parametrize(("name", "metric"), CASES)
def test_f_tests_are_those_of_error_strata(name, metric):
    model, tested = strata(name, metric), 0
    for rows in oracle(name, metric)["strata"].values():
        *effects, error = rows
        for row in effects:
            test = model.test(tuple(row["term"].split(":")))
            assert test.f[0] == pytest.approx(row["F value"], rel=1e-10)
            assert (test.df, test.error_df) == (row["Df"], error["Df"])
            assert test.sum_sq[0] == pytest.approx(row["Sum Sq"], rel=1e-10)
            assert test.error_sq[0] == pytest.approx(error["Sum Sq"], rel=1e-10)
            tested += 1
    assert tested == len(model.design.terms)


@pytest.mark.parametrize(("name", "metric"), CASES)
def test_epsilon_and_effect_sizes_are_those_of_afex_and_car(name, metric):
    model, repeated = strata(name, metric), oracle(name, metric)["repeated_measures"]
    for row in repeated["epsilon"]:
        test = model.test(tuple(row["term"].split(":")))
        assert test.epsilon[0] == pytest.approx(min(row["HF eps"], 1), rel=1e-10)  # car prints it above 1 and caps it
        assert test.p[0] == pytest.approx(row["Pr(>F[HF])"], rel=1e-8)
    for row in repeated["ges"]:
        test = model.test(tuple(row["term"].split(":")))
        generalised = test.sum_sq[0] / (test.sum_sq[0] + model.cell_squares[0])
        assert generalised == pytest.approx(row["ges"], rel=1e-10)
    for row in repeated["pes"]:
        assert model.test(tuple(row["term"].split(":"))).partial_eta_sq[0] == pytest.approx(row["pes"], rel=1e-10)


def test_a_pair_is_the_t_test_of_differences_by_seed():
    """The numbers of the reference sheet: bp − fa 0.0286, t(4) = 24.82; with muon alone 0.0295, t(4) = 7.77."""
    model, runs = strata("sweep_complete", "accuracy"), data("sweep_complete")
    design = model.design
    for at, difference, t in (((), 0.0286, 24.82), (("muon",), 0.0295, 7.77)):
        others = ["optimiser"][: len(at)]
        numbers_at = [design.levels[1].index(level) for level in at]
        bp, fa = (
            design.level_weights(("algorithm", *others), (design.levels[0].index(level), *numbers_at))
            for level in ("bp", "fa")
        )
        pair = model.estimate(bp - fa)
        kept = runs[runs["optimiser"].isin(at)] if at else runs
        means = kept.pivot_table("accuracy", "seed", "algorithm")
        by_hand = stats.ttest_rel(means["bp"], means["fa"])
        assert pair.value[0] == pytest.approx(difference, abs=5e-5)
        assert pair.value[0] / pair.error[0] == pytest.approx(t, abs=5e-3)
        assert pair.value[0] / pair.error[0] == pytest.approx(by_hand.statistic, rel=1e-10)
        assert (pair.df[0], pair.seeds) == (4, 5)


def test_a_pair_between_seeds_is_the_test_of_welch():
    model, runs = strata("nested_seeds", "y"), data("nested_seeds")
    design = model.design
    levels = design.levels[design.varying.index("algorithm")]
    weights = [design.level_weights(("algorithm",), (i,)) for i in range(2)]
    pair = model.estimate(weights[0] - weights[1])
    means = runs.groupby(["algorithm", "seed"])["y"].mean()
    welch = stats.ttest_ind(means[levels[0]], means[levels[1]], equal_var=False)
    assert pair.value[0] / pair.error[0] == pytest.approx(welch.statistic, rel=1e-10)
    assert pair.df[0] == pytest.approx(welch.df, rel=1e-10)


def test_replicates_count_as_one_mean_per_seed_and_cell():
    runs = data("sweep_complete")
    twice = pd.concat([runs.assign(accuracy=runs["accuracy"] + e) for e in (-0.01, 0.01)], ignore_index=True)
    factors = ["algorithm", "optimiser"]
    once, both = (Strata(build(each, factors), each[["accuracy"]].to_numpy(float)) for each in (runs, twice))
    for term in once.design.terms:
        assert both.test(term).f == pytest.approx(once.test(term).f)
        assert both.test(term).sum_sq == pytest.approx(2 * once.test(term).sum_sq)


def test_components_give_back_the_variances_of_a_large_sweep():
    """Planted: seed 1, seed:a .49, residual .25, and an effect of a with mean square 2/3, from 400 seeds."""
    rng, seeds, a, b = np.random.default_rng(1), 400, 3, 4
    y = rng.normal(size=(seeds, 1, 1)) + 0.7 * rng.normal(size=(seeds, a, 1)) + 0.5 * rng.normal(size=(seeds, a, b))
    y = y + np.array([-1.0, 0.0, 1.0])[:, None]
    grid = np.indices(y.shape).reshape(3, -1)
    runs = pd.DataFrame({"seed": grid[0], "a": grid[1], "b": grid[2], "y": y.ravel()})
    model = Strata(build(runs, ["a", "b"]), runs[["y"]].to_numpy())
    components = {name: value[0] for name, value in model.components().items()}
    assert components == pytest.approx({"seed": 1, "seed:a": 0.49, "seed:b": 0, "residual": 0.25}, abs=0.2)
    assert model.effect_variance(("a",))[0] == pytest.approx(2 / 3, abs=0.1)
    assert model.effect_variance(("b",))[0] == pytest.approx(0, abs=0.01)


def test_two_seeds_have_estimates_and_no_p():
    runs = data("sweep_complete")
    runs = runs[runs["seed"] < 2]
    model = Strata(build(runs, ["algorithm", "optimiser"]), runs[["accuracy"]].to_numpy(float))
    test = model.test(("algorithm",))
    assert np.isfinite(test.f).all()
    assert np.isnan(test.p).all()


def test_unequal_numbers_of_seeds_between():
    """One factor between seeds, with 3, 4 and 6 of them: the F of an analysis of variance of the seeds' means."""
    rng = np.random.default_rng(1)
    sizes = {"x": 3, "y": 4, "z": 6}
    rows = [(g, f"{g}{s}", w, rng.normal() + (g == "z")) for g, n in sizes.items() for s in range(n) for w in range(2)]
    runs = pd.DataFrame(rows, columns=["g", "seed", "w", "y"])
    model = Strata(build(runs, ["g", "w"]), runs[["y"]].to_numpy())
    means = runs.groupby(["g", "seed"])["y"].mean()
    by_hand = stats.f_oneway(*(means[g] for g in sizes))
    test = model.test(("g",))
    assert test.f[0] == pytest.approx(by_hand.statistic, rel=1e-10)
    assert test.p[0] == pytest.approx(by_hand.pvalue, rel=1e-10)
