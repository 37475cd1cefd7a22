"""Student's intervals over seeds against scipy, and what they cover in simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.dose_response import curve
from creditlab.analysis.effects.trajectories import trajectories
from creditlab.analysis.model.intervals import band, half_width
from tests.analysis.frames import with_histories


@pytest.mark.parametrize("n", [2, 3, 10])
def test_half_width_is_students(n):
    values = np.random.default_rng(n).normal(size=n)
    interval = stats.ttest_1samp(values, 0).confidence_interval()
    assert half_width(values.std(ddof=1), n) == pytest.approx((interval.high - interval.low) / 2, rel=1e-9)
    both = half_width(pd.Series([values.std(ddof=1), 1.0]), pd.Series([n, 1]))
    assert both[0] == half_width(values.std(ddof=1), n)
    assert np.isnan(both[1])  # one value has no interval


def test_a_seed_counts_by_the_mean_of_its_runs():
    rng = np.random.default_rng(0)
    runs = pd.DataFrame({"level": ["b"] * 7 + ["a"], "seed": [0, 0, 0, 0, 1, 2, 2, 0], "value": rng.normal(size=8)})
    runs.loc[3, "value"] = np.nan
    table = band(runs, ["level"], "value").set_index("level")
    assert list(table.index) == ["b", "a"]  # in the order of the runs
    means = runs[runs["level"] == "b"].groupby("seed")["value"].mean()
    interval = stats.ttest_1samp(means, 0).confidence_interval()
    row = table.loc["b"]
    assert (row["n"], row["mean"], row["low"], row["high"]) == pytest.approx((3, means.mean(), *interval), rel=1e-9)
    assert table.loc["a", ["n", "mean"]].tolist() == [1, runs["value"][7]]
    assert table.loc["a", ["low", "high"]].isna().all()


@pytest.mark.parametrize("seeds", [3, 8])
def test_bands_over_seeds_cover(seeds):
    """Trajectories, curves and the bands of figures: 95 % ± 2 % of 1,000 draws."""
    rng, draws = np.random.default_rng(9), 1000
    names = [f"m{i}" for i in range(draws)]
    level, other, seed = np.indices((3, 2, seeds)).reshape(3, -1)
    values = level[:, None] + rng.normal(size=(len(level), draws)) + rng.normal(size=(seeds, draws))[seed]
    runs = pd.DataFrame(values, columns=names).assign(level=level, other=other, seed=seed, status="complete")
    history = runs.drop(columns="status").assign(run=range(len(runs)), step=0, epoch=0.0)

    def over_levels(history: pd.DataFrame) -> pd.DataFrame:
        table = trajectories(with_histories(history, ["level", "other"])).frame
        return table[table["factor"] == "level"].reset_index(drop=True).astype({"level": int})

    trajectory = over_levels(history)
    long = runs[[*names, "level", "seed"]].melt(["level", "seed"], var_name="metric")
    figure = band(long, ["metric", "level"], "value")
    curves = curve(Sweep.of(runs, ["level", "other"], names)).frame
    for table in (trajectory, curves, figure):
        assert len(table) == 3 * draws
        covered = (table["low"] <= table["level"]) & (table["high"] >= table["level"])
        assert covered.mean() == pytest.approx(0.95, abs=0.02)
    again = over_levels(history.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(trajectory, again, rtol=1e-9)
