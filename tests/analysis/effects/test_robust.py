"""The tests that do without the assumptions, against scipy, pingouin, statsmodels, and in simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pingouin
import pytest
from scipy import stats
from statsmodels.stats.anova import AnovaRM
from statsmodels.stats.oneway import anova_oneway

from creditlab.analysis.effects.anova import anova
from creditlab.analysis.effects.assumptions import assumptions
from creditlab.analysis.effects.robust import PERMUTATIONS, repeated_measures, robust
from tests.analysis.frames import FACTORS, crossing, fitted, one_way

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")
DRAWS = 2000
NAMES = [f"m{i}" for i in range(DRAWS)]


def robust_rows(runs: pd.DataFrame, factors: list[str], metrics: list[str]) -> pd.DataFrame:
    """The tests of all `metrics`, whether or not an assumption is rejected."""
    return robust(fitted(runs, factors, metrics), metrics=tuple(metrics)).frame


def test_one_factor_is_welchs():
    runs = one_way([5, 9, 7, 4], [1, 3, 0.5, 2], 4)
    row = robust_rows(runs, ["algorithm"], ["m0"]).query("test == 'Welch-James'").iloc[0]
    groups = [group["m0"].to_numpy() for _, group in runs.groupby("algorithm")]
    ours = row[["F", "df1", "df2", "p"]].tolist()
    theirs = anova_oneway(groups, use_var="unequal", welch_correction=True)
    assert ours == pytest.approx([theirs.statistic, *theirs.df, theirs.pvalue], rel=1e-9)
    table = pingouin.welch_anova(runs, dv="m0", between="algorithm").iloc[0]
    assert ours == pytest.approx([table["F"], table["ddof1"], table["ddof2"], table["p_unc"]], rel=1e-9)


def test_two_levels_of_an_effect_are_welchs_t_of_cell_means():
    """For one degree of freedom T is t² with Satterthwaite's df: here the interaction of a 2 × 2."""
    runs = crossing([2, 2], 6, False, np.random.default_rng(5)).drop(index=[0, 9])
    table = robust_rows(runs, FACTORS[:2], ["m0"]).query("test == 'Welch-James'").set_index("term")
    groups = [g["m0"].to_numpy() for _, g in runs.groupby(["algorithm", "optimiser"])]
    mean, v = np.array([g.mean() for g in groups]), np.array([g.var(ddof=1) / len(g) for g in groups])
    t = mean @ [1, -1, -1, 1] / np.sqrt(v.sum())
    df = v.sum() ** 2 / sum(x**2 / (len(g) - 1) for x, g in zip(v, groups, strict=True))
    row = table.loc["algorithm:optimiser"]
    assert row[["F", "df1", "df2"]].tolist() == pytest.approx([t**2, 1, df], rel=1e-9)


def test_permutation_has_the_f_of_the_classical_test_and_nearly_its_p_where_residuals_are_normal():
    for drop in ([], [0, 7, 20]):
        runs = crossing([3, 2], 5, True, np.random.default_rng(6), metrics=20).drop(index=drop)
        metrics = [f"m{i}" for i in range(20)]
        ours = robust_rows(runs, FACTORS[:2], metrics).query("test == 'permutation'").set_index(["metric", "term"])
        theirs = anova(fitted(runs, FACTORS[:2], metrics)).frame.set_index(["metric", "term"]).loc[ours.index]
        np.testing.assert_allclose(ours["F"], theirs["F"], rtol=1e-9)
        np.testing.assert_allclose(ours["p"], theirs["p"], atol=0.06)


def test_false_positives_where_the_assumptions_fail():
    """Unequal spread in unequal cells, where the classical test is far off; skewed residuals, by permutation."""
    unequal = one_way([6, 9, 14], [3, 1, 0.5], 7, DRAWS, shift=0)
    welch = robust_rows(unequal, ["algorithm"], NAMES).query("test == 'Welch-James'")["p"]
    assert (welch < 0.05).mean() == pytest.approx(0.05, abs=0.02)
    classical = anova(fitted(unequal, ["algorithm"], NAMES)).frame["p"].dropna()
    assert (classical < 0.05).mean() > 0.15
    rng = np.random.default_rng(8)
    runs = crossing([3, 2], 4, True, rng, metrics=0)
    skewed = pd.DataFrame(rng.exponential(size=(24, 1000)), columns=NAMES[:1000])
    table = robust_rows(pd.concat([runs, skewed], axis=1), FACTORS[:2], NAMES[:1000])
    for term, p in table.query("test == 'permutation'").groupby("term")["p"]:
        assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.02), term


def test_repeated_measures_are_those_of_statsmodels_and_pingouin():
    runs = crossing([4, 3], 6, True, np.random.default_rng(12))
    ours = robust_rows(runs, FACTORS[:2], ["m0"]).query("test == 'repeated measures'").set_index("term")
    theirs = AnovaRM(runs, "m0", "seed", within=FACTORS[:2]).fit().anova_table
    assert ours["F"].tolist() == pytest.approx(theirs["F Value"].tolist(), rel=1e-9)
    for factor, df in zip(FACTORS[:2], (3, 2), strict=True):
        table = runs.pivot_table(index="seed", columns=factor, values="m0")
        epsilon = np.mean([pingouin.epsilon(table, correction=each) for each in ("gg", "hf")])
        assert ours.loc[factor, ["df1", "df2"]].tolist() == pytest.approx([epsilon * df, epsilon * df * 5], rel=1e-9)
        assert ours.loc[factor, "p"] == pytest.approx(stats.f.sf(ours.loc[factor, "F"], epsilon * df, epsilon * df * 5))


def test_two_levels_with_a_block_are_the_paired_t():
    runs = crossing([2, 2], 5, True, np.random.default_rng(13))
    row = robust_rows(runs, FACTORS[:2], ["m0"]).query("test == 'repeated measures' and term == 'optimiser'").iloc[0]
    means = runs.groupby(["optimiser", "seed"])["m0"].mean()
    theirs = stats.ttest_rel(means["o0"], means["o1"])
    assert row[["F", "df1", "df2", "p"]].tolist() == pytest.approx([theirs.statistic**2, 1, 4, theirs.pvalue], rel=1e-9)


def test_seeds_that_lack_a_cell_take_no_part():
    runs = crossing([3, 2], 5, True, np.random.default_rng(14))
    whole = runs[runs["seed"] != 2]
    short = runs.drop(index=runs.query("seed == 2").index[0])
    a, b = (robust_rows(each, FACTORS[:2], ["m0"]).query("test == 'repeated measures'") for each in (short, whole))
    pd.testing.assert_frame_equal(a, b)
    none = runs.drop(index=runs.groupby("seed").head(1).index)  # no seed has all cells
    assert set(robust_rows(none, FACTORS[:2], ["m0"])["test"]) == {"permutation"}
    half = runs.drop(index=[0, 6, 12, 18])
    assert set(robust_rows(half, FACTORS[:2], ["m0"])["test"]) == {"Welch-James", "permutation"}


@pytest.mark.parametrize("seeds", [3, 6])
@pytest.mark.parametrize("spread", [[0.3, 1, 3, 1], [1, 1, 1, 4], [1, 1, 1, 1]])
def test_false_positives_with_a_block_and_unequal_spread(seeds, spread):
    """A seed that matters, and to each algorithm in its own way, in a 4 × 2: 5 % ± 2 % of 4,000 metrics where spread is
    unequal and the F test far off; fewer of four levels of equal spread."""
    rng = np.random.default_rng(15)
    runs = crossing([4, 2], seeds, True, rng, metrics=0)
    level, names = pd.factorize(runs["algorithm"])[0], [f"m{i}" for i in range(4000)]
    noise = rng.normal(size=(len(runs), 4000)) * np.array(spread)[level, None]
    noise += rng.normal(size=(seeds, 4000))[runs["seed"]] + rng.normal(size=(seeds, 4, 4000))[runs["seed"], level] / 2
    runs = pd.concat([runs, pd.DataFrame(noise, columns=names)], axis=1)
    (fit,) = fitted(runs, FACTORS[:2], names)
    table = pd.concat(repeated_measures(fit))
    wrong = (table["p"] < 0.05).groupby(table["term"]).mean()
    unequal = len(set(spread)) > 1
    assert wrong.max() < 0.07
    assert wrong.min() > (0.03 if unequal else 0.01)
    if unequal:
        f = (
            fit.sums[fit.design.terms.index(("algorithm",))]
            / 3
            / (fit.residuals**2).sum(axis=0)
            * fit.design.residual_df
        )
        assert (stats.f.sf(f, 3, fit.design.residual_df) < 0.05).mean() > 0.1


@pytest.mark.parametrize("drop", [[], [0, 5, 9]])
def test_false_positives_in_the_design_of_a_sweep(drop):
    """Two factors and three seeds that all cells share and that matter. Permutation holds its level; repeated measures,
    or where seeds lack cells Welch-James, and the tests of assumptions in cells of three runs, do not exceed theirs."""
    rng = np.random.default_rng(11)
    runs = crossing([4, 2], 3, True, rng, metrics=0)
    noise = rng.normal(size=(24, 1000)) + rng.normal(size=(3, 1000))[runs["seed"]]
    runs = pd.concat([runs, pd.DataFrame(noise, columns=NAMES[:1000])], axis=1).drop(index=drop)
    table = robust_rows(runs, FACTORS[:2], NAMES[:1000])
    for (test, term), p in table.groupby(["test", "term"])["p"]:
        wrong = (p < 0.05).mean()
        assert wrong == pytest.approx(0.05, abs=0.02) if test == "permutation" else wrong < 0.07, (test, term)
    assert set(table["test"]) == {"permutation", "Welch-James" if drop else "repeated measures"}
    tested = assumptions(fitted(runs, FACTORS[:2], NAMES[:1000])).frame
    assert (tested["p_normality"] < 0.05).mean() < 0.07
    assert (tested["p_spread"] < 0.05).mean() < 0.07
    shuffled = assumptions(fitted(runs.sample(frac=1, random_state=0), FACTORS[:2], NAMES[:1000])).frame
    pd.testing.assert_frame_equal(tested, shuffled, rtol=1e-9)


def test_rows_in_any_order_do():
    runs = crossing([3, 2], 4, True, np.random.default_rng(9))
    np.random.seed(0)  # noqa: NPY002
    table = robust_rows(runs, FACTORS[:2], ["m0", "m1"])
    np.random.seed(1)  # noqa: NPY002
    pd.testing.assert_frame_equal(table, robust_rows(runs.sample(frac=1, random_state=0), FACTORS[:2], ["m0", "m1"]))


def test_small_cells_leave_permutation_alone():
    runs = crossing([3, 2], 1, False, np.random.default_rng(10))
    assert set(robust_rows(runs, FACTORS[:2], ["m0"])["test"]) == {"permutation"}


@pytest.mark.parametrize("drop", [[], [0, 7, 20]])
def test_the_p_of_a_permutation_counts_the_order_that_was_observed(drop):
    """So it is never below 1 in draws + 1, and exactly that where no draw is as extreme."""
    rng = np.random.default_rng(16)
    runs = crossing([3, 2], 5, True, rng, metrics=0).assign(m0=rng.normal(size=30), m1=rng.normal(size=30))
    runs["m1"] += 100 * (runs["algorithm"] == "a1") + 100 * (runs["optimiser"] == "o1")
    table = robust_rows(runs.drop(index=drop), FACTORS[:2], ["m0", "m1"]).query("test == 'permutation'")
    p = table.set_index(["metric", "term"])["p"]
    assert (p >= 1 / (1 + PERMUTATIONS)).all()
    assert p["m1", "algorithm"] == p["m1", "optimiser"] == 1 / (1 + PERMUTATIONS)
    counts = p * (1 + PERMUTATIONS)  # whole numbers
    np.testing.assert_allclose(counts, counts.round(), rtol=1e-9)


def test_by_default_the_metrics_with_a_rejected_assumption_are_tested():
    runs = one_way([8, 9, 7], [1, 1, 1], 1, metrics=2)
    runs["m1"] = np.exp(2 * runs["m1"])
    fits = fitted(runs, ["algorithm"], ["m0", "m1"])
    assert assumptions(fits).frame.set_index("metric")["fails"].to_dict() == {"m0": "", "m1": "normality"}
    pd.testing.assert_frame_equal(robust(fits).frame, robust(fits, metrics=("m1",)).frame)
    assert set(robust(fits).frame["metric"]) == {"m1"}
    assert robust(fitted(runs, ["algorithm"], ["m0"])).frame.empty
