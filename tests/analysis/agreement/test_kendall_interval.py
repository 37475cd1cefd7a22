"""The interval of W of few items against its definition, term by term, and what it covers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from creditlab.analysis.agreement.kendall import DRAWS, interval


def w_of(scores: np.ndarray) -> float:
    """Kendall's W (raters, items) from Friedman's statistic."""
    m, n = scores.shape
    return stats.friedmanchisquare(*scores.T).statistic / (m * (n - 1))


@pytest.mark.parametrize("n", [7, 9, 15])
def test_the_interval_of_few_items_by_its_definition(n):
    """On the scale of z, the spread of the same resamples times √(n/(n−3)), which is 1.32 of 7 items, to each side."""
    rng = np.random.default_rng(3)
    m = 4
    scores = rng.normal(size=n) + 2 * rng.normal(size=(m, n))
    resampling = np.random.default_rng(1)
    drawn = [w_of(scores[:, resampling.integers(n, size=n)]) for _ in range(DRAWS)]
    z, resampled = (np.arctanh((m * np.array(w) - 1) / (m - 1)) for w in (w_of(scores), drawn))
    spread = np.sqrt(n / (n - 3)) * np.sqrt(((resampled - resampled.mean()) ** 2).mean())
    ends = [(1 + (m - 1) * np.tanh(z + sign * 1.959963984540054 * spread)) / m for sign in (-1, 1)]
    assert np.isfinite(resampled).all()
    assert interval(scores, np.random.default_rng(1)) == pytest.approx((max(ends[0], 0), ends[1]), rel=1e-9)
    assert interval(scores, np.random.default_rng(1))[0] > 0  # the lower end is not the bound of W


def test_the_interval_covers_w_of_all_items_though_it_has_few():
    """2,000 draws of ten items from raters whose Spearman correlation is known (Pearson 1907)."""
    rng = np.random.default_rng(9)
    m, n, r, draws = 4, 10, 0.5, 2000
    truth = (1 + (m - 1) * 6 / np.pi * np.arcsin(r / 2)) / m
    scores = np.sqrt(r) * rng.normal(size=(draws, 1, n)) + np.sqrt(1 - r) * rng.normal(size=(draws, m, n))
    ends = np.array([interval(each, rng) for each in scores])
    covered = ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()
    assert covered == pytest.approx(0.95, abs=0.02)
