"""Adjusted p and the effective number of metrics against statsmodels, limit cases and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from creditlab.analysis.model.multiplicity import COLUMNS, benjamini_hochberg, effective, family, holm, multiplicity

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(p_values)
def test_adjusted_p_is_that_of_statsmodels(p):
    np.testing.assert_allclose(holm(np.array(p)), multipletests(p, method="holm")[1], rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(benjamini_hochberg(np.array(p)), multipletests(p, method="fdr_bh")[1], rtol=1e-12)


def test_effective_number_is_the_number_of_independent_metrics():
    rng = np.random.default_rng(0)
    free = rng.normal(size=(20000, 6))
    # Sampling splits eigenvalues around 1; Li & Ji's count then lies between half and all of them.
    li_ji, nyholt = effective(free)
    assert 3 <= li_ji <= 6
    assert nyholt == pytest.approx(6, abs=0.01)
    # An orthogonal basis has a correlation matrix that is exactly the identity.
    basis = np.linalg.qr(np.hstack([np.ones((50, 1)), rng.normal(size=(50, 6))]))[0][:, 1:]
    assert effective(basis) == pytest.approx((6, 6))
    assert effective(np.repeat(basis[:, :2], 3, axis=1)) == pytest.approx((2, 1 + 5 * (1 - (2 * 4 + 4) / 5 / 6)))
    assert effective(np.repeat(basis[:, :1], 6, axis=1)) == pytest.approx((1, 1))
    assert effective(basis[:, :1]) == (1, 1)
    assert np.isnan(effective(basis[:1])).all()


def test_families_are_named_and_their_size_is_given():
    metrics = ["test/loss", "train/loss", "weights/a/x", "weights/b/x", "weights/c/x"]
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"metric": np.repeat(metrics, 3), "term": ["algorithm", "optimiser", "Residual"] * 5})
    table["p"] = np.where(table["term"] == "Residual", np.nan, rng.random(15) / 5)
    residuals = pd.DataFrame(rng.normal(size=(40, 5)), columns=metrics)
    found = multiplicity(table, residuals)
    assert (
        list(found.columns)
        == COLUMNS
        == [*["metric", "term", "family", "size", "effective_li_ji", "effective_nyholt", "p", "p_holm", "p_bh"]]
    )
    assert len(found) == 10
    weights = found[(found["family"] == "weights") & (found["term"] == "algorithm")]
    assert set(weights["size"]) == {3}
    np.testing.assert_allclose(weights["p_holm"], multipletests(weights["p"], method="holm")[1])
    np.testing.assert_allclose(weights["p_bh"], multipletests(weights["p"], method="fdr_bh")[1])
    assert [family(m) for m in ("test/accuracy", "signals/x/y")] == ["behaviour", "signals"]
    assert weights["effective_nyholt"].iloc[0] == pytest.approx(effective(residuals[metrics[2:]].to_numpy())[1])


def test_false_discoveries_are_bounded():
    """Of 20 metrics half have an effect; the share of false ones among the positives stays at 5 %, and Holm's chance
    of any false one."""
    rng = np.random.default_rng(2)
    p = rng.random((4000, 20))
    p[:, :10] = p[:, :10] ** 6 / 10
    false_share, any_false = [], []
    for row in p:
        found = benjamini_hochberg(row) < 0.05
        false_share.append(found[10:].sum() / max(found.sum(), 1))
        any_false.append((holm(row)[10:] < 0.05).any())
    assert np.mean(false_share) == pytest.approx(0.05 / 2, abs=0.005)  # the rate is that of the true nulls' share
    assert np.mean(any_false) < 0.05


def test_a_metric_whose_residuals_do_not_vary_counts_for_none():
    values = np.random.default_rng(0).standard_normal((12, 3))
    still = np.column_stack([values, np.zeros(12), np.full(12, 1e-200)])
    assert effective(still) == effective(values)
    assert np.isnan(effective(np.zeros((12, 2)))).all()
