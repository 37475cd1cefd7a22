"""Kendall's W against scipy, pingouin, plain loops and simulation."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pingouin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from creditlab.analysis import load
from creditlab.analysis.agreement.concordance import (
    PAIRS,
    agreement,
    bootstrap_w,
    concordance,
    interval,
    interval_over_classes,
    kendall_w,
    mean_spearman,
    noise_ceiling,
    permutation_p,
    spearman,
)
from creditlab.analysis.data.ratings import confusion, pairs

sizes = {"m": st.integers(2, 6), "n": st.integers(3, 12), "state": st.integers(0, 2**32 - 1)}


def scores(m: int, n: int, state: int, ties: bool) -> np.ndarray:
    """(raters, items); with ties, few distinct values, yet no rater that ties every item."""
    rng = np.random.default_rng(state)
    drawn = rng.integers(0, 4, size=(m, n)).astype(float) if ties else rng.normal(size=(m, n))
    drawn[:, :2] = [0, 1] if ties else drawn[:, :2]
    return drawn + (0 if ties else rng.normal(size=n))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(**sizes, ties=st.booleans())
def test_w_is_friedmans(m, n, state, ties):
    x = scores(m, n, state, ties)
    friedman = stats.friedmanchisquare(*x.T).statistic
    assert kendall_w(x) == pytest.approx(friedman / (m * (n - 1)), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_w_is_pingouins(ties):
    x = scores(4, 9, 1, ties)
    long = pd.DataFrame(x).melt(ignore_index=False, var_name="item", value_name="loss").reset_index(names="rater")
    theirs = pingouin.friedman(long, dv="loss", within="item", subject="rater")["W"].iloc[0]
    assert kendall_w(x) == pytest.approx(theirs, rel=1e-10)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(**sizes, ties=st.booleans())
def test_mean_spearman_is_the_mean_over_pairs(m, n, state, ties):
    x = scores(m, n, state, ties)
    pairs = [stats.spearmanr(a, b).statistic for a, b in combinations(x, 2)]
    assert mean_spearman(x) == pytest.approx(np.mean(pairs), abs=1e-10)
    if not ties:
        assert mean_spearman(x) == pytest.approx((m * kendall_w(x) - 1) / (m - 1), abs=1e-10)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(**sizes, ties=st.booleans())
def test_laws(m, n, state, ties):
    x = scores(m, n, state, ties)
    rng = np.random.default_rng(state)
    w = kendall_w(x)
    assert -1e-12 <= w <= 1 + 1e-12
    assert kendall_w(x[rng.permutation(m)][:, rng.permutation(n)]) == pytest.approx(w, abs=1e-12)
    assert kendall_w(np.exp(x) + 7) == pytest.approx(w, abs=1e-12)  # ranks alone count
    assert kendall_w(np.tile(x[:1], (m, 1))) == pytest.approx(1, abs=1e-12)
    assert mean_spearman(np.tile(x[:1], (m, 1))) == pytest.approx(1, abs=1e-12)


def test_two_opposed_raters_and_raters_without_an_opinion():
    assert kendall_w(np.array([[1.0, 2, 3, 4], [4, 3, 2, 1]])) == 0
    assert mean_spearman(np.array([[1.0, 2, 3, 4], [4, 3, 2, 1]])) == pytest.approx(-1)
    assert np.isnan(kendall_w(np.ones((3, 5))))
    assert np.isnan(mean_spearman(np.array([[1.0, 1, 1], [1, 2, 3]])))


@pytest.mark.parametrize("ties", [False, True])
def test_bootstrap_is_w_of_the_resampled_items(ties):
    """The same draws, ranked anew."""
    x = scores(5, 40, 3, ties)
    x[0] = np.arange(40)  # a rater without ties beside those with
    rng = np.random.default_rng(4)
    expected = [kendall_w(x[:, rng.integers(40, size=40)]) for _ in range(37)]
    np.testing.assert_allclose(bootstrap_w(x, np.random.default_rng(4), draws=37), expected, rtol=1e-10)


def test_noise_ceiling_is_reached_by_raters_that_differ_by_seeds_alone():
    rng = np.random.default_rng(5)
    truth = rng.normal(size=4000)
    seeds = [truth + rng.normal(size=(4, 4000)) for _ in range(5)]
    w = kendall_w(np.stack([each.mean(axis=0) for each in seeds]))
    assert noise_ceiling(seeds) == pytest.approx(w, abs=0.01)
    single = np.mean([mean_spearman(each) for each in seeds])
    assert noise_ceiling(seeds) > (1 + 4 * single) / 5 + 0.1  # what single seeds agree on is less
    assert np.isnan(noise_ceiling([each[:1] for each in seeds]))


def test_p_is_uniform_for_unrelated_raters():
    """At 0.05, within four standard errors; the chi-square is slightly conservative for few raters."""
    rng = np.random.default_rng(6)
    m, n, draws = 20, 30, 2000
    w = np.array([kendall_w(rng.normal(size=(m, n))) for _ in range(draws)])
    assert w.mean() == pytest.approx(1 / m, abs=4 * w.std() / np.sqrt(draws))  # the floor
    assert abs((stats.chi2.sf(m * (n - 1) * w, n - 1) < 0.05).mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / draws)


def test_worked_example_with_ties():
    """Three judges and six contestants with ties, worked by hand from the definition."""
    ranks = np.array([[1, 2.5, 2.5, 4, 5, 6], [2, 1, 3.5, 3.5, 6, 5], [1, 3, 2, 5, 5, 5]])
    sums = np.array([4, 6.5, 8, 12.5, 16, 16])  # mean 10.5
    assert (ranks.sum(axis=0) == sums).all()
    ties = (2**3 - 2) + (2**3 - 2) + (3**3 - 3)
    expected = 12 * 129.0 / (9 * (6**3 - 6) - 3 * ties)
    assert ((sums - 10.5) ** 2).sum() == 129.0
    assert kendall_w(ranks) == pytest.approx(expected, rel=1e-12)
    row = agreement(pd.DataFrame(ranks, index=pd.MultiIndex.from_product([list("abc"), ["0"]]))).iloc[0]
    assert row["chi2"] == pytest.approx(3 * 5 * expected)
    assert row[["F", "df1", "df2"]].tolist() == pytest.approx([2 * expected / (1 - expected), 5 - 2 / 3, 10 - 4 / 3])
    long = pd.DataFrame(ranks).melt(ignore_index=False, var_name="item", value_name="loss").reset_index(names="rater")
    theirs = pingouin.friedman(long, dv="loss", within="item", subject="rater", method="f").iloc[0]
    ours = row[["W", "F", "df1", "df2", "p_F"]].tolist()
    assert ours == pytest.approx(theirs[["W", "F", "ddof1", "ddof2", "p_unc"]].tolist(), rel=1e-9)
    assert row["floor"] == 1 / 3


@pytest.fixture
def few_permutations(monkeypatch):
    monkeypatch.setattr(
        "creditlab.analysis.agreement.concordance.PERMUTED", 0
    )  # 99: p ≤ 0.05 has the chance 0.05 all the same


def test_every_p_of_unrelated_raters_is_at_its_level(few_permutations):
    rng = np.random.default_rng(7)
    p = np.array([permutation_p(rng.normal(size=(4, 12)), rng) for _ in range(1500)])
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.02)
    w = np.array([kendall_w(rng.normal(size=(4, 12))) for _ in range(4000)])
    df1 = 11 - 2 / 4
    assert (stats.f.sf(3 * w / (1 - w), df1, 3 * df1) < 0.05).mean() == pytest.approx(0.05, abs=0.015)


def test_raters_that_agree_in_all():
    index = pd.MultiIndex.from_product([range(4), ["0"]])
    same = agreement(pd.DataFrame(np.tile(np.arange(12.0), (4, 1)), index=index)).iloc[0]
    assert (same["W"], same["p_permutation"], same["p_F"]) == (1, 1 / 1000, 0)


def confusions(raters: int, classes: int, common: float, own: float, rng: np.random.Generator) -> np.ndarray:
    """(raters, items): effects of class, of what it is taken for and of the pair; shared, and each rater's own."""

    def part(size: float) -> np.ndarray:
        return size * sum(rng.normal(size=shape) for shape in ((classes, 1), (1, classes), (classes, classes)))

    shared, off = part(common), ~np.eye(classes, dtype=bool)
    return np.stack([(shared + part(own))[off] for _ in range(raters)])


def test_p_of_confusion_is_at_its_level_though_classes_differ(few_permutations):
    rng = np.random.default_rng(10)
    items = np.array(pairs(np.arange(10)).tolist())
    drawn = [confusions(3, 10, 0, 1, rng) for _ in range(1200)]
    assert np.mean([permutation_p(x, rng, items) <= 0.05 for x in drawn]) == pytest.approx(0.05, abs=0.02)
    assert np.mean([permutation_p(x, rng) <= 0.05 for x in drawn[:300]]) > 0.08  # taking pairs of classes for items


def test_p_of_confusion_is_the_share_of_all_relabellings():
    rng = np.random.default_rng(11)
    items = list(permutations(range(3), 2))
    for _ in range(5):
        x = confusions(2, 3, 1, 1, rng)
        w = [
            kendall_w(np.stack([x[0], [x[1][items.index((new[i], new[j]))] for i, j in items]]))
            for new in permutations(range(3))
        ]
        share = np.mean(np.array(w) >= w[0] - 1e-12)
        assert permutation_p(x, rng, np.array(items)) == pytest.approx(share, abs=0.06)


def test_the_interval_of_confusion_covers_w_of_all_classes():
    """95 % ± 2 % of 1,000 draws of ten classes."""
    rng = np.random.default_rng(12)
    items = np.array(pairs(np.arange(10)).tolist())
    truth = np.mean([kendall_w(confusions(4, 250, 1, 1, rng)) for _ in range(4)])
    ends = np.array([interval_over_classes(confusions(4, 10, 1, 1, rng), items) for _ in range(1000)])
    assert ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean() == pytest.approx(0.95, abs=0.02)
    assert np.isnan(interval_over_classes(confusions(4, 3, 1, 1, rng), np.array(pairs(np.arange(3)).tolist()))).all()


def test_the_interval_covers_w_of_all_items():
    """1,000 draws of 150 items from raters whose Spearman correlation is known (Pearson 1907)."""
    rng = np.random.default_rng(8)
    m, n, r, inside = 4, 150, 0.5, 0
    truth = (1 + (m - 1) * 6 / np.pi * np.arcsin(r / 2)) / m
    for _ in range(1000):
        x = np.sqrt(r) * rng.normal(size=n) + np.sqrt(1 - r) * rng.normal(size=(m, n))
        low, high = interval(x, rng)
        inside += low <= truth <= high
    assert inside / 1000 == pytest.approx(0.95, abs=0.02)


def test_pairs_are_scipys_correlations():
    x = scores(4, 30, 9, True)
    frame = pd.DataFrame(x, index=pd.MultiIndex.from_product([list("abcd"), ["0"]]))
    found = spearman(frame).set_index(["rater_a", "rater_b"])["spearman"]
    assert len(found) == 6
    assert found["a", "c"] == pytest.approx(stats.spearmanr(x[0], x[2]).statistic, rel=1e-10)
    assert found.mean() == pytest.approx(mean_spearman(x), rel=1e-10)


def test_confusion_is_the_share_of_a_class_taken_for_another():
    label, predicted = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 1, 1, 2, 1, 0, 2])
    assert confusion(label, predicted) == pytest.approx([0.5, 0.25, 0.5, 0, 0, 0])
    assert confusion(label, np.full(7, 9)) == pytest.approx(np.zeros(6))


# On a sweep -----------------------------------------------------------------------------------------------------------


def losses(seed: int, items: int = 60, **options: str) -> dict:
    """A loss with a common part, a part of the algorithm and one of the run."""
    parts = [np.random.default_rng(abs(hash_of(x))).normal(size=items) for x in ("all", options["algorithm"])]
    own = np.random.default_rng(abs(hash_of(f"{sorted(options.items())}{seed}"))).normal(size=items)
    return {"loss": parts[0] + parts[1] + 0.3 * own, "metrics": {"test/loss": float(own[0])}}


def hash_of(text: str) -> int:
    return int.from_bytes(text.encode()[-7:], "big")


def test_raters_are_averages_over_runs_of_a_seed_then_seeds(folder):
    folder.cross(losses, 3, algorithm=["bp", "fa", "es"], optimiser=["sgd", "muon"], dataset=["digits", "mnist"])
    found = concordance(load(folder.path))
    assert list(found.table.columns) == [
        *["dataset", "score", "raters", "n_raters", "n_items", "W", "chi2", "df", "p"],
        *["mean_spearman", "ci_low", "ci_high", "noise_ceiling"],
        *["floor", "F", "df1", "df2", "p_F", "p_permutation"],
    ]
    rows = found.table.set_index(["dataset", "raters"])
    assert list(rows.index) == [(d, r) for d in ("digits", "mnist") for r in ("algorithm", "optimiser", "seed")]
    for (dataset, raters), row in rows.drop(index="seed", level=1).iterrows():
        levels = ["bp", "fa", "es"] if raters == "algorithm" else ["sgd", "muon"]
        others = ["sgd", "muon"] if raters == "algorithm" else ["bp", "fa", "es"]
        other = "optimiser" if raters == "algorithm" else "algorithm"
        runs = np.array(
            [
                [[losses(s, **{raters: a, other: b, "dataset": dataset})["loss"] for b in others] for s in range(3)]
                for a in levels
            ]
        )  # (raters, seeds, others, items)
        friedman = stats.friedmanchisquare(*runs.mean(axis=(1, 2)).T)
        m = len(levels)
        assert (row["n_raters"], row["n_items"], row["df"]) == (m, 60, 59)
        assert row["chi2"] == pytest.approx(friedman.statistic, rel=1e-9)
        assert row["W"] == pytest.approx(friedman.statistic / (m * 59), rel=1e-9)
        assert row["p"] == pytest.approx(friedman.pvalue, rel=1e-6)
        assert row["ci_low"] < row["W"] < row["ci_high"]
        rho = [np.mean([stats.spearmanr(a, b).statistic for a, b in combinations(x, 2)]) for x in runs.mean(axis=2)]
        reliability = np.mean([3 * r / (1 + 2 * r) for r in rho])
        assert row["noise_ceiling"] == pytest.approx((1 + (m - 1) * reliability) / m, rel=1e-9)
    assert found.notes == []


def test_confusion_of_a_sweep(folder):
    """Algorithms that confuse the same classes agree on confusion, though not on samples."""
    rng = np.random.default_rng(0)
    label = np.arange(300) % 3
    for algorithm, seed in [(a, s) for a in ("bp", "fa") for s in range(3)]:
        taken = np.where(rng.random(300) < 0.4 * (label == 0), 1, label)
        folder.add(
            {"test/loss": 1.0}, loss=rng.random(300), label=label, predicted=taken, algorithm=algorithm, seed=seed
        )
    found = concordance(load(folder.path))
    rows = found.table.set_index(["score", "raters"])
    assert list(rows.index) == [(s, r) for s in ("loss", "confusion") for r in ("algorithm", "seed")]
    assert rows.loc[("confusion", "algorithm"), ["n_raters", "n_items"]].tolist() == [2, 6]
    assert rows.loc[("confusion", "algorithm"), "W"] == 1
    assert np.isnan(rows.loc["confusion", ["p", "p_F"]].astype(float)).all(axis=None)  # pairs are no independent items
    assert rows.loc["confusion", "p_permutation"].notna().all()
    assert rows.loc[("loss", "algorithm"), "W"] == pytest.approx(0.5, abs=0.1)
    assert list(found.pairs.columns) == PAIRS == ["dataset", "score", "raters", "rater_a", "rater_b", "spearman"]
    assert len(found.pairs) == 2 * (1 + 3)


def test_means_are_over_the_runs_there_are(folder):
    """A seed with one run weighs as much as a seed with two."""
    there = [
        ("bp", "sgd", 0),
        ("bp", "muon", 0),
        ("bp", "sgd", 1),
        ("fa", "sgd", 0),
        ("fa", "sgd", 1),
        ("fa", "muon", 1),
    ]
    loss = {}
    for algorithm, optimiser, seed in there:
        made = losses(seed, algorithm=algorithm, optimiser=optimiser)
        loss[algorithm, optimiser, seed] = made["loss"]
        folder.add(**made, algorithm=algorithm, optimiser=optimiser, seed=seed)
    row = concordance(load(folder.path)).table.set_index("raters").loc["algorithm"]
    bp = ((loss["bp", "sgd", 0] + loss["bp", "muon", 0]) / 2 + loss["bp", "sgd", 1]) / 2
    fa = (loss["fa", "sgd", 0] + (loss["fa", "sgd", 1] + loss["fa", "muon", 1]) / 2) / 2
    assert row["mean_spearman"] == pytest.approx(stats.spearmanr(bp, fa).statistic, abs=1e-10)


def test_runs_on_different_test_sets_are_not_pooled(folder):
    folder.cross(losses, 2, algorithm=["bp", "fa"])
    folder.add(**losses(2, algorithm="bp"), label=np.arange(60) % 3, algorithm="bp", seed=2)
    found = concordance(load(folder.path))
    assert found.table.empty
    assert "have different test sets, whose items cannot be matched" in found.notes[0]
    assert found.notes[0].startswith("digits: no concordance: ")


def test_what_is_left_out_is_said(folder):
    folder.cross(losses, 1, algorithm=["bp", "fa", "es"])
    expected = concordance(load(folder.path))
    assert expected.notes == ["digits: algorithm: no rater has two seeds, so there is no noise ceiling"]
    folder.add(metrics={"test/loss": None}, status="diverged", algorithm="bp", seed=1)
    folder.add(loss=np.full(60, np.nan), metrics={"test/loss": None}, algorithm="bp", seed=2)
    broken = folder.add(**losses(3, algorithm="bp"), algorithm="bp", seed=3)
    (broken / "arrays.npz").write_bytes(b"PK not a zip")
    folder.add(metrics={"test/loss": 1.0}, algorithm="bp", seed=4)
    found = concordance(load(folder.path))
    pd.testing.assert_frame_equal(found.table, expected.table)
    assert found.notes[0] == "digits: left out, diverged: 1"
    assert found.notes[1].startswith("digits: left out, no readable per-sample loss: bp-sgd-digits-mlp-s3-")
    assert found.notes[1].endswith(" and 1 more")
    assert found.notes[2].startswith("digits: left out, a per-sample loss that is not finite: bp-sgd-digits-mlp-s2-")


def test_the_global_random_state_is_neither_used_nor_moved(folder):
    folder.cross(losses, 2, algorithm=["bp", "fa"])
    sweep = load(folder.path)
    np.random.seed(0)  # noqa: NPY002
    first = concordance(sweep).table
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    pd.testing.assert_frame_equal(concordance(sweep).table, first)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
