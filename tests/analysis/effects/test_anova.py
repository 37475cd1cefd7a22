"""The analysis of variance against statsmodels, pingouin and published tables."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pingouin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.multitest import multipletests

from creditlab.analysis.effects.anova import anova, families
from creditlab.analysis.model.design import build
from creditlab.analysis.model.fits import projection
from creditlab.analysis.model.multiplicity import holm
from creditlab.analysis.names import RESIDUAL
from tests.analysis.frames import FACTORS, crossing, fitted, oracle, rows_of

# pingouin 0.7 uses what pandas 3.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")


def assert_agree(runs: pd.DataFrame, factors: list[str], block: bool, kind: int) -> None:
    fits = fitted(runs, factors, ["m0", "m1"], kind={1: "I", 2: "II", 3: "III"}[kind])
    assert fits.untested == {}
    table = anova(fits).frame
    for metric in ("m0", "m1"):
        ours = table[table["metric"] == metric].set_index("term")
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
    (fit,) = fitted(runs, factors, ["m0"])
    if not any("left out" in note for note in fit.model.notes):  # no cell was emptied
        assert fit.model.method == "projection"
        assert_agree(runs, factors, block, kind)


def test_types_differ_where_unbalanced_and_the_model_names_its_type():
    runs = crossing([3, 3], 4, True, np.random.default_rng(5)).drop(index=[0, 1, 5, 13])
    two, three = (fitted(runs, FACTORS[:2], ["m0"], kind=kind) for kind in ("II", "III"))
    assert (two.models[0].model.kind, three.models[0].model.kind) == ("II", "III")
    assert not two.models[0].model.balanced
    sums = [anova(fits).frame.set_index("term")["sum_sq"] for fits in (two, three)]
    assert abs(sums[0]["algorithm"] / sums[1]["algorithm"] - 1) > 1e-3
    for kind, sum_sq in zip((2, 3), sums, strict=True):
        theirs = oracle(runs, FACTORS[:2], "m0", True, kind)
        np.testing.assert_allclose(sum_sq, theirs["sum_sq"][sum_sq.index], rtol=1e-9)


@pytest.mark.parametrize("kind", ["II", "III"])
@pytest.mark.parametrize("drop", [[], [0, 5, 6, 17]])
def test_agrees_with_pingouin(kind, drop):
    runs = crossing([3, 2], 4, False, np.random.default_rng(1)).drop(index=drop)
    ours = rows_of(anova, runs, FACTORS[:2], ["m0"], kind=kind).set_index("term")
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
    ours = fitted(runs, ["algorithm"], ["m0"])
    theirs = pingouin.rm_anova(runs, dv="m0", within="algorithm", subject="seed", detailed=True)
    row = anova(ours).frame.set_index("term").loc["algorithm"]
    assert ours.models[0].model.terms == ["algorithm", "seed"]
    assert row["F"] == pytest.approx(theirs["F"][0], rel=1e-9)
    assert row["p"] == pytest.approx(theirs["p_unc"][0], rel=1e-7)


def test_effect_sizes_by_their_definitions():
    runs = crossing([3, 2], 5, True, np.random.default_rng(3))
    table = rows_of(anova, runs, FACTORS[:2], ["m0"]).set_index("term")
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
    truth = rows_of(anova, runs, factors, ["m0"]).set_index("term")["sum_sq"]
    design = build(runs, factors)
    mean = mean - projection(mean[:, None], design, "III")[1][:, 0]  # what the model can say
    names = [f"y{i}" for i in range(draws)]
    noisy = pd.concat([runs, pd.DataFrame(mean[:, None] + noise, columns=names)], axis=1)
    table = rows_of(anova, noisy, factors, names)
    total = ((mean - mean.mean()) ** 2).sum()
    for term, rows in table[table["term"] != RESIDUAL].groupby("term"):
        for size, share in (
            ("eta_sq", truth[term] / (total + len(runs))),
            ("omega_sq", truth[term] / (total + len(runs))),
            ("partial_eta_sq", truth[term] / (truth[term] + len(runs))),
        ):
            covered = rows[f"{size}_low"].le(share) & rows[f"{size}_high"].ge(share)
            assert covered.mean() == pytest.approx(0.95, abs=0.02), (term, size, share)


def test_order_of_interactions():
    runs = crossing([2, 3, 2], 3, True, np.random.default_rng(16))
    terms = {order: fitted(runs, FACTORS, ["m0"], order=order).models[0].model.terms for order in (1, 2, 3)}
    assert terms[1] == [*FACTORS, "seed"]
    assert [t for t in terms[3] if t not in terms[2]] == ["algorithm:optimiser:dataset"]
    for drop in ([], [1, 8]):
        kept = runs.drop(index=drop)
        ours = rows_of(anova, kept, FACTORS, ["m0"], order=3).set_index("term")
        full = f"{' * '.join(f'C({f}, Sum)' for f in FACTORS)} + C(seed, Sum)"
        theirs = anova_lm(ols(f"m0 ~ {full}", kept).fit(), typ=2)
        theirs.index = [
            ":".join(p[2:].partition(",")[0] for p in i.split(":")) if "C(" in i else i for i in theirs.index
        ]
        np.testing.assert_allclose(ours["F"], theirs["F"][ours.index], rtol=1e-9)


# Laws -----------------------------------------------------------------------------------------------------------------


def test_holm_is_over_the_tests_of_one_term():
    runs = crossing([3, 2], 3, True, np.random.default_rng(10), metrics=7)
    table = rows_of(anova, runs, FACTORS[:2], [f"m{i}" for i in range(7)])
    assert families(table) == {"algorithm": 7, "optimiser": 7, "algorithm:optimiser": 7, "seed": 7}
    for _, tests in table[table["term"] != RESIDUAL].groupby("term"):
        theirs = multipletests(tests["p"], method="holm")[1]
        np.testing.assert_allclose(tests["p_adjusted"], theirs, rtol=1e-12)
    assert holm(np.array([0.04, 0.01, 0.03])) == pytest.approx([0.06, 0.03, 0.06])  # by hand: 3 × .01, 2 × .03


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
    table = rows_of(anova, runs, FACTORS[:2], ["m0", "m1"])
    terms = ["algorithm", "optimiser", "algorithm:optimiser", "seed", RESIDUAL]
    assert list(zip(table["metric"], table["term"], strict=True)) == list(product(["m0", "m1"], terms))


@pytest.mark.parametrize("drop", [[], [0, 7]])
def test_false_positives_under_the_null(drop):
    """5 % of the tests at 0.05, within four standard errors."""
    rng = np.random.default_rng(13)
    runs = crossing([3, 2], 3, True, rng, metrics=0).drop(index=drop)
    count = 2000
    noise = pd.DataFrame(rng.normal(size=(len(runs), count)), index=runs.index).add_prefix("m")
    table = rows_of(anova, pd.concat([runs, noise], axis=1), FACTORS[:2], list(noise.columns))
    for term, p in table[table["term"] != RESIDUAL].groupby("term")["p"]:
        assert abs((p < 0.05).mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / count), term


def test_notes_name_the_model_the_family_and_what_was_not_tested():
    runs = crossing([2, 2], 3, True, np.random.default_rng(7)).assign(constant=1.0)
    notes = anova(fitted(runs, FACTORS[:2], ["m0", "m1", "constant"])).notes
    assert notes == [
        "Model: algorithm + optimiser + algorithm:optimiser + seed (block); n = 12 runs; residual df 6; the seed is a "
        "random block, repeated measures; balanced, so that the sums of squares of types I, II and III agree "
        "(closed form).",
        "p: F test, Holm's adjustment over all tests of one term (algorithm 2, optimiser 2, algorithm:optimiser 2, "
        "seed 2). η²: share of the total SS.",
        "Not tested, constant: constant",
    ]
