"""The alignment penalty against numpy, and what it does to the angles."""

import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from creditlab.algorithms.bp_aligned import AlignedBackpropagation, misalignment
from creditlab.architectures.block import weights
from creditlab.task import Task
from tests.algorithms.test_feedback import ON, assign, parts


def by_hand(w, cosine):
    """The mean over pairs, one after another."""
    w = w.reshape(len(w), -1)
    pairs = [(i, j) for i in range(len(w)) for j in range(i)]
    cosines = [w[i] @ w[j] / math.sqrt((w[i] @ w[i]) * (w[j] @ w[j])) for i, j in pairs]
    return float(np.mean((np.array(cosines) - cosine) ** 2))


@pytest.mark.parametrize("cosine", [1.0, 0.0, -0.3])
@pytest.mark.parametrize("shape", [(6, 4), (5, 2, 3, 3)])
def test_the_penalty_and_its_slope_are_numpys(shape, cosine):
    w = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    value = misalignment(w, cosine)
    value.backward()
    plain = w.detach().numpy()
    assert value.item() == pytest.approx(by_hand(plain, cosine), rel=1e-12)
    d = np.random.default_rng(0).normal(size=shape)
    slope = (by_hand(plain + 1e-6 * d, cosine) - by_hand(plain - 1e-6 * d, cosine)) / 2e-6
    assert (w.grad.numpy() * d).sum() == pytest.approx(slope, rel=1e-6)
    assert misalignment(w[:1], cosine) == 0


@pytest.mark.parametrize("architecture", ON)
def test_it_is_backpropagation_plus_the_penaltys_gradient(plan, architecture):
    bp = parts(plan, *ON[architecture])
    p = parts(plan, *ON[architecture], "algorithm=bp_aligned", "algorithm.weight=0.7", "algorithm.cosine=0.4")
    (taught, expected), (readings, actual) = assign(bp), assign(p)
    *below, _ = weights(bp.network)
    hidden = [layer for layer in below if not layer.startswith("embedding")]
    total = 0.0
    for layer in hidden:
        w = weights(bp.network)[layer].detach().requires_grad_()
        value = 0.7 * misalignment(w, 0.4)
        total += value.item()
        (slope,) = torch.autograd.grad(value, w)
        weights(bp.network)[layer].grad.add_(slope)
    expected = {name: q.grad for name, q in bp.network.named_parameters()}
    for name in actual:
        torch.testing.assert_close(actual[name], expected[name], rtol=0, atol=1e-12)
    assert readings.loss.item() == pytest.approx(taught.loss.item() + total)
    for block, error in taught.errors.items():
        assert torch.equal(readings.errors[block], error)


@pytest.mark.parametrize(("cosine", "low", "high"), [(1.0, 0.9, 1.0), (0.0, -0.05, 0.05)])
def test_units_come_to_the_angle_that_is_asked_for(plan, cosine, low, high):
    keys = ["architecture.widths=[20]", "optimiser.lr=0.01"]
    p = parts(plan, "algorithm=bp_aligned", "algorithm.weight=30", f"algorithm.cosine={cosine}", *keys)
    for _ in range(200):
        assign(p, n=64, probe=False)
        p.optimiser.step()
    rows = torch.nn.functional.normalize(weights(p.network)["fc1"].detach(), dim=1)
    off = (rows @ rows.T)[~torch.eye(20, dtype=torch.bool)]
    assert low < off.mean().item() < high


def test_refuses_a_network_without_hidden_layers():
    network = nn.Sequential(OrderedDict(readout=nn.Linear(4, 3)))
    with pytest.raises(ValueError, match="the network has none"):
        AlignedBackpropagation(network, Task((4,), 3, 0.0, 1.0), None, None, weight=1.0, cosine=1.0)
