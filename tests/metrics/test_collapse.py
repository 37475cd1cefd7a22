import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import pinv
from scipy.stats import ortho_group

from creditlab.metrics.collapse import PARTS, neural_collapse


def normal(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def simplex(k, features, seed=0):
    """(k, features): vertices of a regular simplex, turned at random."""
    frame = torch.tensor(ortho_group.rvs(features, random_state=seed))[:k]
    return (torch.eye(k, dtype=torch.float64) - 1 / k) @ frame


def random_case(seed, k=4, n=60, features=10):
    label = torch.arange(n) % k
    h = normal(seed, n, features) + 3 * normal(seed + 1, k, features)[label]
    return h, label, normal(seed + 2, k, features), normal(seed + 3, k)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_exact_simplex_has_collapsed_whatever_the_size_of_its_classes(dtype):
    k, label = 5, torch.cat([torch.arange(50) % 5, torch.zeros(20, dtype=torch.long)])
    m = simplex(k, 12)
    measured = neural_collapse((3 * m[label] + 1).to(dtype), label, (2 * m).to(dtype), -(2 * m).sum(1).to(dtype))
    tiny = 1e-12 if dtype == torch.float64 else 1e-5
    assert measured == pytest.approx(dict.fromkeys(PARTS, 0.0), abs=tiny)


def test_the_definitions_with_full_covariances():
    h, label, w, b = random_case(0)
    k, n = len(w), len(h)
    means = torch.stack([h[label == i].mean(0) for i in range(k)])
    m = means - means.mean(0)
    within = sum(torch.outer(x - means[y], x - means[y]) for x, y in zip(h, label, strict=True)) / n
    between = sum(torch.outer(x, x) for x in m) / k
    etf = (torch.eye(k) - torch.ones(k, k) / k).double() / math.sqrt(k - 1)
    pairs = [(i, j) for i in range(k) for j in range(k) if i != j]
    cosines = [(m[i] @ m[j] / m[i].norm() / m[j].norm()).item() for i, j in pairs]
    wrong = [(w @ x + b).argmax() != torch.stack([(x - c).norm() for c in means]).argmin() for x in h]
    norms = m.norm(dim=1)
    expected = {
        "nc1": (within @ torch.tensor(pinv(between.numpy(), rtol=1e-9))).trace().item() / k,
        "nc2": (m @ m.T / (m @ m.T).norm() - etf).norm().item(),
        "equinorm": ((norms - norms.mean()).square().mean().sqrt() / norms.mean()).item(),
        "equiangular": sum(abs(c + 1 / (k - 1)) for c in cosines) / len(cosines),
        "nc3": (w @ m.T / (w @ m.T).norm() - etf).norm().item(),
        "self_duality": (w / w.norm() - m / m.norm()).norm().item(),
        "nc4": sum(x.item() for x in wrong) / n,
    }
    assert neural_collapse(h, label, w, b) == pytest.approx(expected, rel=1e-9)
    assert 0 < expected["nc4"] < 1


def test_features_that_know_no_class():
    """The class means differ by chance: the squares of their singular values are about features · K/n, while Σ_W is
    the identity. The read-out is as far from them as independent directions are, and agrees on one sample in K.
    """
    k, n, features = 5, 1000, 200
    label = torch.arange(n) % k
    measured = neural_collapse(normal(0, n, features), label, normal(1, k, features), torch.zeros(k))
    assert measured["nc1"] == pytest.approx((k - 1) * n / (k * features), rel=0.15)
    assert measured["self_duality"] == pytest.approx(math.sqrt(2), abs=0.1)
    assert measured["nc4"] == pytest.approx(1 - 1 / k, abs=0.07)


def test_spread_within_classes_over_that_between():
    """Two classes at ±1 on a line, ±σ about them: Σ_W = σ², Σ_B = 1, so nc1 = σ²/2."""
    sigma = 0.3
    h = torch.tensor([[1 + sigma], [1 - sigma], [-1 + sigma], [-1 - sigma]], dtype=torch.float64)
    measured = neural_collapse(h, torch.tensor([1, 1, 0, 0]), torch.tensor([[-1.0], [1.0]]), torch.zeros(2))
    assert measured == pytest.approx({**dict.fromkeys(PARTS, 0), "nc1": sigma**2 / 2}, abs=1e-7)
    flipped = neural_collapse(h, torch.tensor([1, 1, 0, 0]), torch.tensor([[1.0], [-1.0]]), torch.zeros(2))
    assert (flipped["nc3"], flipped["self_duality"], flipped["nc4"]) == pytest.approx((2, 2, 1))


def test_unequal_lengths_and_angles_are_told_apart():
    label = torch.arange(3)
    measured = neural_collapse(
        torch.tensor([[2.0, 0.0], [-1.0, 1.0], [-1.0, -1.0]]), label, torch.ones(3, 2), torch.ones(3)
    )
    lengths = torch.tensor([2, 2**0.5, 2**0.5])
    assert measured["equinorm"] == pytest.approx((lengths.std(correction=0) / lengths.mean()).item())
    assert measured["equiangular"] == pytest.approx((2 * (0.5**0.5 - 0.5) + 0.5) / 3)


def test_classes_that_are_absent_do_not_count():
    h, label, w, b = random_case(5)
    some = label != 1
    keep = torch.tensor([0, 2, 3])
    relabelled = torch.searchsorted(keep, label[some])
    assert neural_collapse(h[some], label[some], w, b) == neural_collapse(h[some], relabelled, w[keep], b[keep])


def test_where_class_means_lie_in_fewer_dimensions_rounding_does_not_count():
    h, label, w, b = random_case(7)
    flat = h.clone()
    flat[:, 2:] = 0.1  # 2 of 10 features vary, where 4 classes could span 3
    narrow = neural_collapse(flat[:, :2], label, w[:, :2], b)["nc1"]
    assert neural_collapse(flat, label, w, b)["nc1"] == pytest.approx(narrow)
    assert neural_collapse(flat.float(), label, w.float(), b.float())["nc1"] == pytest.approx(narrow, rel=1e-5)


@pytest.mark.parametrize("fill", [0.0, 0.1, math.nan, math.inf])
def test_features_that_do_not_vary_or_are_not_finite(fill):
    _, label, w, b = random_case(0)
    measured = neural_collapse(torch.full((60, 10), fill), label, w, b)
    assert tuple(measured) == PARTS
    assert all(math.isnan(v) for v in measured.values())


def test_one_class_is_too_few():
    h, _, w, b = random_case(0)
    with pytest.raises(ValueError, match="1 class: at least 2"):
        neural_collapse(h, torch.zeros(60, dtype=torch.long), w, b)


@given(st.integers(0, 1000), st.floats(1e-2, 1e2))
def test_scale_rotation_and_order_do_not_matter(seed, scale):
    h, label, w, b = random_case(seed)
    turn = torch.tensor(ortho_group.rvs(h.shape[1], random_state=seed))
    order = torch.randperm(len(h))
    other = neural_collapse(scale * (h @ turn)[order], label[order], w @ turn, scale * b)
    assert other == pytest.approx(neural_collapse(h, label, w, b), rel=1e-6)
