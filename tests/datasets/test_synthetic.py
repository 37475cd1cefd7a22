from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor

from creditlab import seeding
from creditlab.datasets.synthetic import Synthetic, gaussian_means

KEYS: dict[str, Any] = {
    "kind": "gaussian",
    "samples": 4000,
    "test_samples": 40_000,
    "shape": [20],
    "classes": 2,
    "width": 64,
    "separation": 2.0,
    "noise": 0.0,
    "data_seed": 0,
    "validation": 0.0,
}


def build(**keys: Any) -> Synthetic:
    return Synthetic(**(KEYS | keys))


def best_accuracy(data: Synthetic, means: Tensor) -> float:
    """Of the Bayes classifier, the nearest mean, on the test set."""
    return (torch.cdist(data.test_x.double(), means).argmin(1) == data.test_y).double().mean().item()


def true_means(data: Synthetic) -> Tensor:
    """Estimated from all samples: 22,000 a class for two classes."""
    x, y = torch.cat([data.train_x, data.test_x]).double(), torch.cat([data.train_y, data.test_y])
    return torch.stack([x[y == c].mean(0) for c in range(data.task.classes)])


@pytest.mark.parametrize("separation", [0.5, 2.0, 4.0])
def test_two_gaussians_allow_what_bayes_says(separation: float) -> None:
    data = build(separation=separation)
    best = norm.cdf(separation / 2)
    accuracy = best_accuracy(data, true_means(data))
    assert accuracy == pytest.approx(best, abs=4 * math.sqrt(best * (1 - best) / 40_000) + 1e-3)


def test_many_gaussians_allow_what_bayes_says() -> None:
    data = build(classes=7, separation=3.0)
    best, _ = quad(lambda t: norm.pdf(t - 3 / math.sqrt(2)) * norm.cdf(t) ** 6, -10, 12)
    assert best_accuracy(data, true_means(data)) == pytest.approx(best, abs=0.01)


def test_gaussians_have_unit_variance_around_their_means() -> None:
    data = build(classes=3)
    rest = data.test_x.double() - true_means(data)[data.test_y]
    torch.testing.assert_close(rest.T.cov(), torch.eye(20, dtype=torch.float64), rtol=0, atol=0.03)
    assert (data.test_y.bincount() / 40_000).tolist() == pytest.approx([1 / 3] * 3, abs=0.01)


@pytest.mark.parametrize(("classes", "features"), [(2, 2), (5, 5), (7, 30)])
def test_means_are_evenly_separated(classes: int, features: int) -> None:
    means = gaussian_means(classes, features, 3.0, torch.Generator().manual_seed(0))
    assert means.shape == (classes, features)
    apart = torch.cdist(means, means)[~torch.eye(classes, dtype=torch.bool)]
    torch.testing.assert_close(apart, torch.full_like(apart, 3.0), rtol=1e-5, atol=0)
    torch.testing.assert_close(means.sum(0), torch.zeros(features), rtol=0, atol=1e-5)


def test_teacher_by_the_formula() -> None:
    data = build(kind="teacher", classes=5, shape=[2, 3, 4], test_samples=500, width=16, data_seed=9)
    assert data.task.input_shape == (2, 3, 4)
    g = seeding.generator(9, "data")
    x = torch.randn(4500, 24, generator=g)
    u, v = torch.randn(24, 16, generator=g) / math.sqrt(24), torch.randn(16, 5, generator=g) / 4
    z = torch.tanh(x @ u) @ v
    y = ((z - z[:4000].mean(0)) / z[:4000].std(0)).argmax(1)
    assert torch.equal(torch.cat([data.train_x, data.test_x]).flatten(1), x)
    assert torch.equal(torch.cat([data.train_y, data.test_y]), y)
    assert torch.equal(data.batch(torch.arange(4000))[0], data.train_x)  # given out as drawn


@pytest.mark.parametrize("data_seed", range(3))
def test_teacher_uses_every_class(data_seed: int) -> None:
    data = build(kind="teacher", classes=10, shape=[32], data_seed=data_seed)
    share = data.train_y.bincount(minlength=10) / len(data.train_y)
    assert 0.04 < share.min() < share.max() < 0.2


def test_noise_replaces_training_labels_only() -> None:
    clean, noisy = build(classes=4), build(classes=4, noise=0.3)
    assert torch.equal(clean.train_x, noisy.train_x)
    assert torch.equal(clean.test_y, noisy.test_y)
    changed = clean.train_y != noisy.train_y
    assert changed.double().mean() == pytest.approx(0.3, abs=0.03)
    step = (noisy.train_y - clean.train_y)[changed] % 4
    assert (step.bincount(minlength=4)[1:] / changed.sum()).tolist() == pytest.approx([1 / 3] * 3, abs=0.06)
    assert (build(classes=4, noise=1.0).train_y != clean.train_y).all()


def test_data_seed() -> None:
    assert not torch.equal(build().train_x, build(data_seed=1).train_x)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"classes": 21}, r"shape=\[20\] has 20 entries, too few for 21 Gaussians"),
        ({"shape": [4, 5]}, r"shape=\[4, 5\]: must be \[features\] or \[channels, height, width\]"),
    ],
)
def test_combinations_that_cannot_work(keys: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**keys)
