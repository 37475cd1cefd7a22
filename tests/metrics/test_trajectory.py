import math

import pytest
import torch

from creditlab.metrics.trajectory import Trajectory


def test_it_keeps_the_last_gradients_at_its_spacing():
    kept = Trajectory(length=3, spacing=2, projection=None)
    for step in range(1, 12):
        if kept.due(step):
            kept.add({"a": torch.full((2, 2), float(step))})
    assert kept.seen()["a"][:, 0].tolist() == [6.0, 8.0, 10.0]
    again = Trajectory(length=3, spacing=2, projection=None)
    again.restore(kept.seen())
    again.add({"a": torch.full((2, 2), 12.0)})
    assert again.seen()["a"][:, 0].tolist() == [8.0, 10.0, 12.0]


def test_a_short_gradient_is_kept_exactly():
    kept = Trajectory(length=2, spacing=1, projection=6)
    gradient = torch.randn(2, 3)
    kept.add({"a": gradient})
    assert torch.equal(kept.seen()["a"][0], gradient.flatten())


def test_a_sketch_keeps_inner_products_to_its_stated_error():
    """Mean error 0 and a root mean square of at most √(2/k), over 200 pairs of unit vectors."""
    k, n, pairs = 400, 20_000, 200
    generator = torch.Generator().manual_seed(0)
    x = 0.1 + torch.randn(2 * pairs, n, generator=generator, dtype=torch.float64)  # a mean that signs cancel
    x = x / x.norm(dim=1, keepdim=True)
    x[pairs:] = 0.6 * x[:pairs] + 0.8 * x[pairs:]  # inner products near 0.6
    kept = Trajectory(length=2 * pairs, spacing=1, projection=k)
    for row in x:
        kept.add({"a": row.view(100, 200)})
    sketched = kept.seen()["a"]
    assert sketched.shape == (2 * pairs, k)
    errors = (sketched[:pairs] * sketched[pairs:]).sum(1) - (x[:pairs] * x[pairs:]).sum(1)
    bound = math.sqrt(2 / k)
    assert errors.square().mean().sqrt() < 1.1 * bound
    assert errors.square().mean().sqrt() > 0.2 * bound
    assert abs(errors.mean()) < 4 * bound / math.sqrt(pairs)


def test_a_sketch_is_linear_so_rank_does_not_grow():
    kept = Trajectory(length=10, spacing=1, projection=50)
    basis = torch.randn(2, 30, 40, dtype=torch.float64)
    for i in range(10):
        kept.add({"a": basis[0] * i + basis[1] * (i * i - 3)})
    assert torch.linalg.matrix_rank(kept.seen()["a"]) == 2


@pytest.mark.parametrize("layers", [("a", "b"), ("b", "a")])
def test_the_sketch_depends_on_shape_alone(layers):
    gradient = torch.arange(600.0).view(20, 30)
    kept = Trajectory(length=1, spacing=1, projection=16)
    for layer in layers:
        kept.add({layer: gradient})
    assert torch.equal(kept.seen()["a"], kept.seen()["b"])
