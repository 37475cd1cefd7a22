import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ortho_group

from creditlab.metrics.similarity import cka


def normal(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(x, y, biased=False):
    """From the kernels: Song et al.'s unbiased HSIC term by term, or Gretton's biased one."""
    n, one = len(x), torch.ones(len(x), dtype=x.dtype)

    def hsic(a, b):
        k, l = a @ a.T, b @ b.T  # noqa: E741
        if biased:
            h = torch.eye(n, dtype=x.dtype) - 1 / n
            return torch.trace(k @ h @ l @ h)
        k, l = k - k.diag().diag(), l - l.diag().diag()  # noqa: E741
        return (
            torch.trace(k @ l)
            + (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
            - 2 / (n - 2) * one @ k @ l @ one
        )

    return (hsic(x, y) / (hsic(x, x) * hsic(y, y)).sqrt()).item()


@given(st.integers(0, 1000), st.sampled_from([(10, 3, 4), (8, 20, 20), (4, 2, 2)]))
def test_agrees_with_the_kernels(seed, shape):
    n, p, q = shape
    x, y = normal(seed, n, p) + 3, normal(seed + 1, n, q) - 1
    assert cka(x, y) == pytest.approx(plain(x, y), abs=1e-9)


@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_same_up_to_rotation_scale_offset_and_order_of_units(seed, scale):
    x, y = normal(seed, 20, 6), normal(seed + 1, 20, 6)
    rotated = scale * x @ torch.tensor(ortho_group.rvs(6, random_state=seed)) + 2
    assert cka(x, rotated) == pytest.approx(1)
    assert cka(rotated, y) == pytest.approx(cka(x, y), abs=1e-9)
    order = torch.randperm(20)
    assert cka(x[order], y[order]) == pytest.approx(cka(x, y), abs=1e-9)
    assert cka(x[:, torch.randperm(6)], y) == pytest.approx(cka(x, y), abs=1e-9)


def test_independent_data_are_at_zero_where_the_biased_form_is_not():
    pairs = [(normal(2 * i, 50, 60), normal(2 * i + 1, 50, 60)) for i in range(100)]
    values = torch.tensor([cka(x, y) for x, y in pairs])
    error = (values.std() / len(values) ** 0.5).item()
    assert abs(values.mean().item()) < 3 * error < 0.02
    assert min(plain(x, y, biased=True) for x, y in pairs[:10]) > 0.4


def test_a_share_of_the_units_is_a_share_of_the_alignment():
    """X and (X, Z) with Z independent, of as many units: HSICs v²p, v²p, v²2p, so 1/√2."""
    x, z = normal(0, 4000, 8), normal(1, 4000, 8)
    assert cka(x, torch.cat([x, z], 1)) == pytest.approx(0.5**0.5, abs=0.02)


def test_float32_far_from_the_origin():
    x, y = normal(0, 200, 16), normal(1, 200, 16)
    y = x + y
    near = cka(x, y)
    assert cka((x + 100).float(), (y + 100).float()) == pytest.approx(near, abs=1e-5)
    assert cka((1e15 * x).float(), (1e-15 * y).float()) == pytest.approx(near, abs=1e-6)


@pytest.mark.parametrize("fill", [0.0, 0.1, math.nan, math.inf])
def test_what_does_not_vary_or_is_not_finite_has_none(fill):
    x = normal(0, 30, 5).float()
    constant = torch.full((30, 5), fill)
    assert math.isnan(cka(constant, x))
    assert math.isnan(cka(x, constant))


def test_too_few_samples():
    with pytest.raises(ValueError, match="3 samples: at least 4"):
        cka(normal(0, 3, 5), normal(1, 3, 5))
