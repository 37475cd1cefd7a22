"""Kendall's W, its interval, its p and its noise ceiling against scipy, pingouin, plain loops and simulation."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pingouin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from creditlab.analysis.agreement.kendall import (
    bootstrap_w,
    interval,
    interval_over_classes,
    kendall_w,
    mean_spearman,
    noise_ceiling,
    permutation_p,
)
from creditlab.analysis.data.ratings import class_pairs

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


@pytest.fixture
def few_permutations(monkeypatch):
    """99 of them: p ≤ 0.05 has the chance 0.05 all the same."""
    monkeypatch.setattr("creditlab.analysis.agreement.kendall.PERMUTED", 0)


def test_every_p_of_unrelated_raters_is_at_its_level(few_permutations):
    rng = np.random.default_rng(7)
    p = np.array([permutation_p(rng.normal(size=(4, 12)), rng) for _ in range(1500)])
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.02)
    w = np.array([kendall_w(rng.normal(size=(4, 12))) for _ in range(4000)])
    df1 = 11 - 2 / 4
    assert (stats.f.sf(3 * w / (1 - w), df1, 3 * df1) < 0.05).mean() == pytest.approx(0.05, abs=0.015)


def confusions(raters: int, classes: int, common: float, single: float, rng: np.random.Generator) -> np.ndarray:
    """(raters, items): effects of class, of what it is taken for and of the pair; shared ones of the size `common`, and
    each rater's own ones of the size `single`."""

    def part(size: float) -> np.ndarray:
        return size * sum(rng.normal(size=shape) for shape in ((classes, 1), (1, classes), (classes, classes)))

    shared, off = part(common), ~np.eye(classes, dtype=bool)
    return np.stack([(shared + part(single))[off] for _ in range(raters)])


def test_p_of_confusion_is_at_its_level_though_classes_differ(few_permutations):
    rng = np.random.default_rng(10)
    items = np.array(class_pairs(np.arange(10)).tolist())
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
    items = np.array(class_pairs(np.arange(10)).tolist())
    truth = np.mean([kendall_w(confusions(4, 250, 1, 1, rng)) for _ in range(4)])
    ends = np.array([interval_over_classes(confusions(4, 10, 1, 1, rng), items) for _ in range(1000)])
    assert ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean() == pytest.approx(0.95, abs=0.02)
    few = np.array(class_pairs(np.arange(3)).tolist())
    assert np.isnan(interval_over_classes(confusions(4, 3, 1, 1, rng), few)).all()


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
