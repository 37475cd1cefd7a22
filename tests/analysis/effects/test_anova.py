"""The analysis of variance against statsmodels, pingouin and published tables."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pandas as pd
import pingouin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests

from creditlab.analysis.effects.anova import COLUMNS, anova
from creditlab.analysis.effects.shares import OVERLAP, shares
from creditlab.analysis.model.design import build
from creditlab.analysis.model.fits import closed_form, projection
from creditlab.analysis.model.multiplicity import holm
from creditlab.analysis.names import RESIDUAL, AnalysisError

FACTORS = ["algorithm", "optimiser", "dataset"]


def crossing(shape: list[int], seeds: int, block: bool, rng: np.random.Generator, metrics: int = 2) -> pd.DataFrame:
    """A complete crossing with a random outcome in which every effect, the seed's too, is there."""
    codes = np.array(list(product(*(range(levels) for levels in shape), range(seeds))))
    factors = FACTORS[: len(shape)]
    values = rng.normal(size=(len(codes), metrics))
    for axes in [*combinations(range(len(shape)), 2), *((axis,) for axis in range(len(shape) + 1))]:
        cell = np.unique(codes[:, axes], axis=0, return_inverse=True)[1].ravel()
        values += rng.normal(size=(cell.max() + 1, metrics))[cell]
    runs = pd.DataFrame({f: [f"{f[0]}{level}" for level in codes[:, axis]] for axis, f in enumerate(factors)})
    runs["seed"] = codes[:, -1] if block else np.arange(len(codes))
    return runs.assign(status="complete", **{f"m{m}": values[:, m] for m in range(metrics)})


# pingouin 0.7 uses what pandas 3.1 deprecates; statsmodels warns of the empty cell that we give it on purpose.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The inplace keyword"),
    pytest.mark.filterwarnings("ignore:The design matrix is rank-deficient"),
]


def oracle(runs: pd.DataFrame, factors: list[str], metric: str, block: bool, kind: int, pairs: bool = True):
    """statsmodels' table under our names of the terms."""
    terms = [*((f,) for f in factors), *(combinations(factors, 2) if pairs else ()), *([("seed",)] if block else [])]
    terms = sorted(terms, key=lambda term: term != ("seed",)) if kind == 1 else terms  # the block comes first
    names = {":".join(f"C({f}, Sum)" for f in term): ":".join(term) for term in terms}
    table = anova_lm(ols(f"y ~ {' + '.join(names)}", runs.assign(y=runs[metric])).fit(), typ=kind)
    return table.rename(index=names).rename(columns={"PR(>F)": "p"}).drop(index="Intercept", errors="ignore")


def assert_agree(runs: pd.DataFrame, factors: list[str], block: bool, kind: int) -> None:
    found = anova(runs, factors, ["m0", "m1"], {1: "I", 2: "II", 3: "III"}[kind])
    assert found.untested == {}
    for metric in ("m0", "m1"):
        ours = found.table[found.table["metric"] == metric].set_index("term")
        theirs = oracle(runs, factors, metric, block, kind)
        assert set(ours.index) == set(theirs.index)
        for column in ("sum_sq", "df", "F", "p"):
            np.testing.assert_allclose(ours[column], theirs[column][ours.index], rtol=1e-8, atol=1e-10)


shapes = st.lists(st.integers(2, 4), min_size=1, max_size=3)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(shapes, st.integers(2, 4), st.booleans(), st.integers(0, 2**32 - 1))
def test_balanced_agrees_with_statsmodels(shape, seeds, block, state):
    runs = crossing(shape, seeds, block, np.random.default_rng(state))
    assert_agree(runs, FACTORS[: len(shape)], block, kind=3 if state % 2 else 2)  # no matter which


@settings(max_examples=30, deadline=None, derandomize=True)
@given(shapes, st.integers(2, 4), st.booleans(), st.integers(0, 2**32 - 1))
def test_closed_form_is_least_squares_to_ten_digits(shape, seeds, block, state):
    runs = crossing(shape, seeds, block, np.random.default_rng(state))
    design = build(runs, FACTORS[: len(shape)])
    values = runs[["m0", "m1"]].to_numpy()
    for kind in ("I", "II", "III"):
        for ours, theirs in zip(closed_form(values, design), projection(values, design, kind), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10 * values.var() * len(values))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(2, 3), min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from([1, 2, 3]),
    st.integers(0, 2**32 - 1),
)
def test_unbalanced_agrees_with_statsmodels(shape, block, kind, state):
    rng = np.random.default_rng(state)
    runs = crossing(shape, 4, block, rng)
    factors = FACTORS[: len(shape)]
    gone = runs.sample(frac=0.15, random_state=state % 1000).index
    runs = runs.drop(gone[runs.loc[gone, "algorithm"] != "a1"])  # every cell keeps runs or is whole
    runs = runs.drop(runs[(runs["algorithm"] == "a0") & (runs["seed"] == runs["seed"].min())].index)
    found = anova(runs, factors, ["m0"])
    if not any("left out" in note for note in found.models[0].notes):  # no cell was emptied
        assert found.models[0].method == "projection"
        assert_agree(runs, factors, block, kind)


def test_types_differ_where_unbalanced_and_the_type_is_said():
    runs = crossing([3, 3], 4, True, np.random.default_rng(5)).drop(index=[0, 1, 5, 13])
    two, three = (anova(runs, FACTORS[:2], ["m0"], kind) for kind in ("II", "III"))
    assert (two.models[0].kind, three.models[0].kind) == ("II", "III")
    assert not two.models[0].balanced
    term = two.table["term"] == "algorithm"
    assert abs(two.table.loc[term, "sum_sq"].item() / three.table.loc[term, "sum_sq"].item() - 1) > 1e-3
    for kind, table in ((2, two.table), (3, three.table)):
        theirs = oracle(runs, FACTORS[:2], "m0", True, kind)
        np.testing.assert_allclose(table["sum_sq"], theirs["sum_sq"][table["term"]], rtol=1e-9)


@pytest.mark.parametrize("kind", ["II", "III"])
@pytest.mark.parametrize("drop", [[], [0, 5, 6, 17]])
def test_agrees_with_pingouin(kind, drop):
    runs = crossing([3, 2], 4, False, np.random.default_rng(1)).drop(index=drop)
    ours = anova(runs, FACTORS[:2], ["m0"], kind).table.set_index("term")
    for effect, column in (("np2", "partial_eta_sq"), ("n2", None)):
        theirs = pingouin.anova(
            data=runs, dv="m0", between=FACTORS[:2], ss_type={"II": 2, "III": 3}[kind], effsize=effect, detailed=True
        )
        theirs.index = ["algorithm", "optimiser", "algorithm:optimiser", RESIDUAL]
        np.testing.assert_allclose(ours["sum_sq"], theirs["SS"], rtol=1e-9)
        np.testing.assert_allclose(ours["F"], theirs["F"], rtol=1e-9)
        np.testing.assert_allclose(ours["p"], theirs["p_unc"], rtol=1e-7)
        if column:
            np.testing.assert_allclose(ours[column], theirs[effect], rtol=1e-9)


def test_seed_as_a_block_is_pingouins_repeated_measures():
    runs = crossing([4], 6, True, np.random.default_rng(2))
    ours = anova(runs, ["algorithm"], ["m0"])
    theirs = pingouin.rm_anova(runs, dv="m0", within="algorithm", subject="seed", detailed=True)
    row = ours.table.set_index("term").loc["algorithm"]
    assert ours.models[0].terms == ["algorithm", "seed"]
    assert row["F"] == pytest.approx(theirs["F"][0], rel=1e-9)
    assert row["p"] == pytest.approx(theirs["p_unc"][0], rel=1e-7)


def test_effect_sizes_by_their_definitions():
    runs = crossing([3, 2], 5, True, np.random.default_rng(3))
    table = anova(runs, FACTORS[:2], ["m0"]).table.set_index("term")
    total = ((runs["m0"] - runs["m0"].mean()) ** 2).sum()
    error = table.loc[RESIDUAL, "sum_sq"]
    mean_square = error / table.loc[RESIDUAL, "df"]
    assert table["eta_sq"].sum() == pytest.approx(1, abs=1e-12)  # balanced: the shares add up
    for _, row in table.drop(index=RESIDUAL).iterrows():
        assert row["eta_sq"] == pytest.approx(row["sum_sq"] / total, rel=1e-12)
        assert row["partial_eta_sq"] == pytest.approx(row["F"] * row["df"] / (row["F"] * row["df"] + 20), rel=1e-12)
        assert row["omega_sq"] == pytest.approx(
            (row["sum_sq"] - row["df"] * mean_square) / (total + mean_square), rel=1e-12
        )
    assert table.loc[RESIDUAL, "df"] == 20
    assert np.isnan(table.loc[RESIDUAL, "F"])


@pytest.mark.parametrize(("shape", "seeds", "drop"), [([4, 2], 3, []), ([3], 10, []), ([3, 3], 6, [0, 7, 20, 33])])
def test_intervals_cover_the_population_share(shape, seeds, drop):
    """95 % ± 2 % of 2,000 draws, for every term, with effects from none to most of the variance."""
    rng = np.random.default_rng(14)
    runs = crossing(shape, seeds, True, rng, metrics=1).drop(index=drop).reset_index(drop=True)
    factors = FACTORS[: len(shape)]
    mean, draws = runs["m0"].to_numpy(), 2000
    noise = rng.normal(size=(len(runs), draws))
    truth = anova(runs, factors, ["m0"]).table.set_index("term")["sum_sq"]
    design = build(runs, factors)
    mean = mean - projection(mean[:, None], design, "III")[1][:, 0]  # what the model can say
    names = [f"y{i}" for i in range(draws)]
    table = anova(pd.concat([runs, pd.DataFrame(mean[:, None] + noise, columns=names)], axis=1), factors, names).table
    total = ((mean - mean.mean()) ** 2).sum()
    for term, rows in table[table["term"] != RESIDUAL].groupby("term"):
        for size, share in (
            ("eta_sq", truth[term] / (total + len(runs))),
            ("omega_sq", truth[term] / (total + len(runs))),
            ("partial_eta_sq", truth[term] / (truth[term] + len(runs))),
        ):
            covered = rows[f"{size}_low"].le(share) & rows[f"{size}_high"].ge(share)
            assert covered.mean() == pytest.approx(0.95, abs=0.02), (term, size, share)


def test_shares_of_variance():
    runs = crossing([3, 2], 4, True, np.random.default_rng(15)).rename(columns={"m0": "test/loss", "m1": "weights/a"})
    whole = shares(anova(runs, FACTORS[:2], ["test/loss", "weights/a"]).table)
    assert list(whole.columns) == ["metric", "side", "term", "share", "low", "high"]
    assert whole.groupby("metric")["share"].sum().tolist() == pytest.approx([1, 1])
    assert whole.groupby("metric")["side"].first().to_dict() == {"test/loss": "behaviour", "weights/a": "encoding"}
    assert OVERLAP not in set(whole["term"])
    holed = shares(anova(runs.drop(index=[0, 5]), FACTORS[:2], ["test/loss", "weights/a"]).table)
    assert holed.groupby("metric")["share"].sum().tolist() == pytest.approx([1, 1])
    assert set(holed.loc[holed["term"] == OVERLAP, "metric"]) == {"test/loss", "weights/a"}


def test_order_of_interactions():
    runs = crossing([2, 3, 2], 3, True, np.random.default_rng(16))
    terms = {order: anova(runs, FACTORS, ["m0"], order=order).models[0].terms for order in (1, 2, 3)}
    assert terms[1] == [*FACTORS, "seed"]
    assert [t for t in terms[3] if t not in terms[2]] == ["algorithm:optimiser:dataset"]
    for drop in ([], [1, 8]):
        kept = runs.drop(index=drop)
        ours = anova(kept, FACTORS, ["m0"], order=3).table.set_index("term")
        full = f"{' * '.join(f'C({f}, Sum)' for f in FACTORS)} + C(seed, Sum)"
        theirs = anova_lm(ols(f"m0 ~ {full}", kept).fit(), typ=2)
        theirs.index = [
            ":".join(p[2:].partition(",")[0] for p in i.split(":")) if "C(" in i else i for i in theirs.index
        ]
        np.testing.assert_allclose(ours["F"], theirs["F"][ours.index], rtol=1e-9)


def test_an_aliased_factor_is_named():
    runs = crossing([3, 2], 4, True, np.random.default_rng(17)).drop(index=0)
    runs["dataset"] = runs["algorithm"].map({"a0": "x", "a1": "y", "a2": "y"})
    notes = anova(runs, FACTORS, ["m0"]).models[0].notes
    assert "dataset left out: aliased, algorithm tells its value" in notes


def test_the_seed_is_said_to_be_a_block_or_a_replicate():
    def role(runs: pd.DataFrame) -> str:
        return anova(runs, FACTORS[:2], ["m0"]).models[0].seed

    blocked = crossing([3, 2], 3, True, np.random.default_rng(18))
    assert role(blocked) == "random block, repeated measures"
    assert role(blocked.drop(index=3)) == "random block, incomplete"
    assert role(pd.concat([blocked, blocked.assign(m0=blocked["m1"])])) == "random block, replicated"
    assert role(crossing([3, 2], 3, False, np.random.default_rng(18))) == "replicate"


# What a design cannot bear --------------------------------------------------------------------------------------------


def test_an_empty_cell_reduces_the_model_and_is_named():
    runs = crossing([3, 3], 3, True, np.random.default_rng(4)).query("algorithm != 'a2' or optimiser != 'o1'")
    trap = oracle(runs, FACTORS[:2], "m0", True, 2)
    assert trap.loc["algorithm:optimiser", "df"] == 4  # what statsmodels prints; the rank of the design allows 3
    found = anova(runs, FACTORS[:2], ["m0"])
    assert found.models[0].terms == ["algorithm", "optimiser", "seed"]
    assert found.models[0].notes == ["algorithm:optimiser left out: no run at algorithm=a2, optimiser=o1"]
    theirs = oracle(runs, FACTORS[:2], "m0", True, 2, pairs=False)
    np.testing.assert_allclose(found.table["F"], theirs["F"][found.table["term"]], rtol=1e-9)
    with pytest.raises(AnalysisError, match=r"m0: no run at algorithm=a2, optimiser=o1\."):
        anova(runs, FACTORS[:2], ["m0"], strict=True)


def test_an_empty_cell_of_three_factors_leaves_the_interactions_that_are_filled():
    runs = crossing([2, 2, 2], 3, True, np.random.default_rng(4)).query(
        "algorithm != 'a1' or optimiser != 'o1' or dataset != 'd0'"
    )
    found = anova(runs, FACTORS, ["m0"])
    assert len([t for t in found.models[0].terms if ":" in t]) == 3
    assert found.models[0].notes[0].startswith("no run at algorithm=a1, optimiser=o1, dataset=d0;")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shapes, st.integers(1, 3), st.floats(0.2, 1), st.booleans(), st.integers(0, 2**32 - 1))
def test_degrees_of_freedom_are_the_rank_of_the_design(shape, seeds, kept, block, state):
    """Whatever runs are missing, the terms are independent and leave the residual what the rank leaves it."""
    runs = crossing(shape, seeds, block, np.random.default_rng(state)).sample(frac=kept, random_state=state % 1000)
    if runs.empty:
        return
    design = build(runs, FACTORS[: len(shape)])
    if design.reason:
        assert design.terms == []
        return
    columns = np.hstack([np.ones((len(runs), 1)), *map(design.columns, design.terms)])
    assert np.linalg.matrix_rank(columns) == 1 + sum(map(design.df, design.terms)) == columns.shape[1]
    assert design.residual_df == len(runs) - columns.shape[1] > 0
    for term in [*((f,) for f in FACTORS[: len(shape)]), *combinations(FACTORS[: len(shape)], 2)]:
        said = [f"{':'.join(term)} left out", *(f"{factor} does not vary" for factor in term)]
        said += ["interactions left out"] if len(term) == 2 else []
        assert (term in design.terms) != any(note.startswith(tuple(said)) for note in design.notes)


def test_confounded_interactions_are_left_out():
    """A half fraction: the third factor is the interaction of the first two."""
    runs = crossing([2, 2, 2], 4, True, np.random.default_rng(6))
    parity = sum(runs[f].str[1].astype(int) for f in FACTORS) % 2
    model = anova(runs[parity == 0], FACTORS, ["m0"]).models[0]
    assert model.terms == ["algorithm", "optimiser", "dataset", "seed"]
    assert sum("cannot tell it from the effects before it" in note for note in model.notes) == 3


def test_what_cannot_be_tested_says_why():
    runs = crossing([2, 2], 3, True, np.random.default_rng(7))
    runs["constant"] = 0.1 + 0.2
    runs["by cell"] = (runs["algorithm"] == "a1") * 0.3 + (runs["optimiser"] == "o1") * 0.1
    runs["absent"] = np.nan
    runs["one level"] = runs["m0"].where((runs["algorithm"] == "a0") & (runs["optimiser"] == "o0"))
    runs["one a cell"] = runs["m0"].where((runs["seed"] == 0) & (runs["optimiser"] == "o0"))
    found = anova(runs, FACTORS[:2], ["constant", "by cell", "absent", "one level", "one a cell"])
    assert found.table.empty
    assert list(found.table.columns) == COLUMNS
    assert found.untested["constant"] == "constant"
    assert found.untested["by cell"] == "does not vary within cells: nothing to test against"
    assert found.untested["absent"] == "no finite value in any finished run"
    assert found.untested["one level"] == "no factor varies among the runs that have it"
    assert found.untested["one a cell"].startswith("no residual degree of freedom")


def test_one_seed_tests_main_effects_against_the_interaction():
    runs = crossing([3, 3], 1, True, np.random.default_rng(8))
    found = anova(runs, FACTORS[:2], ["m0"])
    assert found.models[0].terms == ["algorithm", "optimiser"]
    assert found.models[0].residual_df == 4
    assert any(note.startswith("one seed") for note in found.models[0].notes)
    assert any(note.startswith("interactions left out") for note in found.models[0].notes)
    theirs = oracle(runs, FACTORS[:2], "m0", False, 2, pairs=False)
    np.testing.assert_allclose(found.table["F"], theirs["F"][found.table["term"]], rtol=1e-9)


def test_values_that_are_not_finite_are_left_out_by_metric_and_counted():
    runs = crossing([2, 2], 4, True, np.random.default_rng(9))
    runs.loc[3, ["m0", "status"]] = [np.inf, "diverged"]
    runs["only a0"] = runs["m1"].where(runs["algorithm"] == "a0")
    found = anova(runs, FACTORS[:2], ["m0", "m1", "only a0"])
    models = {model.metrics[0]: model for model in found.models}
    assert (models["m0"].n, models["m0"].left_out) == (15, {"diverged": 1})
    assert models["m0"].metrics == ["m0", "m1"]  # the diverged run is left out where its value is finite, too
    assert models["only a0"].terms == ["optimiser", "seed"]
    assert models["only a0"].notes[0] == "without algorithm=a1: no finite value"
    kept = runs.drop(index=3)
    ours = found.table[found.table["metric"] == "m0"]
    np.testing.assert_allclose(ours["F"], oracle(kept, FACTORS[:2], "m0", True, 2)["F"][ours["term"]], rtol=1e-9)
    assert set(ours["n"]) == {15}


# Laws -----------------------------------------------------------------------------------------------------------------


def test_holm_is_over_the_tests_of_one_term():
    runs = crossing([3, 2], 3, True, np.random.default_rng(10), metrics=7)
    found = anova(runs, FACTORS[:2], [f"m{i}" for i in range(7)])
    assert found.families == {"algorithm": 7, "optimiser": 7, "algorithm:optimiser": 7, "seed": 7}
    for _, tests in found.table[found.table["term"] != RESIDUAL].groupby("term"):
        theirs = multipletests(tests["p"], method="holm")[1]
        np.testing.assert_allclose(tests["p_adjusted"], theirs, rtol=1e-12)
    assert holm(np.array([0.04, 0.01, 0.03])) == pytest.approx([0.06, 0.03, 0.06])  # by hand: 3 × .01, 2 × .03


@pytest.mark.parametrize("drop", [[], [2]])
def test_order_of_rows_scale_and_global_random_state_do_not_matter(drop):
    runs = crossing([3, 2], 3, True, np.random.default_rng(11)).drop(index=drop)
    first = anova(runs, FACTORS[:2], ["m0", "m1"]).table
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    shuffled = anova(runs.sample(frac=1, random_state=0), FACTORS[:2], ["m0", "m1"]).table
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    pd.testing.assert_frame_equal(first, shuffled, rtol=1e-10)
    moved = anova(runs.assign(m0=1e6 + 1e-3 * runs["m0"]), FACTORS[:2], ["m0"]).table
    np.testing.assert_allclose(moved["F"], first.loc[first["metric"] == "m0", "F"], rtol=1e-5)


def test_columns_are_frozen():
    runs = crossing([2, 2], 3, True, np.random.default_rng(12))
    table = anova(runs, FACTORS[:2], ["m0", "m1"]).table
    assert list(table.columns) == [
        *["metric", "term", "sum_sq", "df", "F", "p", "p_adjusted"],
        *["eta_sq", "partial_eta_sq", "omega_sq", "n", "eta_sq_low", "eta_sq_high"],
        *["partial_eta_sq_low", "partial_eta_sq_high", "omega_sq_low", "omega_sq_high"],
    ]
    terms = ["algorithm", "optimiser", "algorithm:optimiser", "seed", RESIDUAL]
    assert list(zip(table["metric"], table["term"], strict=True)) == list(product(["m0", "m1"], terms))


@pytest.mark.parametrize("drop", [[], [0, 7]])
def test_false_positives_under_the_null(drop):
    """5 % of the tests at 0.05, within four standard errors."""
    rng = np.random.default_rng(13)
    runs = crossing([3, 2], 3, True, rng, metrics=0).drop(index=drop)
    count = 2000
    noise = pd.DataFrame(rng.normal(size=(len(runs), count)), index=runs.index).add_prefix("m")
    table = anova(pd.concat([runs, noise], axis=1), FACTORS[:2], list(noise.columns)).table
    for term, p in table[table["term"] != RESIDUAL].groupby("term")["p"]:
        assert abs((p < 0.05).mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / count), term
