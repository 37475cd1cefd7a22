"""Power and the number of seeds against statsmodels, and the upper end of the spread in simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.power import TTestPower

from creditlab.analysis.effects.power import power, power_of, seeds_for
from tests.analysis.frames import fitted, rows_of


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
    fits = fitted(runs.assign(status="complete"), ["algorithm"], ["m"])
    row = power(fits).frame.iloc[0]
    difference = runs.groupby("seed")["m"].apply(lambda m: m.iloc[0] - m.iloc[1])
    assert (row["seeds"], row["effect"], row["sd"]) == pytest.approx((5, difference.mean(), difference.std()))
    assert row["power_now"] == pytest.approx(TTestPower().power(abs(difference.mean()) / difference.std(), 5, 0.05))
    assert row["seeds_needed"] <= row["seeds_needed_safe"]
    half = power(fits, effect=0.5).frame.iloc[0]
    assert half["seeds_needed"] == np.ceil(TTestPower().solve_power(0.5 / difference.std(), power=0.8, alpha=0.05))


def test_the_upper_end_of_the_spread_is_above_it_four_times_in_five():
    rng = np.random.default_rng(8)
    names = [f"m{i}" for i in range(2000)]
    runs = pd.DataFrame(rng.normal(size=(8, 2000)) / np.sqrt(2), columns=names)
    runs = runs.assign(algorithm=["a", "b"] * 4, seed=np.repeat(range(4), 2), status="complete")
    table = rows_of(power, runs, ["algorithm"], names)
    assert len(table) == 2000
    assert (table["sd_high"] > 1).mean() == pytest.approx(0.8, abs=0.03)
