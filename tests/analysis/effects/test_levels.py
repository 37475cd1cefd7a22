"""Each metric at each level: counts and ranges of the complete runs, means on the model."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from creditlab.analysis.effects.levels import levels
from creditlab.analysis.effects.posthoc import pairs
from tests.analysis.frames import FACTORS, crossing, fitted, rows_of


def test_what_the_complete_runs_of_a_level_have():
    runs = crossing([3, 2], 4, True, np.random.default_rng(0))
    runs.loc[0, ["m0", "status"]] = [1e9, "diverged"]
    runs.loc[1, "m1"] = np.nan
    table = rows_of(levels, runs, FACTORS[:2], ["m1", "m0"])
    assert table["metric"].drop_duplicates().tolist() == ["m1", "m0"]
    rows = table.set_index(["metric", "factor", "level"])
    assert len(rows) == 2 * (3 + 2)
    complete = runs.drop(index=0)
    for (metric, factor, level), row in rows.iterrows():
        values = complete.loc[complete[factor] == level, metric].dropna()
        expected = [len(values), values.std(), values.min(), values.max()]
        assert row[["n_runs", "sd", "lowest", "highest"]].tolist() == pytest.approx(expected, rel=1e-12)
        assert row["ci_low"] < row["mean"] < row["ci_high"]


def test_means_have_students_interval_over_seeds():
    runs = crossing([3, 2], 5, True, np.random.default_rng(1))
    rows = rows_of(levels, runs, FACTORS[:2], ["m0"]).set_index(["factor", "level"])
    for (factor, level), row in rows.iterrows():
        means = runs[runs[factor] == level].groupby("seed")["m0"].mean()
        interval = stats.ttest_1samp(means, 0).confidence_interval()
        assert row[["mean", "ci_low", "ci_high"]].tolist() == pytest.approx([means.mean(), *interval], rel=1e-9)


@pytest.mark.parametrize("drop", [[], [0, 1, 2, 9]])
def test_means_give_every_combination_the_same_weight_and_differ_by_the_pairs(drop):
    """Simpson: a level with many runs where all do well is not ahead of one with few."""
    runs = crossing([2, 2], 6, True, np.random.default_rng(2)).drop(index=drop)
    fits = fitted(runs, FACTORS[:2], ["m0"])
    mean = levels(fits).frame.set_index(["factor", "level"])["mean"]
    for row in pairs(fits).query("at == ''").to_dict("records"):
        a, b = mean[row["factor"], row["level_a"]], mean[row["factor"], row["level_b"]]
        assert (a, b) == pytest.approx((row["mean_a"], row["mean_b"]), rel=1e-9)
        assert a - b == pytest.approx(row["difference"], rel=1e-9)
    if not drop:
        cells = runs.groupby(FACTORS[:2])["m0"].mean()
        assert mean["algorithm", "a0"] == pytest.approx(cells["a0"].mean())


def test_the_mean_of_an_accuracy_is_the_median_of_its_log_odds():
    runs = crossing([2, 2], 4, True, np.random.default_rng(3))
    runs["test/accuracy"] = 1 / (1 + np.exp(-runs["m0"]))
    rows = rows_of(levels, runs, FACTORS[:2], ["test/accuracy", "m0"]).set_index(["metric", "factor", "level"])
    for end in ("mean", "ci_low", "ci_high"):
        assert rows.loc[("test/accuracy", "algorithm", "a0"), end] == pytest.approx(
            1 / (1 + np.exp(-rows.loc[("m0", "algorithm", "a0"), end]))
        )


def test_what_cannot_be_fitted_keeps_its_counts_and_two_seeds_have_no_interval():
    runs = crossing([2, 2], 2, True, np.random.default_rng(4)).assign(constant=1.0)
    rows = rows_of(levels, runs, FACTORS[:2], ["m0", "constant"]).set_index("metric")
    constant = rows.loc["constant"]
    assert constant["mean"].isna().all()
    assert set(constant["n_runs"]) == {4}
    assert set(constant["lowest"]) == set(constant["highest"]) == {1.0}
    assert rows.loc["m0", "mean"].notna().all()
    assert rows.loc["m0", ["ci_low", "ci_high"]].isna().all(axis=None)
