"""Concordance of raters against scipy and pingouin, and of the levels of a sweep."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pingouin
import pytest
from scipy import stats

from creditlab.analysis import load
from creditlab.analysis.agreement.concordance import compare_raters, concordance, concordance_pairs, spearman
from creditlab.analysis.agreement.kendall import kendall_w, mean_spearman
from creditlab.analysis.data.sweep import Sweep
from tests.analysis.agreement.test_kendall import scores


def test_worked_example_with_ties():
    """Three judges and six contestants with ties, worked by hand from the definition."""
    ranks = np.array([[1, 2.5, 2.5, 4, 5, 6], [2, 1, 3.5, 3.5, 6, 5], [1, 3, 2, 5, 5, 5]])
    sums = np.array([4, 6.5, 8, 12.5, 16, 16])  # mean 10.5
    assert (ranks.sum(axis=0) == sums).all()
    ties = (2**3 - 2) + (2**3 - 2) + (3**3 - 3)
    expected = 12 * 129.0 / (9 * (6**3 - 6) - 3 * ties)
    assert ((sums - 10.5) ** 2).sum() == 129.0
    assert kendall_w(ranks) == pytest.approx(expected, rel=1e-12)
    row = compare_raters(pd.DataFrame(ranks, index=pd.MultiIndex.from_product([list("abc"), ["0"]]))).iloc[0]
    assert row["chi2"] == pytest.approx(3 * 5 * expected)
    assert row[["F", "df1", "df2"]].tolist() == pytest.approx([2 * expected / (1 - expected), 5 - 2 / 3, 10 - 4 / 3])
    long = pd.DataFrame(ranks).melt(ignore_index=False, var_name="item", value_name="loss").reset_index(names="rater")
    theirs = pingouin.friedman(long, dv="loss", within="item", subject="rater", method="f").iloc[0]
    ours = row[["W", "F", "df1", "df2", "p_F"]].tolist()
    assert ours == pytest.approx(theirs[["W", "F", "ddof1", "ddof2", "p_unc"]].tolist(), rel=1e-9)
    assert row["floor"] == 1 / 3


def test_raters_that_agree_in_all():
    index = pd.MultiIndex.from_product([range(4), ["0"]])
    same = compare_raters(pd.DataFrame(np.tile(np.arange(12.0), (4, 1)), index=index)).iloc[0]
    assert (same["W"], same["p_permutation"], same["p_F"]) == (1, 1 / 1000, 0)


def test_pairs_are_scipys_correlations():
    x = scores(4, 30, 9, True)
    frame = pd.DataFrame(x, index=pd.MultiIndex.from_product([list("abcd"), ["0"]]))
    correlations = spearman(frame).set_index(["rater_a", "rater_b"])["spearman"]
    assert len(correlations) == 6
    assert correlations["a", "c"] == pytest.approx(stats.spearmanr(x[0], x[2]).statistic, rel=1e-10)
    assert correlations.mean() == pytest.approx(mean_spearman(x), rel=1e-10)


# On a sweep ----------------------------------------------------------------------------------------------------------


def losses(seed: int, items: int = 60, **options: str) -> dict:
    """A loss with a common part, a part of the algorithm and one of the run."""
    parts = [np.random.default_rng(abs(hash_of(x))).normal(size=items) for x in ("all", options["algorithm"])]
    noise = np.random.default_rng(abs(hash_of(f"{sorted(options.items())}{seed}"))).normal(size=items)
    return {"loss": parts[0] + parts[1] + 0.3 * noise, "metrics": {"test/loss": float(noise[0])}}


def hash_of(text: str) -> int:
    return int.from_bytes(text.encode()[-7:], "big")


def test_raters_are_averages_over_runs_of_a_seed_then_seeds(folder):
    folder.cross(losses, 3, algorithm=["bp", "fa", "es"], optimiser=["sgd", "muon"], dataset=["digits", "mnist"])
    table = concordance(load(folder.path))
    assert list(table.frame.columns) == [
        *["dataset", "score", "raters", "n_raters", "n_items", "W", "chi2", "df", "p"],
        *["mean_spearman", "ci_low", "ci_high", "noise_ceiling"],
        *["floor", "F", "df1", "df2", "p_F", "p_permutation"],
    ]
    rows = table.frame.set_index(["dataset", "raters"])
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
    assert table.notes == []


def test_confusion_of_a_sweep(folder):
    """Algorithms that confuse the same classes agree on confusion, though not on samples."""
    rng = np.random.default_rng(0)
    label = np.arange(300) % 3
    for algorithm, seed in [(a, s) for a in ("bp", "fa") for s in range(3)]:
        taken = np.where(rng.random(300) < 0.4 * (label == 0), 1, label)
        folder.add(
            {"test/loss": 1.0}, loss=rng.random(300), label=label, predicted=taken, algorithm=algorithm, seed=seed
        )
    sweep = load(folder.path)
    rows = concordance(sweep).frame.set_index(["score", "raters"])
    assert list(rows.index) == [(s, r) for s in ("loss", "confusion") for r in ("algorithm", "seed")]
    assert rows.loc[("confusion", "algorithm"), ["n_raters", "n_items"]].tolist() == [2, 6]
    assert rows.loc[("confusion", "algorithm"), "W"] == 1
    assert np.isnan(rows.loc["confusion", ["p", "p_F"]].astype(float)).all(axis=None)  # pairs are no independent items
    assert rows.loc["confusion", "p_permutation"].notna().all()
    assert rows.loc[("loss", "algorithm"), "W"] == pytest.approx(0.5, abs=0.1)
    pairs = concordance_pairs(sweep).frame
    assert list(pairs.columns) == ["dataset", "score", "raters", "rater_a", "rater_b", "spearman"]
    assert len(pairs) == 2 * (1 + 3)


def test_means_are_over_the_runs_there_are(folder):
    """A seed with one run weighs as much as a seed with two."""
    cells = [
        ("bp", "sgd", 0),
        ("bp", "muon", 0),
        ("bp", "sgd", 1),
        ("fa", "sgd", 0),
        ("fa", "sgd", 1),
        ("fa", "muon", 1),
    ]
    loss = {}
    for algorithm, optimiser, seed in cells:
        made = losses(seed, algorithm=algorithm, optimiser=optimiser)
        loss[algorithm, optimiser, seed] = made["loss"]
        folder.add(**made, algorithm=algorithm, optimiser=optimiser, seed=seed)
    row = concordance(load(folder.path)).frame.set_index("raters").loc["algorithm"]
    bp = ((loss["bp", "sgd", 0] + loss["bp", "muon", 0]) / 2 + loss["bp", "sgd", 1]) / 2
    fa = (loss["fa", "sgd", 0] + (loss["fa", "sgd", 1] + loss["fa", "muon", 1]) / 2) / 2
    assert row["mean_spearman"] == pytest.approx(stats.spearmanr(bp, fa).statistic, abs=1e-10)


def test_runs_on_different_test_sets_are_not_pooled(folder):
    folder.cross(losses, 2, algorithm=["bp", "fa"])
    folder.add(**losses(2, algorithm="bp"), label=np.arange(60) % 3, algorithm="bp", seed=2)
    table = concordance(load(folder.path))
    assert table.frame.empty
    assert "have different test sets, whose items cannot be matched" in table.notes[0]
    assert table.notes[0].startswith("digits: no concordance: ")


def test_what_is_left_out_is_said(folder):
    folder.cross(losses, 1, algorithm=["bp", "fa", "es"])
    expected = concordance(load(folder.path))
    assert expected.notes == ["digits: algorithm: no rater has two seeds, so there is no noise ceiling"]
    folder.add(metrics={"test/loss": None}, status="diverged", algorithm="bp", seed=1)
    folder.add(loss=np.full(60, np.nan), metrics={"test/loss": None}, algorithm="bp", seed=2)
    broken = folder.add(**losses(3, algorithm="bp"), algorithm="bp", seed=3)
    (broken / "arrays.npz").write_bytes(b"PK not a zip")
    folder.add(metrics={"test/loss": 1.0}, algorithm="bp", seed=4)
    table = concordance(load(folder.path))
    pd.testing.assert_frame_equal(table.frame, expected.frame)
    assert table.notes[0] == "digits: left out, diverged: 1"
    assert table.notes[1].startswith("digits: left out, no readable per-sample loss: bp-sgd-digits-mlp-s3-")
    assert table.notes[1].endswith(" and 1 more")
    assert table.notes[2].startswith("digits: left out, a per-sample loss that is not finite: bp-sgd-digits-mlp-s2-")


def test_the_global_random_state_is_neither_used_nor_moved(folder):
    folder.cross(losses, 2, algorithm=["bp", "fa"])
    np.random.seed(0)  # noqa: NPY002
    first = concordance(load(folder.path)).frame
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    again = load(folder.path)  # a sweep of its own: another one remembers what was computed of it
    pd.testing.assert_frame_equal(concordance(again).frame, first)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_a_frame_without_folders_has_nothing_to_compare():
    runs = pd.DataFrame({"algorithm": ["bp", "fa"], "seed": 0, "status": "complete", "test/loss": [0.1, 0.2]})
    sweep = Sweep.of(runs, ["algorithm"], ["test/loss"])
    assert concordance(sweep).frame.empty
    assert concordance_pairs(sweep).frame.empty
