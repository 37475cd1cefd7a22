"""RDMs and CKA of two runs against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import pdist

from creditlab.analysis.agreement.pairs_of_runs import distances, embed


def points(seed, items=10, units=7):
    return np.random.default_rng(seed).normal(size=(items, units))


def hsic(k, low):
    """The unbiased estimator of Song et al. (2007), eq. 4, as it stands there."""
    n = len(k)
    k, low = k - np.diag(np.diag(k)), low - np.diag(np.diag(low))
    one = np.ones(n)
    middle = (one @ k @ one) * (one @ low @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ low) + middle - 2 / (n - 2) * (one @ k @ low @ one)) / (n * (n - 3))


def pair(x, y, measure, distance):
    a, b = embed(np.stack([distances(x, distance), distances(y, distance)]), measure)
    return a @ b


@pytest.mark.parametrize("distance", ["correlation", "euclidean"])
def test_rdm_similarity_is_spearman_of_the_upper_triangles(distance):
    x, y = points(0), points(1, units=4) + points(0)[:, :4]
    expected = stats.spearmanr(pdist(x, distance), pdist(y, distance)).statistic
    assert pair(x, y, "RDM", distance) == pytest.approx(expected, abs=1e-12)


def test_correlation_distance_is_one_minus_pearson():
    x = points(2)
    assert distances(x, "correlation") == pytest.approx(1 - np.corrcoef(x), abs=1e-12)


@pytest.mark.parametrize("items", [4, 10, 30])
def test_cka_is_the_debiased_one(items):
    x, y = points(0, items), 3 + points(1, items, 5) + points(0, items)[:, :5]
    k, low = x @ x.T, y @ y.T
    expected = hsic(k, low) / np.sqrt(hsic(k, k) * hsic(low, low))
    assert pair(x, y, "CKA", "euclidean") == pytest.approx(expected, abs=1e-10)


def test_cka_of_unrelated_representations_is_zero_on_average():
    values = [pair(points(2 * s, 12, 50), points(2 * s + 1, 12, 50), "CKA", "euclidean") for s in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 20  # the biased form gives 0.8 here


@given(st.integers(0, 10**6), st.floats(0.1, 10))
def test_neither_sees_rotation_shift_or_scale(seed, scale):
    x, y = points(seed), points(seed + 1)
    turn = np.linalg.qr(points(seed + 2, 7))[0]
    for measure in ("RDM", "CKA"):
        moved = pair(scale * x @ turn + 5, y, measure, "euclidean")
        assert moved == pytest.approx(pair(x, y, measure, "euclidean"), abs=1e-9)


def test_a_dead_layer_has_no_similarity():
    dead = np.stack([distances(np.zeros((10, 3)), d) for d in ("correlation", "euclidean")])
    assert np.isnan(embed(dead[:1], "RDM")).all()
    for measure in ("RDM", "CKA"):
        assert np.isnan(embed(dead[1:], measure)).all()
