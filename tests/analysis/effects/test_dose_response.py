"""Curves, trends and change points against lme4's numbers, scipy, steps of a known place and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from creditlab.analysis import fit
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.dose_response import curve, dose, logarithmic, numeric, polynomials, responses
from creditlab.analysis.model.questions import verdicts
from tests.analysis.oracles import sleepstudy


def depths(rng: np.random.Generator, jump: float, after: int, metrics: int, start: float = 1.0) -> pd.DataFrame:
    """Levels 1 … 8; the mean rises by `jump` above `after`; five seeds are shared, and differ by `start`."""
    level = np.repeat(np.arange(1, 9), 5)
    seed = np.tile(np.arange(5), 8)
    values = start * rng.normal(size=(5, metrics))[seed] + rng.normal(size=(40, metrics))
    values += jump * (level > after)[:, None]
    runs = pd.DataFrame(values, columns=[f"m{i}" for i in range(metrics)])
    return runs.assign(**{"architecture.depth": level}, seed=seed, status="complete")


def dose_of(runs: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    return dose(fit(Sweep.of(runs, ["architecture.depth"], metrics))).frame


def test_the_trend_of_sleepstudy_is_that_of_a_slope_for_each_subject():
    row = dose(fit(Sweep.of(sleepstudy(), ["days"], ["Reaction"]))).frame.iloc[0]
    assert (row["slope"], row["t"], row["df"]) == pytest.approx((10.467, 6.771, 17), abs=5e-4)
    assert row["p"] == pytest.approx(3.26e-6, rel=5e-3)
    slopes = [np.polyfit(one["days"], one["Reaction"], 1)[0] for _, one in sleepstudy().groupby("seed")]
    ends = stats.ttest_1samp(slopes, 0).confidence_interval()
    assert row[["slope", "slope_low", "slope_high"]].tolist() == pytest.approx([np.mean(slopes), *ends], rel=1e-9)
    curvatures = [np.polyfit(one["days"], one["Reaction"], 2)[0] for _, one in sleepstudy().groupby("seed")]
    assert row["quadratic"] == pytest.approx(np.mean(curvatures), rel=1e-9)
    assert row["p_quadratic"] == pytest.approx(stats.ttest_1samp(curvatures, 0).pvalue, rel=1e-9)
    assert (row["scale"], row["levels"], row["n"]) == ("linear", 10, 18)


def test_seeds_that_lack_a_level_and_seeds_that_are_not_shared():
    runs = sleepstudy()
    fewer = dose(fit(Sweep.of(runs.drop(index=[0, 25]), ["days"], ["Reaction"]))).frame.iloc[0]
    whole = runs[~runs["seed"].isin(runs.loc[[0, 25], "seed"])]
    assert fewer["n"] == 16
    assert fewer["slope"] == pytest.approx(np.polyfit(whole["days"], whole["Reaction"], 1)[0])
    alone = dose(fit(Sweep.of(runs.assign(seed=range(len(runs))), ["days"], ["Reaction"]))).frame.iloc[0]
    x = np.vander(runs["days"] - runs["days"].mean(), 3)
    theirs, (rest,), *_ = np.linalg.lstsq(x, runs["Reaction"], rcond=None)
    covariance = np.linalg.inv(x.T @ x) * rest / (180 - 3)
    assert (alone["n"], alone["df"]) == (180, 177)
    assert alone["quadratic"] == pytest.approx(theirs[0])
    t = theirs[0] / np.sqrt(covariance[0, 0])
    assert alone["p_quadratic"] == pytest.approx(2 * stats.t.sf(abs(t), 177))


def test_the_scale_is_logarithmic_for_rates_and_levels_of_even_ratio():
    levels = {(1, 2, 4): True, (0.001, 0.003, 0.01): True, (1, 2, 3, 4): False, (0, 1, 10): False, (1, 5, 6): False}
    assert {each: logarithmic("training.depth", np.array(each, float)) for each in levels} == levels
    assert logarithmic("optimiser.lr", np.array([0.1, 0.2, 0.3]))
    assert not logarithmic("optimiser.lr", np.array([0.0, 0.1, 0.2]))
    runs = depths(np.random.default_rng(0), 0.0, 3, 1)
    rates = runs.assign(**{"architecture.depth": 10.0 ** -runs["architecture.depth"]})
    row, mirrored = dose_of(runs, ["m0"]).iloc[0], dose_of(rates, ["m0"]).iloc[0]
    assert (mirrored["scale"], mirrored["slope"]) == ("log10", pytest.approx(-row["slope"]))  # per tenfold increase
    line, square = polynomials(np.array([1.0, 2, 4, 8]))
    assert [line @ x for x in (np.ones(4), [1, 2, 4, 8], [1, 2, 4, 8])] == pytest.approx([0, 1, 1])
    assert [square @ np.array([1.0, 2, 4, 8]) ** k for k in range(3)] == pytest.approx([0, 0, 1])


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_seeds_that_differ_in_their_slope_make_no_trend(seeds):
    """5 % of 400 metrics, give or take three standard errors, of a slope, a curvature and a step."""
    rng = np.random.default_rng(seeds)
    x = np.linspace(-1, 1, 6)[:, None]
    values = 0.5 * rng.normal(size=(seeds, 6, 400)) + rng.normal(size=(seeds, 1, 400)) * (1 + x) / 2
    seed, level = np.indices((seeds, 6)).reshape(2, -1)
    names = [f"m{i}" for i in range(400)]
    runs = pd.DataFrame(values.reshape(-1, 400), columns=names).assign(status="complete", seed=seed)
    table = responses(Sweep.of(runs.assign(**{"architecture.depth": level}), ["architecture.depth"], names))
    for column in ("p", "p_quadratic"):
        assert (table[column] <= 0.05).mean() == pytest.approx(0.05, abs=0.033)
    assert (table["p_change"] <= 0.05).mean() < 0.083


def test_each_numeric_factor_is_a_question_of_its_own():
    runs = depths(np.random.default_rng(3), 5.0, 3, 2)
    tests = verdicts(fit(Sweep.of(runs, ["architecture.depth"], ["m0", "m1"])))
    row = dose_of(runs, ["m0", "m1"]).iloc[0]
    for asked, column in (("trend in", "p"), ("curvature in", "p_quadratic"), ("step in", "p_change")):
        of_question = tests[tests["question"] == f"{asked} architecture.depth"].set_index("metric")
        assert of_question.loc["m0", ["p", "p_adjusted"]].tolist() == [row[column], row[f"{column}_adjusted"]]


def test_a_step_is_placed_where_it_is():
    runs = depths(np.random.default_rng(3), 5.0, 3, 2)
    table = dose_of(runs, ["m0", "m1"])
    row = table.iloc[0]
    assert row[["levels", "n", "change_after", "change_before", "ci_low", "ci_high"]].tolist() == [8, 5, 3, 4, 3, 4]
    means = runs.groupby(runs["architecture.depth"] > 3)["m0"].mean()
    assert row["change"] == pytest.approx(means[True] - means[False], rel=1e-9)
    assert row["tau"] == pytest.approx(stats.kendalltau(runs["architecture.depth"], runs["m0"]).statistic)
    assert row["p_change"] == 1 / 1000
    pd.testing.assert_frame_equal(table, dose_of(runs.sample(frac=1, random_state=0), ["m0", "m1"]))


@pytest.mark.parametrize("shared", [True, False])
def test_false_positives_and_coverage_of_the_change_point(shared):
    names = [f"m{i}" for i in range(400)]

    def drawn(rng: np.random.Generator, jump: float, after: int) -> pd.DataFrame:
        runs = depths(rng, jump, after, 400, start=float(shared))
        runs = runs if shared else runs.assign(seed=range(len(runs)))
        return responses(Sweep.of(runs, ["architecture.depth"], names))

    null = drawn(np.random.default_rng(4), 0.0, 3)
    for p in ("p", "p_quadratic", "p_change"):
        assert (null[p] <= 0.05).mean() == pytest.approx(0.05, abs=0.033)
    step = drawn(np.random.default_rng(5), 1.2, 5)
    covered = (step["ci_low"] <= 5) & (step["ci_high"] >= 6)
    assert covered.mean() == pytest.approx(0.95, abs=0.033)
    assert (step["ci_high"] - step["ci_low"]).mean() < 4  # and is not just everything


def test_curve_and_factors_that_are_numbers():
    runs = depths(np.random.default_rng(6), 1.0, 3, 1)
    table = curve(Sweep.of(runs, ["architecture.depth"], ["m0"])).frame
    assert table["level"].tolist() == list(range(1, 9))
    values = runs.loc[runs["architecture.depth"] == 4, "m0"]
    interval = stats.ttest_1samp(values, 0).confidence_interval()
    assert table.loc[3, ["mean", "low", "high"]].tolist() == pytest.approx([values.mean(), *interval], rel=1e-9)
    runs = runs.assign(algorithm="bp", two=runs["seed"] % 2)
    sweep = Sweep.of(runs, ["architecture.depth", "algorithm", "two"], ["m0"])
    assert numeric(sweep) == ["architecture.depth"]
    assert set(curve(sweep).frame["factor"]) == set(dose(fit(sweep)).frame["factor"]) == {"architecture.depth"}
    assert dose_of(runs.assign(m0=1.0), ["m0"]).empty
