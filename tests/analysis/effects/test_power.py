"""Power and the number of seeds against statsmodels, and the upper end of the spread in simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from creditlab.analysis.effects.power import power, power_of, seeds_for, smallest_shown
from tests.analysis.frames import fitted, rows_of
from tests.analysis.oracles import numbers


def two_levels(rng: np.random.Generator, seeds: int = 5, metrics: int = 1) -> pd.DataFrame:
    """Levels a and b with `seeds` seeds, the difference between which has a standard deviation of 1 over seeds."""
    values = rng.normal(size=(2 * seeds, metrics)) / np.sqrt(2)
    runs = pd.DataFrame(values, columns=[f"m{i}" for i in range(metrics)])
    return runs.assign(algorithm=["a", "b"] * seeds, seed=np.repeat(range(seeds), 2), status="complete")


def test_power_is_that_of_statsmodels():
    assert power_of(np.array([3, 2, 50]), np.array([12.0, 1e6, 40.0])) == pytest.approx([1, 1, 1], abs=1e-3)
    for effect in (0.3, 0.8, 2.0):
        for seeds in (2, 3, 10, 40):
            theirs = TTestPower().power(effect, seeds, 0.05)
            assert power_of(np.array(seeds), np.array(effect)) == pytest.approx(theirs, rel=1e-6)
        needed = TTestPower().solve_power(effect, power=0.8, alpha=0.05)
        assert seeds_for(np.array([effect, -effect])).tolist() == [np.ceil(needed)] * 2
    assert seeds_for(np.array([0.0, 1e-9, np.inf, np.nan]))[:2].tolist() == [np.inf, np.inf]


@pytest.mark.parametrize(
    ("alpha", "smallest"),
    [(0.05, {3: 3.26, 5: 1.68, 10: 1.00}), (0.05 / 3, {3: 5.67, 5: 2.29, 10: 1.22, 20: 0.784})],
)
def test_the_smallest_difference_that_seeds_can_show(alpha, smallest):
    """In standard deviations of the difference, with a power of .8."""
    for seeds, size in smallest.items():
        assert smallest_shown(seeds, alpha) == pytest.approx(size, abs=0.006)
        assert power_of(np.array(seeds), np.array(smallest_shown(seeds, alpha)), alpha) == pytest.approx(0.8)
    assert np.isnan(smallest_shown(1))


def test_what_a_pilot_says():
    runs = two_levels(np.random.default_rng(7))
    runs.loc[runs["algorithm"] == "b", "m0"] += 1
    fits = fitted(runs, ["algorithm"], ["m0"])
    row = power(fits).frame.iloc[0]
    difference = runs.groupby("seed")["m0"].apply(lambda m: m.iloc[0] - m.iloc[1])
    assert (row["seeds"], row["sd"]) == pytest.approx((5, difference.std()))
    high = difference.std() * np.sqrt(4 / stats.chi2.ppf(0.2, 4))
    assert row["sd_high"] == pytest.approx(high)
    assert row["smallest"] == pytest.approx(high * smallest_shown(5))
    assert row[["effect", "seeds_needed"]].isna().all()  # never those of the observed difference
    half = power(fits, effect=0.5).frame.iloc[0]
    assert half["effect"] == 0.5
    assert half["seeds_needed"] == np.ceil(TTestPower().solve_power(0.5 / high, power=0.8, alpha=0.05))
    assert half["smallest"] == row["smallest"]


def test_the_level_is_shared_by_the_pairs_of_a_factor():
    rng = np.random.default_rng(1)
    runs = pd.DataFrame({"m": rng.normal(size=15), "algorithm": ["a", "b", "c"] * 5, "seed": np.repeat(range(5), 3)})
    table = rows_of(power, runs.assign(status="complete"), ["algorithm"], ["m"])
    assert len(table) == 3
    np.testing.assert_allclose(table["smallest"] / table["sd_high"], smallest_shown(5, 0.05 / 3))


def test_the_upper_end_of_the_spread_is_above_it_four_times_in_five():
    runs = two_levels(np.random.default_rng(8), seeds=4, metrics=2000)
    table = rows_of(power, runs, ["algorithm"], [f"m{i}" for i in range(2000)])
    assert len(table) == 2000
    assert (table["sd_high"] > 1).mean() == pytest.approx(0.8, abs=0.03)


def test_the_smallest_difference_is_that_of_r():
    for case in [*numbers("small")["power"], *numbers("small")["mde_bonferroni3"]]:
        assert smallest_shown(case["n"], case.get("alpha", 0.05)) == pytest.approx(case["mde_sd_units"], rel=3e-5)
