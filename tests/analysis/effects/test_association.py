"""Associations, trajectories, dose and power against scipy, statsmodels, limit cases and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pingouin
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from creditlab.analysis.effects.association import COLUMNS, TRAJECTORIES, association, fisher, over_seeds, trajectories
from creditlab.analysis.effects.dose_response import COLUMNS as DOSE
from creditlab.analysis.effects.dose_response import CURVE, curve, dose, numeric
from creditlab.analysis.effects.posthoc import paired
from creditlab.analysis.effects.power import COLUMNS as POWER
from creditlab.analysis.effects.power import power, power_of, seeds_for
from creditlab.analysis.report.figures import band

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")


def clustered(seed: int, within: float, n: int = 8, levels: int = 5) -> pd.DataFrame:
    """Levels far apart in both, along a line; within a level the correlation is `within`."""
    rng = np.random.default_rng(seed)
    level = np.repeat(np.arange(levels), n)
    x = rng.normal(size=len(level))
    y = within * x + np.sqrt(1 - within**2) * rng.normal(size=len(level))
    runs = pd.DataFrame({"x": 10 * level + x, "test/accuracy": 10 * level + y, "algorithm": [f"a{i}" for i in level]})
    return runs.assign(seed=np.tile(np.arange(n), levels), status="complete")


def test_across_and_within_tell_different_things():
    runs = clustered(0, -0.8)
    found = association(runs, "algorithm", "test/accuracy", ["x"])
    assert (
        list(found.columns)
        == COLUMNS
        == [*["factor", "outcome", "metric", "scope", "n", "r", "ci_low", "ci_high", "p", "spearman"]]
    )
    rows = found.set_index("scope")
    across, within = rows.loc["across all runs"], rows.loc["within algorithm"]
    assert across["r"] == pytest.approx(pingouin.corr(runs["x"], runs["test/accuracy"])["r"].iloc[0], rel=1e-9)
    dummies = pd.get_dummies(runs["algorithm"], drop_first=True, dtype=float)
    partial = pingouin.partial_corr(runs.join(dummies), "x", "test/accuracy", list(dummies)).iloc[0]
    assert within["r"] == pytest.approx(partial["r"], rel=1e-9)
    assert across["r"] > 0.9
    assert within["r"] < -0.5
    means = runs.groupby("algorithm")[["x", "test/accuracy"]].mean()
    between = rows.loc["between algorithm"]
    assert (between["n"], between["r"]) == (5, pytest.approx(stats.pearsonr(*means.to_numpy().T).statistic))
    own = runs[runs["algorithm"] == "a2"]
    assert rows.loc["within algorithm=a2", "spearman"] == pytest.approx(
        stats.spearmanr(own["x"], own["test/accuracy"])[0]
    )


def jackknife_over_seeds(runs: pd.DataFrame, within: bool) -> list[float]:
    """r, the ends of its interval and p, each r computed anew."""

    def r(runs: pd.DataFrame) -> float:
        own = runs[["x", "test/accuracy"]]
        own = own - runs.groupby("algorithm")[["x", "test/accuracy"]].transform("mean") if within else own
        return stats.pearsonr(*own.to_numpy().T).statistic

    seeds = sorted(set(runs["seed"]))
    parts = [np.arctanh(r(runs[runs["seed"] != seed])) for seed in seeds]
    z, error = np.arctanh(r(runs)), np.std(parts) * np.sqrt(len(seeds) - 1)
    ends = np.tanh(z + error * np.array(stats.t.interval(0.95, len(seeds) - 1)))
    return [r(runs), *ends, 2 * stats.t.sf(abs(z) / error, len(seeds) - 1)]


@pytest.mark.parametrize("drop", [[], [0, 9, 17, 39]])
def test_seeds_are_what_is_independent(drop):
    runs = clustered(3, 0.5).drop(index=drop)
    found = association(runs, "algorithm", "test/accuracy", ["x"]).set_index("scope")[["r", "ci_low", "ci_high", "p"]]
    assert found.loc["across all runs"].tolist() == pytest.approx(jackknife_over_seeds(runs, False), rel=1e-8)
    assert found.loc["within algorithm"].tolist() == pytest.approx(jackknife_over_seeds(runs, True), rel=1e-8)
    own = runs[runs["algorithm"] == "a3"]
    assert found.loc["within algorithm=a3"].tolist() == pytest.approx(jackknife_over_seeds(own, False), rel=1e-8)
    shuffled = association(runs.sample(frac=1, random_state=0), "algorithm", "test/accuracy", ["x"])
    np.testing.assert_allclose(shuffled.set_index("scope")[found.columns], found, rtol=1e-9)


def test_r_of_independent_points_is_scipys():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(9, 3)), rng.normal(size=(9, 1))
    for column, (r, low, high, p) in enumerate(zip(*fisher(x, y), strict=True)):
        theirs = stats.pearsonr(x[:, column], y[:, 0])
        ours = [theirs.statistic, *theirs.confidence_interval(), theirs.pvalue]
        assert [r, low, high, p] == pytest.approx(ours, rel=1e-9)


@pytest.mark.parametrize(("seeds", "start", "effect", "r"), [(3, 0.5, 2, 0.6), (5, 1, 2, 0), (10, 0, 0, 0.6)])
def test_intervals_of_r_cover_what_other_seeds_would_give(seeds, start, effect, r):
    """95 % ± 2 % of 3,000 draws: four levels × two of another factor, all fixed, and seeds that are drawn."""
    rng = np.random.default_rng(1)
    level, other, seed = np.indices((4, 2, seeds)).reshape(3, -1)
    mean = effect * rng.normal(size=(2, 4, 2))[:, level, other]
    noise = rng.normal(size=(2, len(level), 3000))
    noise[1] = r * noise[0] + np.sqrt(1 - r**2) * noise[1]
    x, y = mean[:, :, None] + noise + start * rng.normal(size=(2, seeds, 3000))[:, seed]
    for means, code in ((0, np.zeros_like(level)), (mean.reshape(2, 4, -1).mean(axis=2)[:, level], level)):
        own = mean - (means if code.any() else mean.mean(axis=1, keepdims=True))
        a, b = (own**2).mean(axis=1) + 1 + start**2
        truth = ((own[0] * own[1]).mean() + r) / np.sqrt(a * b)
        _, low, high, _ = over_seeds(x, y, code, seed)
        assert ((low <= truth) & (truth <= high)).mean() == pytest.approx(0.95, abs=0.02)


def test_false_positives_of_r():
    """At 0.05 of 4,000 draws, whatever seeds and levels do to both; of three seeds that share much, less often."""
    rng = np.random.default_rng(2)
    level, seed = np.indices((4, 6)).reshape(2, -1)
    x, y = rng.normal(size=(2, 24, 4000)) + rng.normal(size=(2, 6, 4000))[:, seed]
    for code in (np.zeros_like(level), level):
        shift = 5 * rng.normal(size=(2, 4, 4000))[:, level] if code.any() else np.zeros((2, 1, 1))
        p = over_seeds(x + shift[0], y + shift[1], code, seed)[3]
        assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.02)
        assert (fisher(x, y)[3] < 0.05).mean() > 0.1  # what taking all runs for independent makes of it
    few = seed < 3
    assert (over_seeds(x[few], y[few], level[few], seed[few])[3] < 0.05).mean() < 0.06
    means = rng.normal(size=(2, 4, 4000))
    _, low, high, p = fisher(*means)
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.02)
    assert ((low <= 0) & (high >= 0)).mean() == pytest.approx(0.95, abs=0.02)


def test_points_that_cannot_bear_a_correlation():
    line, codes = np.arange(6.0)[:, None], np.zeros(6, int)
    assert np.isnan(fisher(np.ones((5, 1)), line[:5])).all()
    assert np.isnan(fisher(line[:2], line[:2])).all()
    r, low, high, _ = fisher(line[:3], np.array([[0.0], [1], [3]]))
    assert (low, high) == (-1, 1)
    assert r == pytest.approx(stats.pearsonr([0, 1, 2], [0, 1, 3]).statistic)
    assert np.isnan(over_seeds(np.ones((6, 1)), line, codes, np.arange(6))).all()
    r, *rest = over_seeds(line, line**2, codes, np.array([0, 0, 0, 1, 1, 1]))
    assert np.isfinite(r).all()
    assert np.isnan(rest).all()  # two seeds


def test_trajectories_have_students_band_over_seeds():
    rng = np.random.default_rng(2)
    rows = [
        {"run": f"{a}{o}{s}", "algorithm": a, "optimiser": o, "seed": s, "step": t, "epoch": 0.0, "m": rng.normal()}
        for a in ("bp", "fa")
        for o in ("x", "y")
        for s in range(4)
        for t in (0, 10)
    ]
    history = pd.DataFrame(rows)
    found = trajectories(history, ["algorithm", "optimiser"], "algorithm")
    assert list(found.columns) == TRAJECTORIES == ["factor", "level", "metric", "step", "n", "mean", "low", "high"]
    assert len(found) == 4
    row = found[(found["level"] == "fa") & (found["step"] == 10)].iloc[0]
    means = history[(history["algorithm"] == "fa") & (history["step"] == 10)].groupby("seed")["m"].mean()
    interval = stats.ttest_1samp(means, 0).confidence_interval()
    assert (row["n"], row["mean"], row["low"], row["high"]) == pytest.approx((4, means.mean(), *interval), rel=1e-9)
    alone = trajectories(history[history["seed"] == 0], ["algorithm", "optimiser"], "algorithm")
    assert alone["low"].isna().all()


@pytest.mark.parametrize("seeds", [3, 8])
def test_bands_over_seeds_cover(seeds):
    """Trajectories, curves and the bands of figures: 95 % ± 2 % of 1,000 draws."""
    rng, draws = np.random.default_rng(9), 1000
    names = [f"m{i}" for i in range(draws)]
    level, other, seed = np.indices((3, 2, seeds)).reshape(3, -1)
    values = level[:, None] + rng.normal(size=(len(level), draws)) + rng.normal(size=(seeds, draws))[seed]
    runs = pd.DataFrame(values, columns=names).assign(level=level, other=other, seed=seed)
    history = runs.assign(run=range(len(runs)), step=0, epoch=0.0)
    found = trajectories(history, ["level", "other"], "level").astype({"level": int})
    figure = band(runs.melt(["level", "other", "seed"], var_name="metric"), ["metric", "level"], "value")
    for table in (found, curve(runs, "level", names), figure):
        covered = (table["low"] <= table["level"]) & (table["high"] >= table["level"])
        assert covered.mean() == pytest.approx(0.95, abs=0.02)
    again = trajectories(history.sample(frac=1, random_state=0), ["level", "other"], "level").astype({"level": int})
    pd.testing.assert_frame_equal(found, again, rtol=1e-9)


# Dose -----------------------------------------------------------------------------------------------------------------


def depths(rng: np.random.Generator, jump: float, after: int, metrics: int, start: float = 1.0) -> pd.DataFrame:
    """Levels 1 … 8; the mean rises by `jump` above `after`; five seeds are shared, and differ by `start`."""
    level = np.repeat(np.arange(1, 9), 5)
    seed = np.tile(np.arange(5), 8)
    values = start * rng.normal(size=(5, metrics))[seed] + rng.normal(size=(40, metrics))
    values += jump * (level > after)[:, None]
    runs = pd.DataFrame(values, columns=[f"m{i}" for i in range(metrics)])
    return runs.assign(**{"architecture.depth": level}, seed=seed, status="complete")


def test_a_step_is_found_where_it_is():
    runs = depths(np.random.default_rng(3), 5.0, 3, 2)
    found = dose(runs, "architecture.depth", ["m0", "m1"])
    assert (
        list(found.columns)
        == DOSE
        == [
            *["factor", "metric", "levels", "n", "tau", "p_trend"],
            *["change_after", "change_before", "ci_low", "ci_high", "change", "p_change"],
        ]
    )
    row = found.iloc[0]
    assert row[["levels", "n", "change_after", "change_before", "ci_low", "ci_high"]].tolist() == [8, 40, 3, 4, 3, 4]
    means = runs.groupby(runs["architecture.depth"] > 3)["m0"].mean()
    assert row["change"] == pytest.approx(means[True] - means[False], rel=1e-9)
    assert row["tau"] == pytest.approx(stats.kendalltau(runs["architecture.depth"], runs["m0"]).statistic)
    assert row["p_trend"] == row["p_change"] == 1 / 1000
    pd.testing.assert_frame_equal(found, dose(runs.sample(frac=1, random_state=0), "architecture.depth", ["m0", "m1"]))


@pytest.mark.parametrize("shared", [True, False])
def test_false_positives_and_coverage_of_the_change_point(shared):
    names = [f"m{i}" for i in range(1000)]

    def found(rng: np.random.Generator, jump: float, after: int) -> pd.DataFrame:
        runs = depths(rng, jump, after, 1000, start=float(shared))
        return dose(runs if shared else runs.assign(seed=range(len(runs))), "architecture.depth", names)

    null = found(np.random.default_rng(4), 0.0, 3)
    for p in ("p_trend", "p_change"):
        assert (null[p] <= 0.05).mean() == pytest.approx(0.05, abs=0.02)
    step = found(np.random.default_rng(5), 1.2, 5)
    covered = (step["ci_low"] <= 5) & (step["ci_high"] >= 6)
    assert covered.mean() == pytest.approx(0.95, abs=0.02)
    assert (step["ci_high"] - step["ci_low"]).mean() < 4  # and is not just everything


def test_curve_and_factors_that_are_numbers():
    runs = depths(np.random.default_rng(6), 1.0, 3, 1)
    found = curve(runs, "architecture.depth", ["m0"])
    assert list(found.columns) == CURVE == ["factor", "metric", "level", "n", "mean", "low", "high"]
    values = runs.loc[runs["architecture.depth"] == 4, "m0"]
    interval = stats.ttest_1samp(values, 0).confidence_interval()
    assert found.loc[3, ["mean", "low", "high"]].tolist() == pytest.approx([values.mean(), *interval], rel=1e-9)
    runs = runs.assign(algorithm="bp", two=runs["seed"] % 2)
    assert numeric(runs, ["architecture.depth", "algorithm", "two"]) == ["architecture.depth"]
    assert dose(runs.assign(m0=1.0), "architecture.depth", ["m0"]).empty


# Power ----------------------------------------------------------------------------------------------------------------


def test_power_is_that_of_statsmodels():
    assert power_of(np.array([3, 2, 50]), np.array([12.0, 1e6, 40.0])) == pytest.approx([1, 1, 1], abs=1e-3)
    for effect in (0.3, 0.8, 2.0):
        for seeds in (2, 3, 10, 40):
            theirs = TTestPower().power(effect, seeds, 0.05)
            assert power_of(np.array(seeds), np.array(effect)) == pytest.approx(theirs, rel=1e-6)
        needed = TTestPower().solve_power(effect, power=0.8, alpha=0.05)
        assert seeds_for(np.array([effect, -effect])).tolist() == [np.ceil(needed)] * 2
    assert seeds_for(np.array([0.0, 1e-9, np.inf, np.nan]))[:2].tolist() == [np.inf, np.inf]


def test_seeds_needed_from_a_pilot():
    rng = np.random.default_rng(7)
    runs = pd.DataFrame({"m": rng.normal(size=10), "algorithm": ["a", "b"] * 5, "seed": np.repeat(range(5), 2)})
    runs.loc[runs["algorithm"] == "b", "m"] += 1
    comparisons = paired(runs, "algorithm", [], ["m"])
    row = power(comparisons).iloc[0]
    difference = runs.groupby("seed")["m"].apply(lambda m: m.iloc[0] - m.iloc[1])
    assert list(power(comparisons).columns) == POWER
    assert (row["seeds"], row["effect"], row["sd"]) == pytest.approx((5, difference.mean(), difference.std()))
    assert row["power_now"] == pytest.approx(TTestPower().power(abs(difference.mean()) / difference.std(), 5, 0.05))
    assert row["seeds_needed"] <= row["seeds_needed_safe"]
    half = power(comparisons, effect=0.5).iloc[0]
    assert half["seeds_needed"] == np.ceil(TTestPower().solve_power(0.5 / difference.std(), power=0.8, alpha=0.05))


def test_the_upper_end_of_the_spread_is_above_it_four_times_in_five():
    rng = np.random.default_rng(8)
    names = [f"m{i}" for i in range(2000)]
    runs = pd.DataFrame(rng.normal(size=(8, 2000)) / np.sqrt(2), columns=names)
    runs = runs.assign(algorithm=["a", "b"] * 4, seed=np.repeat(range(4), 2))
    found = power(paired(runs, "algorithm", [], names))
    assert (found["sd_high"] > 1).mean() == pytest.approx(0.8, abs=0.03)
