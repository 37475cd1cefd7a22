"""The tests of assumptions against scipy and pingouin, and their false alarms in simulation."""

from __future__ import annotations

import numpy as np
import pingouin
import pytest
from scipy import stats

from creditlab.analysis.effects.assumptions import assumptions, brown_forsythe
from tests.analysis.frames import FACTORS, crossing, one_way, rows_of

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")
DRAWS = 2000
NAMES = [f"m{i}" for i in range(DRAWS)]


def test_brown_forsythe_is_scipys():
    runs = one_way([5, 9, 7], [1, 3, 0.5], 0, metrics=3)
    values, cells = runs[["m0", "m1", "m2"]].to_numpy(), runs["algorithm"].str[1].astype(int).to_numpy()
    f, df1, df2 = brown_forsythe(values, cells)
    for i in range(3):
        theirs = stats.levene(*(values[cells == c, i] for c in range(3)), center="median")
        assert f[i] == pytest.approx(theirs.statistic, rel=1e-10)
        assert stats.f.sf(f[i], df1, df2) == pytest.approx(theirs.pvalue, rel=1e-9)
    assert np.isnan(brown_forsythe(values[:6], np.repeat([0, 1, 2], 2))[0]).all()


def test_assumptions_of_a_metric():
    runs = one_way([8, 9, 7], [1, 1, 1], 1, metrics=2)
    runs["m1"] = np.exp(2 * runs["m1"])
    table = rows_of(assumptions, runs, ["algorithm"], ["m0", "m1"])
    residual = runs["m0"] - runs.groupby("algorithm")["m0"].transform("mean")
    theirs = stats.shapiro(residual)
    assert table.loc[0, ["normality", "p_normality"]].tolist() == pytest.approx([theirs.statistic, theirs.pvalue])
    levene = pingouin.homoscedasticity(runs, dv="m0", group="algorithm", center="median")
    assert table.loc[0, "p_spread"] == pytest.approx(levene["pval"].iloc[0], rel=1e-9)
    assert table["fails"].tolist() == ["", "normality"]
    assert table["smallest_cell"].tolist() == [7, 7]
    assert rows_of(assumptions, runs, [], ["m0"]).empty
    unequal = rows_of(assumptions, one_way([9, 9, 9], [0.1, 1, 9], 1), ["algorithm"], ["m0"])
    assert unequal["fails"].tolist() == ["normality and spread"]


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_an_empty_cell_is_no_cell():
    runs = crossing([3, 2], 4, True, np.random.default_rng(1)).query("algorithm != 'a0' or optimiser != 'o1'")
    row = rows_of(assumptions, runs, FACTORS[:2], ["m0"]).iloc[0]
    assert (row["smallest_cell"], row["spread_df1"], row["spread_df2"]) == (4, 4, 15)
    assert 0 < row["p_spread"] < 1


def test_false_alarms_of_the_assumptions():
    table = rows_of(assumptions, one_way([10, 12, 9], [1, 1, 1], 2, DRAWS), ["algorithm"], NAMES)
    assert (table["p_normality"] < 0.05).mean() == pytest.approx(0.05, abs=0.02)
    assert (table["p_spread"] < 0.05).mean() == pytest.approx(0.04, abs=0.02)  # a little cautious in small cells
    many = one_way([3000, 3000], [1, 1], 3, 1)
    row = rows_of(assumptions, many, ["algorithm"], ["m0"]).iloc[0]
    assert row["normality_test"] == "D'Agostino-Pearson"
