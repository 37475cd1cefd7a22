"""Node perturbation: the formula by plain tensors, and backpropagation in the mean."""

import math
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from creditlab.algorithms.base import Batch
from creditlab.algorithms.node_perturbation import NodePerturbation
from creditlab.architectures.block import Block
from creditlab.task import Task
from tests.algorithms.test_es import batch, exact, mlp


def rule(samples, sigma):
    return NodePerturbation(None, Task((4,), 3, 0.0, 1.0), None, None, samples=samples, sigma=sigma)


def test_a_step_is_that_of_the_formula():
    network, (x, y) = mlp(), batch(8, 5)
    readings = rule(2, 0.3).assign(network, Batch(x, y, generator=torch.Generator().manual_seed(5), probe=True))
    w1, b1, w2, b2 = (p.detach() for p in network.parameters())
    h = torch.tanh(x @ w1.T + b1)

    def losses(xi1, xi2):
        scores = torch.tanh(x @ w1.T + b1 + 0.3 * xi1) @ w2.T + b2 + 0.3 * xi2
        return -(scores.log_softmax(1) * one_hot(y, 3)).sum(1)

    generator, d1, d2 = torch.Generator().manual_seed(5), 0.0, 0.0
    clean = losses(0.0, 0.0)
    for _ in range(2):
        xi1, xi2 = (torch.empty(8, n, dtype=torch.float64).normal_(generator=generator) for n in (4, 3))
        reward = (losses(xi1, xi2) - clean)[:, None] / 0.3
        d1, d2 = d1 + reward * xi1 / 16, d2 + reward * xi2 / 16
    for p, gradient in zip(network.parameters(), (d1.T @ x, d1.sum(0), d2.T @ h, d2.sum(0)), strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(readings.errors["fc1"], d1)
    torch.testing.assert_close(readings.errors["readout"], d2)
    torch.testing.assert_close(readings.loss, clean.mean())


def convolutional():
    torch.manual_seed(0)
    blocks = OrderedDict(
        conv1=Block(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.AvgPool2d(2)),
        conv2=Block(nn.Conv2d(3, 2, 2), nn.Tanh(), nn.Flatten()),
        readout=nn.Linear(2, 3),
    )
    return nn.Sequential(blocks).double()


@pytest.mark.parametrize(("build", "shape"), [(mlp, (8, 5)), (convolutional, (8, 2, 6, 6))], ids=["mlp", "conv"])
def test_it_is_backpropagation_in_the_mean(build, shape):
    """40 estimates as σ → 0; z-scores against their own standard error."""
    network, (x, y) = build(), batch(*shape)
    truth = exact(network, x, y)
    estimates = []
    for seed in range(40):
        rule(60, 1e-6).assign(network, Batch(x, y, generator=torch.Generator().manual_seed(seed)))
        estimates.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    estimates = torch.stack(estimates)
    z = (estimates.mean(0) - truth) / (estimates.std(0) / math.sqrt(40))
    assert z.abs().max() < 4.7
    assert 0.4 < z.square().mean() < 1.9
    along = estimates @ truth / (truth @ truth)
    assert along.mean().item() == pytest.approx(1, abs=4 * along.std().item() / math.sqrt(40))
    assert along.std().item() / math.sqrt(40) < 0.08  # so that a factor would show


def test_running_statistics_are_those_of_the_clean_pass():
    network, (x, y) = mlp(norm=True), batch(8, 5)
    other = mlp(norm=True)
    other(x)
    rule(3, 0.5).assign(network, Batch(x, y, generator=torch.Generator()))
    assert all(torch.equal(a, b) for a, b in zip(network.buffers(), other.buffers(), strict=True))
