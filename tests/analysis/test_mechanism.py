"""Associations, trajectories, dose and power against scipy, statsmodels, limit cases and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pingouin
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from analysis.dose import COLUMNS as DOSE
from analysis.dose import CURVE, curve, dose, numeric
from analysis.mechanism import COLUMNS, TRAJECTORIES, association, correlation, trajectories
from analysis.posthoc import paired
from analysis.power import COLUMNS as POWER
from analysis.power import power, power_of, seeds_for

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
    theirs = pingouin.corr(runs["x"], runs["test/accuracy"]).iloc[0]
    assert (across["r"], across["p"]) == pytest.approx((theirs["r"], theirs["p_val"]), rel=1e-9)
    interval = stats.pearsonr(runs["x"], runs["test/accuracy"]).confidence_interval()
    assert (across["ci_low"], across["ci_high"]) == pytest.approx(tuple(interval), rel=1e-9)
    dummies = pd.get_dummies(runs["algorithm"], drop_first=True, dtype=float)
    partial = pingouin.partial_corr(runs.join(dummies), "x", "test/accuracy", list(dummies)).iloc[0]
    assert (within["r"], within["p"]) == pytest.approx((partial["r"], partial["p_val"]), rel=1e-9)
    assert across["r"] > 0.9
    assert within["r"] < -0.5
    means = runs.groupby("algorithm")[["x", "test/accuracy"]].mean()
    between = rows.loc["between algorithm"]
    assert (between["n"], between["r"]) == (5, pytest.approx(stats.pearsonr(*means.to_numpy().T).statistic))
    own = runs[runs["algorithm"] == "a2"]
    assert rows.loc["within algorithm=a2", "spearman"] == pytest.approx(
        stats.spearmanr(own["x"], own["test/accuracy"])[0]
    )


def test_intervals_of_r_cover_and_p_is_at_its_level():
    rng = np.random.default_rng(1)
    inside = missed = 0
    for _ in range(2000):
        x, e = rng.normal(size=(2, 12))
        level = np.repeat(np.arange(3), 4)
        own = [v - np.array([v[level == i].mean() for i in range(3)])[level] for v in (x, 0.6 * x + 0.8 * e, e)]
        _, low, high, _ = correlation(own[0], own[1], lost=2)
        inside += low <= 0.6 <= high
        missed += correlation(own[0], own[2], lost=2)[3] < 0.05
    assert inside / 2000 == pytest.approx(0.95, abs=0.02)
    assert missed / 2000 == pytest.approx(0.05, abs=0.02)


def test_points_that_cannot_bear_a_correlation():
    assert np.isnan(correlation(np.ones(5), np.arange(5.0))).all()
    assert np.isnan(correlation(np.arange(2.0), np.arange(2.0))).all()
    r, low, high, _ = correlation(np.arange(3.0), np.array([0.0, 1, 3]))
    assert (low, high) == (-1, 1)
    assert r == pytest.approx(stats.pearsonr([0, 1, 2], [0, 1, 3]).statistic)


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


# Dose -----------------------------------------------------------------------------------------------------------------


def depths(rng: np.random.Generator, jump: float, after: int, metrics: int, seeds: int = 5) -> pd.DataFrame:
    """Levels 1 … 8; the mean rises by `jump` above `after`; seeds are shared, and differ."""
    level = np.repeat(np.arange(1, 9), seeds)
    seed = np.tile(np.arange(seeds), 8)
    values = rng.normal(size=(seeds, metrics))[seed] + jump * (level > after)[:, None] + rng.normal(size=(40, metrics))
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


def test_false_positives_and_coverage_of_the_change_point():
    names = [f"m{i}" for i in range(1000)]
    null = dose(depths(np.random.default_rng(4), 0.0, 3, 1000), "architecture.depth", names)
    for p in ("p_trend", "p_change"):
        assert (null[p] <= 0.05).mean() == pytest.approx(0.05, abs=0.02)
    found = dose(depths(np.random.default_rng(5), 1.2, 5, 1000), "architecture.depth", names)
    covered = (found["ci_low"] <= 5) & (found["ci_high"] >= 6)
    assert covered.mean() > 0.93  # levels are discrete: more is no mistake
    assert (found["ci_high"] - found["ci_low"]).mean() < 4  # and is not just everything


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
    for effect in (0.3, 0.8, 2.0):
        for seeds in (3, 10, 40):
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
