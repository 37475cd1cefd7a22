"""Pairs of levels against scipy and R, what decides them, and their errors in simulation."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from creditlab.analysis.effects.anova import anova, question_of
from creditlab.analysis.effects.posthoc import pairs, posthoc
from creditlab.analysis.model.questions import level_if_found, verdicts
from tests.analysis.effects.test_published_tables import PLANTS, cells
from tests.analysis.frames import FACTORS, crossing, fitted, one_way, rows_of
from tests.analysis.oracles import data, numbers

PLAIN = {"*": "identity"}  # every metric is compared as it is


def planted(effect: float = 30.0, interaction: float = 0.0, seeds: int = 6, metrics: int = 3) -> pd.DataFrame:
    """3 × 2 levels: of m0, level a1 is moved by `effect` and a2 with o1 by `interaction`; the rest is noise."""
    runs = crossing([3, 2], seeds, True, np.random.default_rng(3), metrics=0)
    rng = np.random.default_rng(4)
    runs = runs.assign(**{f"m{i}": rng.normal(size=len(runs)) for i in range(metrics)})
    runs["m0"] += effect * (runs["algorithm"] == "a1")
    runs["m0"] += interaction * ((runs["algorithm"] == "a2") & (runs["optimiser"] == "o1"))
    return runs


NAMES = ["m0", "m1", "m2"]


# A pair ---------------------------------------------------------------------------------------------------------------


def test_paired_differences_are_students():
    runs = crossing([3, 2], 6, True, np.random.default_rng(3))
    table = pairs(fitted(runs, FACTORS[:2], ["m0", "m1"]))
    ours = table[(table["metric"] == "m0") & (table["factor"] == "algorithm") & (table["at"] == "")]
    means = runs.groupby(["algorithm", "seed"])["m0"].mean()
    for (_, row), (a, b) in zip(ours.iterrows(), combinations(("a0", "a1", "a2"), 2), strict=True):
        theirs = stats.ttest_rel(means[a], means[b])
        assert (row["level_a"], row["level_b"], row["seeds"]) == (a, b, 6)
        assert (row["t"], row["p"], row["df"]) == pytest.approx((theirs.statistic, theirs.pvalue, 5), rel=1e-9)
        assert row[["mean_a", "mean_b"]].tolist() == pytest.approx([means[a].mean(), means[b].mean()])
        assert row["difference"] == row["estimate"] == pytest.approx(means[a].mean() - means[b].mean())


def test_levels_with_seeds_of_their_own_are_welchs():
    runs = one_way([5, 9, 7], [1, 3, 0.5], 1)
    ours = pairs(fitted(runs, ["algorithm"], ["m0"]))
    groups = {level: group["m0"] for level, group in runs.groupby("algorithm")}
    for row in ours.to_dict("records"):
        theirs = stats.ttest_ind(groups[row["level_a"]], groups[row["level_b"]], equal_var=False)
        assert (row["t"], row["p"], row["df"]) == pytest.approx((theirs.statistic, theirs.pvalue, theirs.df), rel=1e-9)
        assert row["seeds"] == min(len(groups[row["level_a"]]), len(groups[row["level_b"]]))


def test_plant_growth_as_published():
    """pairwise.t.test(weight, group, pool.sd = FALSE, p.adjust = "none") of R's PlantGrowth; differences in print."""
    ours = pairs(fitted(cells(PLANTS, "group", "m0"), ["group"], ["m0"]))
    assert list(-ours["difference"]) == pytest.approx([-0.371, 0.494, 0.865], abs=1e-9)
    assert list(ours["p"]) == pytest.approx([0.2504, 0.0479, 0.0093], abs=6e-5)


def test_the_sweep_that_r_analysed():
    """emmeans on the multivariate model: a difference per seed, marginal and inside each level of the other factor."""
    runs = data("sweep_complete").assign(status="complete")
    table = pairs(fitted(runs, ["algorithm", "optimiser"], ["accuracy"], scales=PLAIN))
    table = table[table["factor"] == "algorithm"]
    theirs = numbers("sweep_complete")["accuracy"]
    rows = [(row, "") for row in theirs["pairs multivariate algorithm"]]
    rows += [(row, f"optimiser={row['optimiser']}") for row in theirs["pairs multivariate algorithm|optimiser"]]
    assert len(rows) == len(table) == 12
    for row, at in rows:
        a, b = row["contrast"].split(" - ")
        (ours,) = table[(table["at"] == at) & (table["level_a"] == a) & (table["level_b"] == b)].to_dict("records")
        keys = ["estimate", "error", "t", "df"]
        expected = [row[key] for key in ("estimate", "SE", "t.ratio", "df")]
        assert [ours[key] for key in keys] == pytest.approx(expected, rel=1e-8)


def test_a_difference_in_accuracy_is_one_of_medians_with_the_sign_of_its_test():
    runs = planted(effect=1.0).rename(columns={"m0": "test/accuracy"})
    runs["test/accuracy"] = 1 / (1 + np.exp(-2 - runs["test/accuracy"]))
    table = rows_of(posthoc, runs, FACTORS[:2], ["test/accuracy"])
    assert set(table["scale"]) == {"logit"}
    assert (np.sign(table["difference"]) == np.sign(table["estimate"])).all()
    assert table["mean_a"].between(0, 1).all()
    logit = np.log(runs["test/accuracy"] / (1 - runs["test/accuracy"]))
    middle = logit[runs["algorithm"] == "a1"].groupby([runs["seed"]]).mean().mean()
    row = table[(table["level_a"] == "a0") & (table["level_b"] == "a1")].iloc[0]
    assert row["mean_b"] == pytest.approx(1 / (1 + np.exp(-middle)))
    assert row["difference"] == pytest.approx(row["mean_a"] - row["mean_b"], abs=0.02)
    assert (table["ci_low"] <= table["difference"]).all()
    assert (table["difference"] <= table["ci_high"]).all()


# What decides a pair --------------------------------------------------------------------------------------------------


def test_pairs_are_decided_below_their_effect():
    """The level is that of the found effect, over the number of its pairs; intervals are Student's at that level."""
    fits = fitted(planted(), FACTORS[:2], NAMES)
    table, effects = posthoc(fits).frame, verdicts(fits).set_index(["question", "metric"])
    means = planted().groupby(["algorithm", "seed"])["m0"].mean()
    effect = effects.loc[(question_of("algorithm", "m0", "m0"), "m0")]
    assert effect["found"]
    ours = table[(table["metric"] == "m0") & (table["factor"] == "algorithm")]
    for row in ours.to_dict("records"):
        theirs = stats.ttest_rel(means[row["level_a"]], means[row["level_b"]])
        interval = theirs.confidence_interval(1 - effect["level"] / 3)
        assert row["level"] == pytest.approx(effect["level"] / 3)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx((interval.low, interval.high), rel=1e-8)
        assert row["p_adjusted"] == pytest.approx(
            max(min(row["p"] / row["level"] * 0.05, 1), effect["p_adjusted"]), rel=1e-12
        )
    assert ours["found"].tolist() == [True, False, True]  # a1 is the one that was moved


@pytest.mark.parametrize(("effect", "interaction"), [(0, 0), (2, 0), (30, 0), (30, 30), (1.2, 3)])
@pytest.mark.parametrize("drop", [[], [0, 9]])
def test_no_pair_contradicts_itself_or_its_effect(effect, interaction, drop):
    """An interval excludes 0 exactly where p is at most the level; what is found is so below an effect that is."""
    runs = planted(effect, interaction).drop(index=drop)
    fits = fitted(runs, FACTORS[:2], NAMES)
    table, tests = posthoc(fits).frame, anova(fits).frame.set_index(["metric", "term"])["found"]
    excludes = (table["ci_low"] > 0) | (table["ci_high"] < 0)
    assert (excludes == (table["p"] <= table["level"])).all()
    assert (table["found"] == (table["p_adjusted"] <= 0.05)).all()
    assert (excludes | ~table["found"]).all()
    both = ":".join(FACTORS[:2])
    terms = np.where(table["at"] == "", table["factor"], both)
    shown = np.array([tests[metric, term] for metric, term in zip(table["metric"], terms, strict=True)])
    assert (shown | ~table["found"]).all()
    simple = table[table["at"] != ""]
    interacting = {metric for metric in NAMES if tests[metric, both]}
    assert set(simple["metric"]) == interacting  # only where the interaction is found
    assert len(table) == len(NAMES) * (3 + 1) + len(interacting) * (2 * 3 + 3 * 1)
    if interaction == 30:
        assert interacting == {"m0"}


def test_simple_effects_share_the_level_of_their_interaction():
    """All pairs of both factors inside the levels of the other are one family: 2 × 3 and 3 × 1."""
    fits = fitted(planted(0, 30), FACTORS[:2], NAMES)
    table, effects = posthoc(fits).frame, verdicts(fits).set_index(["question", "metric"])
    simple = table[table["at"] != ""]
    level = effects.loc[(question_of("algorithm:optimiser", "m0", "m0"), "m0"), "level"]
    assert len(simple) == 9
    assert simple["level"].tolist() == pytest.approx([level / 9] * 9)
    inside = simple.set_index(["factor", "at", "level_a", "level_b"])["found"]
    assert inside["algorithm", "optimiser=o1", "a0", "a2"]
    assert not inside["algorithm", "optimiser=o0", "a0", "a2"]
    assert inside["optimiser", "algorithm=a2", "o0", "o1"]


def test_where_the_effect_is_not_shown_the_interval_is_that_of_the_level_it_would_have():
    fits = fitted(planted(0), FACTORS[:2], NAMES)
    table, levels = posthoc(fits).frame, level_if_found(fits)
    assert not table["found"].any()
    ours = table[(table["factor"] == "algorithm") & (table["metric"] == "m0")]
    assert ours["level"].to_numpy() == pytest.approx(levels[question_of("algorithm", "m0", "m0")] / 3)
    assert ours["ci_low"].lt(ours["difference"]).all()


def test_every_interval_is_one_of_all_tests_of_the_report():
    """The level of a pair is at most .05 over the number of pairs, and less where not all of a question is found."""
    table = rows_of(posthoc, planted(30), FACTORS[:2], NAMES)
    size = table.groupby(["metric", "factor"])["p"].transform("size")
    assert (table["level"] <= 0.05 / size + 1e-15).all()
    assert (table.loc[table["metric"] == "m0", "level"] < 0.05 / size[table["metric"] == "m0"]).all()


# What the runs cannot bear --------------------------------------------------------------------------------------------


def test_two_seeds_give_differences_and_no_verdict():
    table = rows_of(posthoc, planted(seeds=2), FACTORS[:2], NAMES)
    assert len(table) == 3 * (3 + 1)
    assert table[["mean_a", "mean_b", "difference"]].notna().all(axis=None)
    assert table[["p", "p_adjusted"]].isna().all(axis=None)
    assert not table["found"].any()


def test_of_one_seed_there_is_no_row():
    single = crossing([3], 1, False, np.random.default_rng(5))
    table = rows_of(posthoc, single, ["algorithm"], ["m0"])
    assert table.empty
    assert list(table) == list(posthoc.columns)


def test_a_level_of_few_seeds_has_no_p_while_the_others_have():
    runs = one_way([2, 6, 6], [1, 1, 1], 6)
    table = pairs(fitted(runs, ["algorithm"], ["m0"])).set_index(["level_a", "level_b"])
    assert table.loc[("a0", "a1"), "seeds"] == 2
    assert np.isnan(table.loc[("a0", "a1"), "p"])
    assert table.loc[("a1", "a2"), "p"] > 0


def test_a_level_with_an_empty_cell_has_no_marginal_mean_over_it():
    """Without the interaction the model's means are equally weighted, and the note of the model says what is absent."""
    runs = planted().query("algorithm != 'a2' or optimiser != 'o1'")
    fits = fitted(runs, FACTORS[:2], NAMES)
    table = posthoc(fits).frame
    assert (table["at"] == "").all()
    assert any("algorithm:optimiser left out: no run at algorithm=a2, optimiser=o1" in n for n in anova(fits).notes)


# Laws -----------------------------------------------------------------------------------------------------------------


def test_rows_in_any_order_do():
    runs = planted(interaction=30)
    table = rows_of(posthoc, runs, FACTORS[:2], NAMES)
    shuffled = rows_of(posthoc, runs.sample(frac=1, random_state=0), FACTORS[:2], NAMES)
    pd.testing.assert_frame_equal(table, shuffled)


@pytest.mark.parametrize("spread", [[1, 1, 1, 1], [0.3, 1, 3, 1]])
def test_intervals_of_a_pair_cover_whatever_the_spread_of_levels_and_seeds(spread):
    """95 % ± 2 % of 1,000 draws for each pair, 95 % or a little more for all at once by Bonferroni."""
    rng, draws, seeds = np.random.default_rng(11), 1000, 5
    runs = crossing([4, 2], seeds, True, rng, metrics=0)
    level = runs["algorithm"].str[1].astype(int).to_numpy()
    noise = np.array(spread)[level, None] * rng.normal(size=(len(runs), draws))
    noise += 3 * rng.normal(size=(seeds, draws))[runs["seed"]]
    names = [f"m{i}" for i in range(draws)]
    table = pairs(fitted(pd.concat([runs, pd.DataFrame(noise, columns=names)], axis=1), FACTORS[:2], names))
    table = table[(table["factor"] == "algorithm") & (table["at"] == "")]
    assert (table["p"] < 0.05).mean() == pytest.approx(0.05, abs=0.02)
    smallest = table.groupby("metric")["p"].min()
    assert 0.01 < (smallest < 0.05 / 6).mean() < 0.065
