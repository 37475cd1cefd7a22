"""Post hoc comparisons against scipy, pingouin and statsmodels, and their errors in simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pingouin
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from creditlab.analysis.effects.posthoc import paired, posthoc
from tests.analysis.effects.test_published_tables import PLANTS, cells
from tests.analysis.frames import crossing, one_way, rows_of

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")


def pick(table: pd.DataFrame, method: str, metric: str = "m0") -> pd.DataFrame:
    return table[(table["method"] == method) & (table["metric"] == metric)].reset_index(drop=True)


@pytest.mark.parametrize(("method", "equal"), [("Tukey", True), ("Games-Howell", False)])
def test_one_factor_is_scipys(method, equal):
    runs = one_way([5, 9, 7, 4], [1, 3, 0.5, 2], 0)
    ours = pick(rows_of(posthoc, runs, ["algorithm"], ["m0"]), method)
    groups = [group["m0"] for _, group in runs.groupby("algorithm")]
    theirs = stats.tukey_hsd(*groups, equal_var=equal)
    interval = theirs.confidence_interval()
    for _, row in ours.iterrows():
        a, b = int(row["level_a"][1]), int(row["level_b"][1])
        assert row["difference"] == pytest.approx(theirs.statistic[a, b], rel=1e-10)
        assert row["p_adjusted"] == pytest.approx(theirs.pvalue[a, b], abs=1e-7)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((interval.low[a, b], interval.high[a, b]), rel=1e-5)
        assert (row["n_a"], row["n_b"]) == (len(groups[a]), len(groups[b]))


def test_games_howell_is_pingouins():
    runs = one_way([5, 9, 7], [1, 3, 0.5], 1)
    ours = pick(rows_of(posthoc, runs, ["algorithm"], ["m0"]), "Games-Howell")
    theirs = pingouin.pairwise_gameshowell(runs, dv="m0", between="algorithm")
    np.testing.assert_allclose(ours["difference"], theirs["diff"], rtol=1e-10)
    np.testing.assert_allclose(ours["df"], theirs["df"], rtol=1e-10)
    np.testing.assert_allclose(np.abs(ours["t"]), np.abs(theirs["T"]), rtol=1e-10)
    np.testing.assert_allclose(ours["p_adjusted"], theirs["pval"], atol=1e-6)


def test_plant_growth_as_published():
    """TukeyHSD(aov(weight ~ group)) of R: trt1-ctrl −0.371, p 0.3908711; trt2-ctrl 0.1979960; trt2-trt1 0.0120064."""
    ours = pick(rows_of(posthoc, cells(PLANTS, "group", "m0"), ["group"], ["m0"]), "Tukey")
    assert list(-ours["difference"]) == pytest.approx([-0.371, 0.494, 0.865], abs=1e-9)
    assert list(ours["p_adjusted"]) == pytest.approx([0.3908711, 0.1979960, 0.0120064], abs=6e-8)
    assert list(-ours["ci_high"]) == pytest.approx([-1.0622161, -0.1972161, 0.1737839], abs=6e-8)


@pytest.mark.parametrize("drop", [[], [0, 7, 20]])
def test_tukey_compares_marginal_means_on_the_model(drop):
    """Against the contrast of statsmodels' coefficients, with an interaction and a block."""
    from statsmodels.formula.api import ols

    runs = crossing([3, 2], 5, True, np.random.default_rng(2)).drop(index=drop)
    ours = pick(rows_of(posthoc, runs, ["algorithm", "optimiser"], ["m0"]), "Tukey")
    fit = ols("m0 ~ C(algorithm, Sum) * C(optimiser, Sum) + C(seed, Sum)", runs).fit()
    contrast = np.zeros(len(fit.params))
    contrast[[fit.params.index.get_loc(f"C(algorithm, Sum)[S.a{i}]") for i in (0, 1)]] = [2, 1]  # a0 − a2
    theirs = fit.t_test(contrast)
    row = ours[(ours["level_a"] == "a0") & (ours["level_b"] == "a2")].iloc[0]
    assert row["difference"] == pytest.approx(theirs.effect[0], rel=1e-9)
    assert row["t"] == pytest.approx(theirs.tvalue[0, 0], rel=1e-9)
    assert row["p"] == pytest.approx(theirs.pvalue, rel=1e-8)
    assert row["df"] == fit.df_resid


def test_paired_differences_are_students():
    runs = crossing([3, 2], 6, True, np.random.default_rng(3))
    ours = pick(rows_of(posthoc, runs, ["algorithm", "optimiser"], ["m0"]), "paired")
    ours = ours[ours["factor"] == "algorithm"]
    means = runs.groupby(["algorithm", "seed"])["m0"].mean()
    p = []
    for (_, row), (a, b) in zip(ours.iterrows(), [("a0", "a1"), ("a0", "a2"), ("a1", "a2")], strict=True):
        theirs = stats.ttest_rel(means[a], means[b])
        interval = theirs.confidence_interval()
        assert (row["t"], row["p"]) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-9)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((interval.low, interval.high), rel=1e-9)
        p.append(theirs.pvalue)
    np.testing.assert_allclose(ours["p_adjusted"], multipletests(p, method="holm")[1], rtol=1e-9)


def test_all_pairs_at_once_are_bonferronis():
    runs = crossing([3, 2], 6, True, np.random.default_rng(3))
    table = rows_of(posthoc, runs, ["algorithm", "optimiser"], ["m0"])
    assert set(table["method"]) == {"Tukey", "paired", "paired, all"}
    ours = pick(table, "paired, all").query("factor == 'algorithm'")
    means = runs.groupby(["algorithm", "seed"])["m0"].mean()
    theirs = [stats.ttest_rel(means[a], means[b]) for a, b in (("a0", "a1"), ("a0", "a2"), ("a1", "a2"))]
    for (_, row), each in zip(ours.iterrows(), theirs, strict=True):
        interval = each.confidence_interval(1 - 0.05 / 3)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((interval.low, interval.high), rel=1e-9)
    p = [each.pvalue for each in theirs]
    assert ours["p"].tolist() == pytest.approx(p, rel=1e-9)
    assert ours["p_adjusted"].tolist() == pytest.approx(multipletests(p, method="bonferroni")[1], rel=1e-9)


def test_pairs_are_runs_that_differ_in_the_factor_alone():
    """The run of a0 that has no partner, and the seed that a1 lacks, take no part."""
    runs = crossing([2, 2], 4, True, np.random.default_rng(4))
    runs = runs.drop(runs.query("algorithm == 'a1' and optimiser == 'o1' and seed == 0").index)
    runs = runs.drop(runs.query("algorithm == 'a1' and seed == 3").index)
    runs.loc[runs.query("algorithm == 'a0' and optimiser == 'o1' and seed == 0").index, "m0"] = 1e9
    row = paired(runs, "algorithm", ["optimiser"], ["m0"]).iloc[0]
    key = runs.set_index(["algorithm", "optimiser", "seed"])["m0"]
    difference = key["a0"] - key["a1"]
    assert row["difference"] == pytest.approx(difference.groupby("seed").mean().mean(), rel=1e-9)
    assert row["n_a"] == 3


def test_what_the_runs_cannot_bear_has_no_row():
    single = crossing([3], 1, False, np.random.default_rng(5))
    assert rows_of(posthoc, single, ["algorithm"], ["m0"]).empty
    lonely = one_way([1, 4, 5], [1, 1, 1], 6)
    assert set(rows_of(posthoc, lonely, ["algorithm"], ["m0"])["method"]) == {"Tukey"}


def test_rows_in_any_order_do():
    runs = crossing([3, 2], 4, True, np.random.default_rng(7))
    table = rows_of(posthoc, runs, ["algorithm", "optimiser"], ["m0", "m1"])
    assert len(table) == 2 * (3 + 1) * 3  # metrics × pairs × methods
    shuffled = rows_of(posthoc, runs.sample(frac=1, random_state=0), ["algorithm", "optimiser"], ["m0", "m1"])
    pd.testing.assert_frame_equal(table, shuffled)


DRAWS = 2000


@pytest.mark.parametrize("method", ["Tukey", "Games-Howell"])
def test_simultaneous_intervals_cover_and_false_positives_stay_at_five_percent(method):
    """95 % ± 2 % of draws have *all* pairs inside; Games-Howell's also where the spread is unequal."""
    spread = [1, 1, 1] if method == "Tukey" else [0.3, 1, 3]
    runs = one_way([6, 9, 12], spread, 8, DRAWS, shift=0.7)
    table = rows_of(posthoc, runs, ["algorithm"], [f"m{i}" for i in range(DRAWS)])
    rows = table[table["method"] == method]
    truth = -0.7 * (rows["level_b"].str[1].astype(int) - rows["level_a"].str[1].astype(int))
    missed = (rows["ci_low"] > truth) | (rows["ci_high"] < truth)
    assert 1 - missed.groupby(rows["metric"]).any().mean() == pytest.approx(0.95, abs=0.02)
    null = one_way([6, 9, 12], spread, 9, DRAWS, shift=0)
    table = rows_of(posthoc, null, ["algorithm"], [f"m{i}" for i in range(DRAWS)])
    smallest = table[table["method"] == method].groupby("metric")["p_adjusted"].min()
    assert (smallest < 0.05).mean() == pytest.approx(0.05, abs=0.02)


def test_paired_intervals_cover_whatever_the_spread_of_levels_and_seeds():
    rng = np.random.default_rng(10)
    level = np.array(list(product(range(2), range(5))))
    seeds = rng.normal(size=(5, DRAWS)) * 3
    values = seeds[level[:, 1]] + level[:, [0]] * 0.7 + rng.normal(size=(10, DRAWS)) * np.where(level[:, [0]], 2, 0.1)
    names = [f"m{i}" for i in range(DRAWS)]
    runs = pd.DataFrame(values, columns=names).assign(algorithm=level[:, 0], seed=level[:, 1])
    table = paired(runs, "algorithm", [], names)
    assert ((table["ci_low"] <= -0.7) & (table["ci_high"] >= -0.7)).mean() == pytest.approx(0.95, abs=0.02)
    runs[names] -= 0.7 * level[:, [0]]
    null = paired(runs, "algorithm", [], names)
    assert (null["p"] < 0.05).mean() == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize(("seeds", "spread"), [(3, [1, 1, 1, 1]), (3, [0.3, 1, 3, 1]), (6, [0.3, 1, 3, 1])])
def test_all_methods_in_the_design_of_a_sweep(seeds, spread):
    """Two factors, seeds that all cells share and that matter: 95 % ± 2 % of 1,000 draws for all pairs of a factor at
    once and for each pair by seed, whatever the spread; by Tukey where it is equal."""
    rng, draws = np.random.default_rng(11), 1000
    runs = crossing([4, 2], seeds, True, rng, metrics=0)
    level = runs["algorithm"].str[1].astype(int).to_numpy()
    noise = np.array(spread)[level, None] * rng.normal(size=(len(runs), draws))
    noise += rng.normal(size=(seeds, draws))[runs["seed"]]
    names = [f"m{i}" for i in range(draws)]
    at_once = ["paired, all", *["Tukey"] * (len(set(spread)) == 1)]
    noisy = pd.concat([runs, pd.DataFrame(noise, columns=names)], axis=1)
    table = rows_of(posthoc, noisy, ["algorithm", "optimiser"], names)
    table = table[table["factor"] == "algorithm"]
    inside = (table["ci_low"] <= 0) & (table["ci_high"] >= 0)
    every = inside.groupby([table["method"], table["metric"]]).all().groupby(level=0).mean()
    assert every[at_once].tolist() == pytest.approx([0.95] * len(at_once), abs=0.02)
    assert inside[table["method"] == "paired"].mean() == pytest.approx(0.95, abs=0.02)
    smallest = table.groupby(["method", "metric"])["p_adjusted"].min()
    wrong = (smallest < 0.05).groupby(level=0).mean()[["paired", *at_once]]
    assert wrong.tolist() == pytest.approx([0.05] * len(wrong), abs=0.02)
    p = (table["p"] < 0.05).groupby(table["method"]).mean()[["paired", *at_once]]
    assert p.tolist() == pytest.approx([0.05] * len(p), abs=0.02)
