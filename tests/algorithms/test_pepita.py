"""PEPITA against plain-tensor derivations, fully connected and convolutional."""

import math
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot, unfold

from creditlab.algorithms.base import Batch
from creditlab.algorithms.pepita import Pepita
from creditlab.architectures.block import Block
from creditlab.task import Task
from tests.algorithms.test_es import mlp
from tests.algorithms.test_feedback import assign, parts


def test_fully_connected(plan):
    p = parts(plan, "algorithm=pepita", "architecture.widths=[12,9]", "algorithm.scale=1")
    readings, actual = assign(p)
    x, y = p.dataset.batch(torch.arange(16))
    w1, b1, w2, b2, w3, b3 = (q.detach() for q in p.network.parameters())

    def activations(x):
        h1 = (x @ w1.T + b1).clamp(min=0)
        return h1, (h1 @ w2.T + b2).clamp(min=0)

    h1, h2 = activations(x.flatten(1))
    e = (h2 @ w3.T + b3).softmax(1) - one_hot(y, 10)
    changed = x.flatten(1) + e @ p.algorithm.get_buffer("projection").flatten(1)
    g1, g2 = activations(changed)
    expected = [
        ((h1 - g1).T @ changed, (h1 - g1).sum(0)),
        ((h2 - g2).T @ g1, (h2 - g2).sum(0)),
        (e.T @ g2, e.sum(0)),
    ]
    for gradient, value in zip(actual.values(), [g for pair in expected for g in pair], strict=True):
        torch.testing.assert_close(gradient, value / 16, rtol=0, atol=1e-12)
    for block, delta in {"fc1": h1 - g1, "fc2": h2 - g2, "readout": e}.items():
        torch.testing.assert_close(readings.errors[block], delta / 16, rtol=0, atol=1e-12)
    torch.testing.assert_close(readings.scores, h2 @ w3.T + b3)


def test_convolutions_learn_at_every_position():
    torch.manual_seed(0)
    body = Block(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Sequential(nn.MaxPool2d(2), nn.Flatten()))
    network = nn.Sequential(OrderedDict(conv1=body, readout=nn.Linear(12, 3))).double()
    rule = Pepita(network, Task((2, 6, 6), 3, 0.0, 1.0), None, torch.Generator().manual_seed(1), scale=1.0).double()
    x, y = torch.randn(5, 2, 6, 6, dtype=torch.float64), torch.arange(5) % 3
    rule.assign(network, Batch(x, y, generator=torch.Generator()))
    with torch.no_grad():
        e = network(x).softmax(1) - one_hot(y, 3)
        changed = x + torch.einsum("nk,kchw->nchw", e, rule.get_buffer("projection"))
        difference = network.conv1.body(x).clamp(min=0) - network.conv1.body(changed).clamp(min=0)
        patches = unfold(changed, 3)  # (samples, 2·3·3, positions)
        expected = torch.einsum("nop,nip->oi", difference.flatten(2), patches).view(3, 2, 3, 3) / 5
    torch.testing.assert_close(network.conv1.body.weight.grad, expected)
    torch.testing.assert_close(network.readout.weight.grad, e.T @ network.conv1(changed).detach() / 5)


def test_the_projection_is_uniform_with_the_range_of_the_authors_code():
    rule = Pepita(mlp(), Task((3, 20, 20), 10, 0.0, 1.0), None, torch.Generator().manual_seed(0), scale=0.5)
    f, bound = rule.get_buffer("projection"), 0.5 * math.sqrt(6 / 1200)
    assert f.shape == (10, 3, 20, 20)
    assert 0.99 * bound < f.abs().max() <= bound
    assert f.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert abs(f.mean().item()) < 4 * bound / math.sqrt(3 * f.numel())


def test_running_statistics_are_those_of_the_first_pass():
    network, other, x = mlp(norm=True), mlp(norm=True), torch.randn(8, 5, dtype=torch.float64)
    rule = Pepita(network, Task((5,), 3, 0.0, 1.0), None, torch.Generator(), scale=1.0).double()
    rule.assign(network, Batch(x, torch.arange(8) % 3, generator=torch.Generator()))
    other(x)
    assert all(torch.equal(a, b) for a, b in zip(network.buffers(), other.buffers(), strict=True))


def test_refuses_a_network_without_hidden_blocks():
    network = nn.Sequential(OrderedDict(readout=nn.Linear(4, 3)))
    with pytest.raises(ValueError, match="the network has none"):
        Pepita(network, Task((4,), 3, 0.0, 1.0), None, None, scale=1.0)
