"""Curves, trends and change points against scipy, steps of a known place and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.dose_response import curve, dose, numeric


def depths(rng: np.random.Generator, jump: float, after: int, metrics: int, start: float = 1.0) -> pd.DataFrame:
    """Levels 1 … 8; the mean rises by `jump` above `after`; five seeds are shared, and differ by `start`."""
    level = np.repeat(np.arange(1, 9), 5)
    seed = np.tile(np.arange(5), 8)
    values = start * rng.normal(size=(5, metrics))[seed] + rng.normal(size=(40, metrics))
    values += jump * (level > after)[:, None]
    runs = pd.DataFrame(values, columns=[f"m{i}" for i in range(metrics)])
    return runs.assign(**{"architecture.depth": level}, seed=seed, status="complete")


def dose_of(runs: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    return dose(Sweep.of(runs, ["architecture.depth"], metrics)).frame


def test_a_step_is_placed_where_it_is():
    runs = depths(np.random.default_rng(3), 5.0, 3, 2)
    table = dose_of(runs, ["m0", "m1"])
    row = table.iloc[0]
    assert row[["levels", "n", "change_after", "change_before", "ci_low", "ci_high"]].tolist() == [8, 40, 3, 4, 3, 4]
    means = runs.groupby(runs["architecture.depth"] > 3)["m0"].mean()
    assert row["change"] == pytest.approx(means[True] - means[False], rel=1e-9)
    assert row["tau"] == pytest.approx(stats.kendalltau(runs["architecture.depth"], runs["m0"]).statistic)
    assert row["p_trend"] == row["p_change"] == 1 / 1000
    pd.testing.assert_frame_equal(table, dose_of(runs.sample(frac=1, random_state=0), ["m0", "m1"]))


@pytest.mark.parametrize("shared", [True, False])
def test_false_positives_and_coverage_of_the_change_point(shared):
    names = [f"m{i}" for i in range(1000)]

    def drawn(rng: np.random.Generator, jump: float, after: int) -> pd.DataFrame:
        runs = depths(rng, jump, after, 1000, start=float(shared))
        return dose_of(runs if shared else runs.assign(seed=range(len(runs))), names)

    null = drawn(np.random.default_rng(4), 0.0, 3)
    for p in ("p_trend", "p_change"):
        assert (null[p] <= 0.05).mean() == pytest.approx(0.05, abs=0.02)
    step = drawn(np.random.default_rng(5), 1.2, 5)
    covered = (step["ci_low"] <= 5) & (step["ci_high"] >= 6)
    assert covered.mean() == pytest.approx(0.95, abs=0.02)
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
    assert set(curve(sweep).frame["factor"]) == set(dose(sweep).frame["factor"]) == {"architecture.depth"}
    assert dose_of(runs.assign(m0=1.0), ["m0"]).empty
