"""The table of the analysis of variance against statsmodels, pingouin and R, its intervals and errors in simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pingouin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.anova import AnovaRM

from creditlab.analysis.effects.anova import anova, noncentrality, question_of
from creditlab.analysis.effects.anova import tests as f_tests
from creditlab.analysis.model.questions import verdicts
from tests.analysis.frames import FACTORS, crossing, fitted, one_way, oracle, rows_of
from tests.analysis.oracles import data, numbers

# pingouin 0.7 uses what pandas 3.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")
PLAIN = {"*": "identity"}  # every metric is compared as it is


def f_table(runs: pd.DataFrame, factors: list[str], metrics: list[str], **options) -> pd.DataFrame:
    """The F tests without the verdicts of the report, which take longer."""
    return f_tests(fitted(runs, factors, metrics, **options))


within_shapes = st.lists(st.integers(2, 3), min_size=1, max_size=2)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(within_shapes, st.integers(3, 5), st.integers(0, 2**32 - 1))
def test_seeds_that_all_cells_share_are_statsmodels_repeated_measures(shape, seeds, state):
    factors = FACTORS[: len(shape)]
    runs = crossing(shape, seeds, True, np.random.default_rng(state))
    table = f_table(runs, factors, ["m0", "m1"])
    for metric in ("m0", "m1"):
        ours = table[table["metric"] == metric].set_index("term")
        theirs = AnovaRM(runs, metric, "seed", within=factors).fit().anova_table
        assert list(ours.index) == list(theirs.index)
        np.testing.assert_allclose(ours["F"], theirs["F Value"], rtol=1e-8)
        np.testing.assert_allclose(ours["df"] / ours["epsilon"], theirs["Num DF"], rtol=1e-10)
        np.testing.assert_allclose(ours["df_error"] / ours["epsilon"], theirs["Den DF"], rtol=1e-10)
        np.testing.assert_allclose(ours["p"], stats.f.sf(ours["F"], ours["df"], ours["df_error"]), rtol=1e-10)
    assert table["epsilon"].between(0, 1, inclusive="right").all()
    assert set(table["model"]) == {"error strata"}


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.lists(st.integers(2, 4), min_size=1, max_size=2), st.booleans(), st.integers(0, 2**32 - 1))
def test_seeds_of_their_own_are_an_analysis_of_independent_groups(shape, equal, state):
    """Every run has a seed of its own: least squares with sums of squares of type III, however many runs a cell has."""
    factors = FACTORS[: len(shape)]
    runs = crossing(shape, 4, False, np.random.default_rng(state))
    runs = runs if equal else runs.drop(index=[0, 1, 6])
    table = f_table(runs, factors, ["m0"]).set_index("term")
    theirs = oracle(runs, factors, "m0", block=False, kind=3)
    for column in ("sum_sq", "df", "F", "p"):
        np.testing.assert_allclose(table[column], theirs[column][table.index], rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(table["df_error"], theirs.loc["Residual", "df"], rtol=1e-10)
    np.testing.assert_allclose(table["error_sq"], theirs.loc["Residual", "sum_sq"], rtol=1e-8)


def test_one_factor_is_pingouins_repeated_measures():
    runs = crossing([4], 6, True, np.random.default_rng(2))
    row = f_table(runs, ["algorithm"], ["m0"]).iloc[0]
    theirs = pingouin.rm_anova(runs, dv="m0", within="algorithm", subject="seed", detailed=True, effsize="np2")
    generalised = pingouin.rm_anova(runs, dv="m0", within="algorithm", subject="seed", effsize="ng2")
    assert row["F"] == pytest.approx(theirs["F"][0], rel=1e-9)
    assert row["partial_eta_sq"] == pytest.approx(theirs["np2"][0], rel=1e-9)
    assert row["generalised_eta_sq"] == pytest.approx(generalised["ng2"][0], rel=1e-9)
    assert row["sum_sq"] == pytest.approx(theirs["SS"][0], rel=1e-9)
    assert row["error_sq"] == pytest.approx(theirs["SS"][1], rel=1e-9)


def test_a_sweep_with_missing_runs_is_a_mixed_model_and_close_to_the_whole():
    """R's pbkrtest of the same model is in tests/analysis/model; here it is the table that says which model it was."""
    runs = crossing([3, 3], 5, True, np.random.default_rng(5), metrics=1)
    whole = f_table(runs, FACTORS[:2], ["m0"]).set_index("term")
    holed = f_table(runs.drop(index=[0, 13]), FACTORS[:2], ["m0"]).set_index("term")
    assert set(holed["model"]) == {"mixed model"}
    assert holed[["sum_sq", "error_sq", "generalised_eta_sq"]].isna().all(axis=None)
    assert holed[["F", "p", "omega_sq", "partial_eta_sq"]].notna().all(axis=None)
    assert set(holed["n"]) == {43}
    np.testing.assert_allclose(holed["omega_sq"], whole["omega_sq"], atol=0.15)


def test_the_sweep_that_r_analysed():
    runs = data("sweep_complete").assign(status="complete")
    table = f_table(runs, ["algorithm", "optimiser"], ["accuracy", "change_rank"], scales=PLAIN)
    for metric in ("accuracy", "change_rank"):
        ours, theirs = table[table["metric"] == metric].set_index("term"), numbers("sweep_complete")[metric]
        for effect, column in (("ges", "generalised_eta_sq"), ("pes", "partial_eta_sq")):
            for row in theirs["repeated_measures"][effect]:
                assert ours.loc[row["term"], column] == pytest.approx(row[effect], rel=1e-9)
    accuracy = table.set_index(["metric", "term"]).loc[("accuracy", "algorithm")]
    epsilon = numbers("sweep_complete")["accuracy"]["repeated_measures"]["epsilon"][0]
    assert accuracy["p"] == pytest.approx(epsilon["Pr(>F[HF])"], rel=1e-8)
    assert accuracy[["df", "df_error"]].tolist() == pytest.approx([2 * epsilon["HF eps"], 8 * epsilon["HF eps"]])


def test_effect_sizes_by_their_definitions():
    runs = crossing([3, 2], 5, True, np.random.default_rng(3))
    table = f_table(runs, FACTORS[:2], ["m0"]).set_index("term")
    cells = runs.groupby(FACTORS[:2])["m0"].transform("mean")
    inside = ((runs["m0"] - cells) ** 2).sum()
    for term, units in (("algorithm", 15), ("optimiser", 10), ("algorithm:optimiser", 30)):
        row = table.loc[term]
        df = row["df"] / row["epsilon"]
        assert row["partial_eta_sq"] == pytest.approx(row["sum_sq"] / (row["sum_sq"] + row["error_sq"]), rel=1e-12)
        assert row["generalised_eta_sq"] == pytest.approx(row["sum_sq"] / (row["sum_sq"] + inside), rel=1e-12)
        assert row["omega_sq"] == pytest.approx(df * (row["F"] - 1) / (df * (row["F"] - 1) + units), rel=1e-12)
        assert 0 <= row["omega_sq_low"] <= row["omega_sq_high"] <= 1


def test_the_noncentrality_is_that_of_scipys_distribution():
    f, df1, df2 = np.array([0.5, 3.0, 40.0]), np.array([1.0, 2.0, 3.4]), np.array([4.0, 8.0, 13.6])
    for probability in (0.025, 0.975):
        shift = noncentrality(f, df1, df2, probability)
        reached = stats.ncf.cdf(f, df1, df2, shift.clip(min=1e-12))
        inside = shift > 1e-9
        np.testing.assert_allclose(reached[inside], probability, rtol=1e-6)
        assert (stats.f.cdf(f, df1, df2)[~inside] <= probability).all()
    assert np.isnan(noncentrality(np.array([np.nan]), np.array([1.0]), np.array([4.0]), 0.5)).all()


@pytest.mark.parametrize(("shape", "seeds"), [([2, 2], 4), ([3], 10), ([3, 2], 6)])
def test_intervals_cover_the_population_share(shape, seeds):
    """95 % ± 2 % of 1,000 draws, for every term, with effects from none to most of what it shares with its error."""
    rng, draws = np.random.default_rng(14), 1000
    runs = crossing(shape, seeds, True, rng, metrics=1)
    factors = FACTORS[: len(shape)]
    mean = runs.groupby(factors)["m0"].transform("mean").to_numpy()
    names = [f"y{i}" for i in range(draws)]
    noise = rng.normal(size=(len(runs), draws)) + rng.normal(size=(seeds, draws))[runs["seed"]]
    noisy = pd.concat([runs, pd.DataFrame(mean[:, None] + noise, columns=names)], axis=1)
    table = f_table(noisy, factors, names)
    exact = f_table(runs.assign(m0=mean + 1e-3 * noise[:, 0]), factors, ["m0"]).set_index("term")["sum_sq"]
    for term, rows in table.groupby("term"):
        units = seeds * int(np.prod([runs[name].nunique() for name in term.split(":")]))
        share = exact[term] / (exact[term] + units)
        covered = rows["omega_sq_low"].le(share) & rows["omega_sq_high"].ge(share)
        assert covered.mean() == pytest.approx(0.95, abs=0.02), (term, share)


def test_order_of_interactions():
    runs = crossing([2, 3, 2], 3, True, np.random.default_rng(16))
    terms = {order: fitted(runs, FACTORS, ["m0"], order=order).models[0].model.terms for order in (1, 2, 3)}
    assert terms[1] == FACTORS
    assert [t for t in terms[3] if t not in terms[2]] == ["algorithm:optimiser:dataset"]
    ours = f_table(runs, FACTORS, ["m0"], order=3).set_index("term")
    theirs = AnovaRM(runs, "m0", "seed", within=FACTORS).fit().anova_table
    np.testing.assert_allclose(ours["F"], theirs["F Value"][ours.index], rtol=1e-8)
    fewer = f_table(runs, FACTORS, ["m0"], order=1).set_index("term")
    np.testing.assert_allclose(fewer["F"], ours["F"][fewer.index], rtol=1e-12)  # each has a stratum of its own


# Laws -----------------------------------------------------------------------------------------------------------------


def test_verdicts_are_those_of_the_whole_report():
    names = ["test/accuracy", "test/loss", "weights/a", "weights/b"]
    runs = crossing([3, 2], 4, True, np.random.default_rng(10), metrics=4)
    runs = runs.rename(columns={f"m{i}": name for i, name in enumerate(names)})
    runs["weights/b"] += 30 * (runs["algorithm"] == "a1")
    fits = fitted(runs, FACTORS[:2], names, scales=PLAIN)
    table, answers = anova(fits).frame, verdicts(fits).set_index(["question", "metric"])
    for row in table.to_dict("records"):
        answer = answers.loc[(question_of(row["term"], row["metric"], "test/accuracy"), row["metric"])]
        assert (row["p"], row["p_adjusted"], row["found"]) == (answer["p"], answer["p_adjusted"], answer["found"])
    assert (table["found"] == (table["p_adjusted"] <= 0.05)).all()
    assert (table["p_adjusted"] >= table["p"] - 1e-15).all()
    assert table.set_index(["metric", "term"]).loc[("weights/b", "algorithm"), "found"]
    assert question_of("algorithm", "test/loss", "test/accuracy") == "algorithm: what is learned"
    assert question_of("algorithm", "weights/a", "test/accuracy") == "algorithm: how it is encoded"


@pytest.mark.parametrize("drop", [[], [2]])
def test_order_of_rows_scale_and_global_random_state_do_not_matter(drop):
    runs = crossing([3, 2], 3, True, np.random.default_rng(11)).drop(index=drop)
    first = rows_of(anova, runs, FACTORS[:2], ["m0", "m1"])
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    shuffled = rows_of(anova, runs.sample(frac=1, random_state=0), FACTORS[:2], ["m0", "m1"])
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    pd.testing.assert_frame_equal(first, shuffled, rtol=1e-10)
    moved = rows_of(anova, runs.assign(m0=1e6 + 1e-3 * runs["m0"]), FACTORS[:2], ["m0"])
    np.testing.assert_allclose(moved["F"], first.loc[first["metric"] == "m0", "F"], rtol=1e-5)


def test_rows_are_by_metric_and_term():
    runs = crossing([2, 2], 3, True, np.random.default_rng(12))
    table = rows_of(anova, runs, FACTORS[:2], ["m1", "m0"])
    terms = ["algorithm", "optimiser", "algorithm:optimiser"]
    assert list(zip(table["metric"], table["term"], strict=True)) == list(product(["m1", "m0"], terms))


@pytest.mark.parametrize("kind", ["complete", "missing runs", "seeds of their own", "unequal runs"])
def test_false_positives_under_the_null(kind):
    """5 % of the tests at .05, though a factor's effect varies from seed to seed: within four standard errors."""
    rng, count = np.random.default_rng(13), {"missing runs": 100}.get(kind, 1500)
    runs = crossing([3, 2], 5, kind not in ("seeds of their own", "unequal runs"), rng, metrics=0)
    runs = runs.drop(index={"missing runs": [0, 7], "unequal runs": [0, 1, 12]}.get(kind, [])).reset_index(drop=True)
    noise = rng.normal(size=(len(runs), count))
    if runs["seed"].nunique() == 5:
        group = runs.groupby(["seed", "algorithm"]).ngroup().to_numpy()
        noise += rng.normal(size=(group.max() + 1, count))[group] + rng.normal(size=(5, count))[runs["seed"]]
    names = [f"m{i}" for i in range(count)]
    table = f_table(pd.concat([runs, pd.DataFrame(noise, columns=names)], axis=1), FACTORS[:2], names)
    for term, p in table.groupby("term")["p"]:
        assert (p < 0.05).mean() < 0.05 + 4 * np.sqrt(0.05 * 0.95 / count), (term, (p < 0.05).mean())
        assert (p < 0.05).mean() > 0.025, (term, (p < 0.05).mean())  # Huynh and Feldt's is a little cautious


# What the runs cannot bear --------------------------------------------------------------------------------------------


def test_two_seeds_give_estimates_and_no_verdict():
    runs = crossing([3, 2], 2, True, np.random.default_rng(4))
    runs["m0"] += 1e3 * (runs["algorithm"] == "a1")
    fits = fitted(runs, FACTORS[:2], ["m0", "m1"])
    table = anova(fits).frame
    assert table[["F", "omega_sq", "partial_eta_sq"]].notna().all(axis=None)
    assert table[["p", "p_adjusted"]].isna().all(axis=None)
    assert not table["found"].any()
    assert any("two seeds: estimates without verdicts" in note for note in anova(fits).notes)


def test_a_level_with_seeds_of_its_own_does_not_destroy_the_analysis():
    """All levels share seeds but one, which has others: a mixed model tests the factor on all of them."""
    runs = crossing([3, 2], 4, True, np.random.default_rng(5))
    runs["m0"] += 30 * (runs["algorithm"] == "a2")
    runs.loc[runs["algorithm"] == "a2", "seed"] += 100
    table = rows_of(anova, runs, FACTORS[:2], ["m0", "m1"])
    assert set(table["model"]) == {"mixed model"}
    assert set(table["seeds"]) == {8}
    assert table["p"].notna().all()
    row = table.set_index(["metric", "term"]).loc[("m0", "algorithm")]
    assert row["found"]
    assert row["df_error"] < 12  # of seeds, not of runs


def test_one_level_has_two_runs_per_cell_and_seed():
    runs = crossing([2, 2], 4, True, np.random.default_rng(6))
    more = runs[runs["algorithm"] == "a0"].assign(m0=lambda t: t["m0"] + 0.1)
    table = f_table(pd.concat([runs, more], ignore_index=True), FACTORS[:2], ["m0"])
    assert set(table["model"]) == {"mixed model"}
    assert set(table["n"]) == {24}
    assert table["p"].notna().all()


def test_unequal_groups_of_seeds_keep_their_strata():
    runs = one_way([5, 9, 7], [1, 1, 1], 1)
    row = f_table(runs, ["algorithm"], ["m0"]).iloc[0]
    theirs = stats.f_oneway(*(group["m0"] for _, group in runs.groupby("algorithm")))
    assert (row["F"], row["p"], row["model"]) == (
        pytest.approx(theirs.statistic, rel=1e-10),
        pytest.approx(theirs.pvalue, rel=1e-8),
        "error strata",
    )


def test_notes_name_the_model_the_scheme_and_what_was_not_f_table():
    runs = crossing([2, 2], 3, True, np.random.default_rng(7)).assign(constant=1.0)
    notes = anova(fitted(runs, FACTORS[:2], ["m0", "m1", "constant"])).notes
    assert notes == [
        "Model: algorithm + optimiser + algorithm:optimiser; 12 runs of 3 seeds; each effect is tested against its own "
        "variation from seed to seed (error strata).",
        "p_adjusted accounts for all tests of the report: the false discovery rate is 5 % over the whole.",
        "Not tested, constant: constant",
    ]
    unit = runs.assign(**{"test/accuracy": np.round(np.random.default_rng(0).random(12), 2)})
    (first, *_) = anova(fitted(unit, FACTORS[:2], ["test/accuracy"])).notes
    assert first.endswith("(error strata); test/accuracy on the logit scale.")


def test_the_noncentrality_is_that_of_r():
    for case in numbers("small")["noncentral_F_interval"]:
        f, df1, df2 = (np.array([float(case[key])]) for key in ("F", "df1", "df2"))
        ends = [float(noncentrality(f, df1, df2, probability)[0]) for probability in (0.975, 0.025)]
        assert ends == pytest.approx(case["lambda"], rel=1e-6)
