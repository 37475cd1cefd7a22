"""Holm's adjustment against statsmodels, families, and the effective number of metrics in limit cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from creditlab.analysis.model.multiplicity import effective, family, holm


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_that_of_statsmodels(p):
    np.testing.assert_allclose(holm(np.array(p)), multipletests(p, method="holm")[1], rtol=1e-12, atol=1e-300)


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


def test_the_family_of_a_metric():
    assert [family(m) for m in ("test/accuracy", "signals/x/y")] == ["behaviour", "signals"]


def test_a_metric_whose_residuals_do_not_vary_counts_for_none():
    values = np.random.default_rng(0).standard_normal((12, 3))
    still = np.column_stack([values, np.zeros(12), np.full(12, 1e-200)])
    assert effective(still) == effective(values)
    assert np.isnan(effective(np.zeros((12, 2)))).all()
