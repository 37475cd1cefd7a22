"""The studentised range against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from creditlab.analysis.model.studentised_range import range_quantile, range_sf


@pytest.mark.parametrize("k", [2, 3, 5, 12])
@pytest.mark.parametrize("df", [1, 2.5, 14, 400])
def test_studentised_range(k, df):
    q = np.array([0.3, 1.5, 3.0, 4.5, 9.0])
    np.testing.assert_allclose(range_sf(q, k, df), stats.studentized_range.sf(q, k, df), atol=2e-8)
    assert range_quantile(k, np.array(df)) == pytest.approx(
        stats.studentized_range.ppf(0.95, k, df), rel=1e-4 if df == 1 else 1e-7
    )
