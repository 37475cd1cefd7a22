import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ortho_group
from sklearn.decomposition import PCA

from creditlab.metrics.dimension import covariance, two_nn


def normal(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cube(seed, n, d):
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(seed, d):
    return torch.tensor(ortho_group.rvs(d, random_state=seed))


@pytest.mark.parametrize("shape", [(60, 12), (12, 60)])
def test_covariance_agrees_with_principal_components(shape):
    activation = normal(0, *shape) * torch.linspace(0.1, 3, shape[1]) + 5
    variances = torch.tensor(PCA().fit(activation.numpy()).explained_variance_)
    p = variances / variances.sum()
    measured = covariance(activation)
    assert measured["participation_ratio"] == pytest.approx((1 / p.square().sum()).item())
    assert measured["effective_rank"] == pytest.approx(torch.special.entr(p).sum().exp().item())


def test_equal_variances_in_k_of_the_directions():
    """Orthogonal columns of k of 8 directions, off centre, in float32: both parts are k."""
    k, n = 3, 64
    waves = torch.stack([torch.cos(2 * math.pi * (j + 1) * torch.arange(n) / n) for j in range(k)], 1)
    activation = (waves.double() @ rotation(0, 8)[:k]).float() + 10
    assert covariance(activation) == pytest.approx({"participation_ratio": k, "effective_rank": k}, rel=1e-4)


@pytest.mark.parametrize("fill", [0.0, 0.1, math.nan, math.inf])
def test_covariance_of_what_does_not_vary_or_is_not_finite(fill):
    assert all(math.isnan(v) for v in covariance(torch.full((30, 4), fill)).values())


@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_covariance_heeds_neither_rotation_nor_scale_nor_offset_nor_order(seed, scale):
    activation = normal(seed, 30, 6)
    other = scale * activation[torch.randperm(30)] @ rotation(seed, 6) + 1
    assert covariance(other) == pytest.approx(covariance(activation), rel=1e-6)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_two_nn_of_a_cube_in_a_larger_space(d):
    """Bent a little. The mean of 8 draws is known to 1.5 % (3 % for d = 1); edges take 8 % of 5 dimensions."""
    values = []
    for seed in range(8):
        measured = two_nn(torch.tanh(0.1 * cube(seed, 1000, d) @ normal(1, d, 40)), samples=1000)
        assert measured["duplicates"] < 0.01  # on a line some are closer than rounding lets one see
        values.append(measured["dimension"])
    assert sum(values) / 8 == pytest.approx(d, rel=0.1)


def test_two_nn_of_a_sphere_is_less_than_that_of_its_space():
    points = normal(2, 2000, 3)
    sphere = points / points.norm(dim=1, keepdim=True)
    assert two_nn(sphere, samples=2000)["dimension"] == pytest.approx(2, rel=0.07)
    assert covariance(sphere)["participation_ratio"] == pytest.approx(3, rel=0.01)


def test_two_nn_against_a_plain_loop():
    """Neighbours one pair at a time, and the slope by least squares."""
    activation = normal(3, 100, 30)
    ratios = []
    for i, a in enumerate(activation):
        first, second = sorted((a - b).norm().item() for j, b in enumerate(activation) if j != i)[:2]
        ratios.append(second / first)
    x = torch.tensor(sorted(ratios)[:90], dtype=torch.float64).log()
    y = -torch.log(1 - torch.arange(1, 91, dtype=torch.float64) / 100)
    slope = torch.linalg.lstsq(x[:, None], y[:, None]).solution.item()
    assert two_nn(activation, samples=100)["dimension"] == pytest.approx(slope)


def test_two_nn_leaves_equal_samples_and_silent_ones_out():
    activation = cube(4, 500, 3).float()
    doubled = torch.cat([activation, activation[:300], torch.zeros(200, 3)])  # of the zeros, one is left
    measured = two_nn(doubled, samples=1000)
    assert measured["duplicates"] == pytest.approx(499 / 1000)
    assert measured["dimension"] == pytest.approx(two_nn(activation, samples=500)["dimension"], rel=0.03)
    nearly = torch.cat([activation, activation * (1 + 1e-7)])
    assert two_nn(nearly, samples=1000)["duplicates"] > 0.4


def test_two_nn_with_too_few_samples():
    with pytest.raises(ValueError, match=r"10 samples: at least 20 .* samples \(10\)"):
        two_nn(normal(0, 50, 3), samples=10)
    measured = two_nn(normal(0, 10, 3).repeat(10, 1), samples=100)
    assert math.isnan(measured["dimension"])
    assert measured["duplicates"] == pytest.approx(0.9)
    assert math.isnan(two_nn(torch.zeros(100, 3), samples=100)["dimension"])
    assert math.isnan(two_nn(torch.full((100, 3), math.nan), samples=100)["dimension"])


def test_two_nn_takes_no_more_than_its_samples():
    activation = normal(5, 200, 4)
    assert two_nn(activation, samples=50) == two_nn(activation[:50], samples=200)


@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_two_nn_heeds_neither_rotation_nor_scale_nor_offset_nor_order(seed, scale):
    activation = normal(seed, 60, 4)
    other = scale * activation[torch.randperm(60)] @ rotation(seed, 4) + 1
    assert two_nn(other, samples=60) == pytest.approx(two_nn(activation, samples=60), rel=1e-5)
