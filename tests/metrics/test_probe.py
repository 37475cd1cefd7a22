"""Signals of a step, held to a plain re-derivation and to the rule that is backpropagation itself."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from creditlab.algorithms.base import Batch
from creditlab.architectures.block import weights
from creditlab.metrics import probe
from creditlab.parts import assemble
from tests.common import SMALL, options


def step(plan, *overrides):
    """Parts after one assignment in float64, with the batch and the readings."""
    parts = assemble(plan(*SMALL, "precision=float64", *overrides).config)
    parts.network.train()
    x, y = parts.dataset.batch(torch.arange(32))
    generator = torch.Generator().manual_seed(0)
    readings = parts.algorithm.assign(parts.network, Batch(x, y, generator=generator, probe=True))
    return parts, x, y, readings


def by_hand(network, x, y):
    """Gradients and errors of an MLP's cross-entropy by the chain rule."""
    w, layers = weights(network), list(weights(network))
    h, pre = [x.flatten(1)], []
    for name, block in list(network.named_children())[:-1]:
        pre.append(h[-1] @ w[name].T + block.body.linear.bias)
        h.append(pre[-1].relu())
    scores = h[-1] @ w["readout"].T + network[-1].bias
    delta = (scores.softmax(1) - nn.functional.one_hot(y, 10)) / len(y)
    errors, gradients = {}, {}
    for i, layer in reversed(list(enumerate(layers))):
        errors[layer], gradients[layer] = delta[:, :, None], delta.T @ h[i]
        if i:
            delta = delta @ w[layer] * (pre[i - 1] > 0)
    return gradients, errors


@pytest.mark.parametrize("algorithm", ["bp", "fa", "dfa"])
def test_the_true_signals_are_the_chain_rules(plan, algorithm):
    parts, x, y, readings = step(plan, f"algorithm={algorithm}", "architecture.widths=[12,9]")
    signals = probe.assigned(parts.network, parts.algorithm, x, y, readings)
    gradients, errors = by_hand(parts.network, x, y)
    for layer in ("fc1", "fc2", "readout"):
        torch.testing.assert_close(signals["true_gradient"][layer], gradients[layer].detach(), rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(signals["true_error"][layer], errors[layer].detach(), rtol=1e-10, atol=1e-14)
        same = torch.allclose(signals["gradient"][layer], gradients[layer], rtol=1e-10, atol=1e-14)
        assert same == (algorithm == "bp" or layer == "readout")
        same = torch.allclose(signals["error"][layer], errors[layer], rtol=1e-10, atol=1e-14)
        assert same == (algorithm == "bp" or layer == "readout")


@pytest.mark.parametrize("architecture", ["mlp", "convnet", "resnet18"])
def test_backpropagations_own_signals_are_the_true_ones(plan, architecture):
    small = {"convnet": ["architecture.depth=2", "architecture.channels=[4]", "architecture.norm=batch"]}
    small["resnet18"] = ["architecture.width=4"] if architecture == "resnet18" else []
    parts, x, y, readings = step(plan, f"architecture={architecture}", *small.get(architecture, []))
    signals = probe.assigned(parts.network, parts.algorithm, x, y, readings)
    for mine, true in (("gradient", "true_gradient"), ("error", "true_error")):
        assert signals[mine].keys() == signals[true].keys()
        for name, value in signals[mine].items():
            torch.testing.assert_close(value, signals[true][name], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("algorithm", options("algorithm"))
def test_listening_leaves_gradients_statistics_and_hooks_alone(plan, algorithm):
    parts, x, y, readings = step(plan, f"algorithm={algorithm}", "architecture.norm=batch")
    network = parts.network
    gradients = {n: None if p.grad is None else p.grad.clone() for n, p in network.named_parameters()}
    state = {n: t.clone() for n, t in network.state_dict().items()}
    signals = probe.assigned(network, parts.algorithm, x, y, readings)
    assert all(torch.equal(t, state[n]) for n, t in network.state_dict().items())
    assert all((p.grad is None) == (gradients[n] is None) for n, p in network.named_parameters())
    assert all(g is None or torch.equal(g, network.get_parameter(n).grad) for n, g in gradients.items())
    assert not any(m._forward_hooks for m in network.modules())
    assert set(signals["true_error"]) <= set(signals["error"])


def test_forward_forwards_true_gradient_is_that_of_its_own_read_out(plan):
    parts, x, y, readings = step(plan, "algorithm=ff", "architecture.widths=[12,9]")
    signals = probe.assigned(parts.network, parts.algorithm, x, y, readings)
    loss = cross_entropy(parts.algorithm.predict(parts.network, x), y)
    (expected,) = torch.autograd.grad(loss, weights(parts.network)["fc2"])
    torch.testing.assert_close(signals["true_gradient"]["fc2"], expected)
    assert signals["true_error"] == {}  # a sample goes through once a label


def test_updates_are_what_the_step_added(plan):
    parts, _, _, _ = step(plan, "optimiser=sgd", "optimiser.lr=0.5", "optimiser.momentum=0")
    before = {n: w.detach().clone() for n, w in weights(parts.network).items()}
    gradients = probe.gradients(parts.network)
    parts.optimiser.step()
    for layer, update in probe.updates(parts.network, before).items():
        torch.testing.assert_close(update, -0.5 * gradients[layer], rtol=1e-9, atol=1e-12)
