"""Flatness and curvature against closed forms, plain autograd and the invariances they claim."""

import copy
import math
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from creditlab.algorithms.ff import ForwardForward
from creditlab.architectures.block import Block
from creditlab.metrics import landscape
from creditlab.metrics.landscape import flatness, hessian
from tests.metrics.networks import RULES, batch, convolutional, forward, generator, mlp, rule

FLAT = dict(perturbation="filter", sigma=0.1, draws=4, samples=64)
CURVED = dict(iterations=40, tolerance=1e-9, draws=4, samples=10**6)


def linear(features=5, classes=3):
    """Softmax regression: H = mean over samples of (diag p − ppᵀ) ⊗ (x, 1)(x, 1)ᵀ."""
    network = nn.Sequential(OrderedDict(readout=nn.Linear(features, classes))).double()
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=generator(1), dtype=p.dtype))
    return network


def exact_hessian(network, predict, x, label):
    """(parameters, parameters), by autograd on the flat vector of parameters."""
    names, start = zip(*network.named_parameters(), strict=True)
    copied = copy.deepcopy(network)

    def loss(vector):
        parts = vector.split([p.numel() for p in start])
        for name, p, part in zip(names, start, parts, strict=True):
            module, _, leaf = name.rpartition(".")
            owner = copied.get_submodule(module)
            owner._parameters.pop(leaf, None)
            setattr(owner, leaf, part.view_as(p))
        return cross_entropy(predict(copied, x), label)

    return torch.autograd.functional.hessian(loss, torch.cat([p.detach().flatten() for p in start]))


def softmax_regression_diagonal(network, x):
    """p(1 − p) (samples, classes) and |x|² (samples,): the mean of their products is the trace of a row's weights."""
    p = network(x).softmax(1).detach()
    return (p * (1 - p)), x.square().sum(1)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("draw", [mlp, lambda: mlp(activation=nn.Tanh), convolutional], ids=["relu", "tanh", "conv"])
def test_curvature_against_the_full_hessian(name, draw):
    network = draw()
    predict = rule(name, network).predict
    x, label = batch(24)
    exact = exact_hessian(network, predict, x, label)
    measured = hessian(network, predict, x, label, generator(), **(CURVED | {"iterations": 200, "draws": 400}))
    assert measured["top"] == pytest.approx(torch.linalg.eigvalsh(exact)[-1].item(), rel=1e-6)
    assert measured["trace"] == pytest.approx(exact.trace().item(), abs=4 * measured["trace_error"])
    assert 0 < measured["trace_error"] < 0.2 * abs(measured["trace"])


def test_curvature_of_softmax_regression_in_closed_form():
    network, (x, label) = linear(), batch(519, 5)
    variance, size = softmax_regression_diagonal(network, x)
    measured = hessian(network, forward, x, label, generator(), **(CURVED | {"draws": 300}))
    trace = (variance.sum(1) * (size + 1)).mean().item()
    assert measured["trace"] == pytest.approx(trace, abs=4 * measured["trace_error"])
    assert measured["trace_error"] < 0.05 * trace
    p = network(x).softmax(1).detach()
    one = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    spread = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    exact = torch.einsum("nab,ni,nj->aibj", spread, one, one).reshape(18, 18) / len(x)
    assert measured["top"] == pytest.approx(torch.linalg.eigvalsh(exact)[-1].item(), rel=1e-9)
    assert measured["top_error"] <= 1e-8 * measured["top"]


@pytest.mark.parametrize("name", RULES)
def test_curvature_is_the_same_whatever_fits_in_memory_at_once(name, monkeypatch):
    network, (x, label) = convolutional(), batch(23)
    predict, keys = rule(name, network).predict, CURVED | {"iterations": 6}
    whole = hessian(network, predict, x, label, generator(), **keys)
    rows = landscape._rows(network, predict, x, label)
    assert rows > len(x)
    monkeypatch.setattr(landscape, "KEPT", int(landscape.KEPT * 5.5 / rows))
    assert landscape._rows(network, predict, x, label) == 5
    assert hessian(network, predict, x, label, generator(), **keys) == pytest.approx(whole, rel=1e-9)


def test_probes_by_block_leave_out_what_couples_blocks():
    """The error of the trace is less than half of what the variance of probes of the whole network, which is
    2 Σ_{i≠j} H_ij² a draw, would make it: before training most of that is what couples blocks.
    """
    network, (x, label) = mlp(widths=(40, 30)), batch(24)
    predict = rule("bp", network).predict
    exact = exact_hessian(network, predict, x, label)
    measured = hessian(network, predict, x, label, generator(), **(CURVED | {"iterations": 1, "draws": 50}))
    whole = (2 * (exact.square().sum() - exact.diagonal().square().sum()) / 50).sqrt().item()
    assert measured["trace_error"] < 0.5 * whole


def test_few_iterations_give_a_lower_bound_and_say_how_far_off_an_eigenvalue_may_be():
    network, (x, label) = mlp(), batch(24)
    predict = rule("bp", network).predict
    exact = torch.linalg.eigvalsh(exact_hessian(network, predict, x, label))
    for iterations in (1, 3, 6):
        measured = hessian(network, predict, x, label, generator(), **(CURVED | {"iterations": iterations}))
        assert measured["top"] <= exact[-1].item() + 1e-12
        assert (exact - measured["top"]).abs().min().item() <= measured["top_error"] + 1e-12
    loose = hessian(network, predict, x, label, generator(), **(CURVED | {"tolerance": 0.05}))
    assert 1e-9 * loose["top"] < loose["top_error"] <= 0.05 * exact.abs().max().item()


def test_parameters_that_the_scores_ignore_are_flat():
    """Forward-forward predicts by goodness, which its read-out has no part in."""
    network, (x, label) = mlp(), batch(12)
    measured = hessian(network, rule("ff", network).predict, x, label, generator(), **CURVED)
    with torch.no_grad():
        network[-1].weight.mul_(100)
    assert hessian(network, rule("ff", network).predict, x, label, generator(), **CURVED) == measured
    assert measured["top"] > 0


@pytest.mark.parametrize("name", RULES)
def test_a_dead_network_has_no_curvature_below_its_readout(name):
    network, (x, label) = mlp(), batch(12)
    with torch.no_grad():
        network[0].body[-1].weight.zero_()
        network[0].body[-1].bias.fill_(-1)
        network[1].body[-1].bias.fill_(-1)
    measured = hessian(network, rule(name, network).predict, x, label, generator(), **CURVED)
    p = network[-1].bias.detach().softmax(0)  # only the read-out's bias is seen
    expected = torch.linalg.eigvalsh(torch.diag(p) - p[:, None] * p)[-1].item() if name == "bp" else 0.0
    assert measured["top"] == pytest.approx(expected, abs=1e-12)
    assert measured["trace"] == pytest.approx((p * (1 - p)).sum().item() if name == "bp" else 0.0, abs=0.5)


def test_plain_perturbation_of_softmax_regression_in_closed_form():
    """E ΔL = ½ σ² tr H + O(σ⁴)."""
    network, (x, label) = linear(), batch(50, 5)
    variance, size = softmax_regression_diagonal(network, x)
    keys = FLAT | dict(perturbation="plain", sigma=1e-2, draws=2000)
    measured = flatness(network, forward, x, label, generator(), **keys)
    expected = 0.5 * 1e-4 * (variance.sum(1) * (size + 1)).mean().item()
    assert measured["loss"] == pytest.approx(expected, abs=4 * measured["loss_error"])
    assert measured["loss_error"] < 0.03 * expected


def test_filter_perturbation_of_softmax_regression_in_closed_form():
    """A row's noise lies on the sphere of radius σ‖w‖, E ddᵀ = σ²‖w‖²/n I, and biases stay:
    E ΔL = ½ σ² Σ ‖wᵢ‖² tr Hᵢᵢ/n.
    """
    network, (x, label) = linear(), batch(50, 5)
    variance, size = softmax_regression_diagonal(network, x)
    measured = flatness(network, forward, x, label, generator(), **(FLAT | dict(sigma=1e-2, draws=2000)))
    rows = network[0].weight.detach().square().sum(1)
    expected = 0.5 * 1e-4 * (variance * size[:, None]).mean(0).mul(rows).sum().item() / 5
    assert measured["loss"] == pytest.approx(expected, abs=4 * measured["loss_error"])
    assert measured["loss_error"] < 0.03 * expected


def test_the_error_is_the_spread_of_the_mean():
    """Over many streams the mean scatters by what the errors say."""
    network, (x, label) = linear(), batch(50, 5)
    measured = [flatness(network, forward, x, label, generator(s), **(FLAT | dict(draws=8))) for s in range(200)]
    for part in ("loss", "accuracy"):
        spread = torch.tensor([f[part] for f in measured]).std().item()
        stated = torch.tensor([f[f"{part}_error"] for f in measured]).square().mean().sqrt().item()
        assert spread == pytest.approx(stated, rel=0.2)


@settings(max_examples=10)
@given(st.floats(0.1, 10))
def test_filter_perturbation_is_free_of_the_scale_of_relu_units_and_plain_is_not(c):
    network, (x, label) = mlp(), batch(24)
    scaled = copy.deepcopy(network)
    with torch.no_grad():
        for p in scaled[0].parameters():
            p.mul_(c)
        scaled[1].body[-1].weight.div_(c)
    assert torch.allclose(scaled(x), network(x), atol=1e-12)
    measured = flatness(scaled, forward, x, label, generator(), **FLAT)
    assert measured == pytest.approx(flatness(network, forward, x, label, generator(), **FLAT), rel=1e-6, abs=1e-12)
    plain = FLAT | {"perturbation": "plain"}
    if abs(math.log(c)) > 0.1:
        before = flatness(network, forward, x, label, generator(), **plain)["loss"]
        assert flatness(scaled, forward, x, label, generator(), **plain)["loss"] != pytest.approx(before, rel=1e-3)


def test_filters_of_a_convolution_are_perturbed_by_their_own_length():
    """The change of each filter, read off the weights at the moment of the forward pass."""
    block = Block(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten())
    norm = Block(nn.BatchNorm1d(16), nn.ReLU())
    network = nn.Sequential(OrderedDict(conv1=block, fc2=norm, readout=nn.Linear(16, 3))).double().eval()
    with torch.no_grad():
        block.body.weight[0] = 0  # a filter of zeros has no length to be perturbed by
    start = {n: p.detach().clone() for n, p in network.named_parameters()}
    seen = []

    def predict(network, x):
        seen.append({n: p.detach() - start[n] for n, p in network.named_parameters()})
        return network(x)

    x = torch.randn(6, 2, 4, 4, generator=generator(), dtype=torch.float64)
    measured = flatness(network, predict, x, torch.arange(6) % 3, generator(), **FLAT)
    assert math.isfinite(measured["loss"])
    assert len(seen) == 2 * FLAT["draws"] + 1
    for plus, minus in zip(seen[1::2], seen[2::2], strict=True):
        for name, d in plus.items():
            assert torch.allclose(d, -minus[name], atol=1e-15)
            expected = 0.1 * start[name].flatten(1).norm(dim=1) if d.ndim > 1 else torch.zeros(())
            assert torch.allclose(d.flatten(1).norm(dim=1) if d.ndim > 1 else d.abs().sum(), expected.to(d))


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("metric", [flatness, hessian])
def test_one_stream_one_value_and_nothing_else_is_touched(name, metric):
    network, (x, label) = mlp(), batch(24)
    predict = rule(name, network).predict
    keys = FLAT if metric is flatness else CURVED | {"iterations": 5}
    before = copy.deepcopy(network.state_dict())
    torch.manual_seed(0)
    state = torch.get_rng_state()
    measured = metric(network, predict, x, label, generator(3), **keys)
    assert metric(network, predict, x, label, generator(3), **keys) == measured
    assert metric(network, predict, x, label, generator(4), **keys) != measured
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[n], v) for n, v in network.state_dict().items())
    capped = metric(network, predict, x, label, generator(3), **(keys | {"samples": 9}))
    assert capped == metric(network, predict, x[:9], label[:9], generator(3), **keys)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", RULES)
def test_a_diverged_network_has_no_landscape(name, value):
    network, (x, label) = mlp(), batch(12)
    predict = rule(name, network).predict
    with torch.no_grad():
        network[0].body[-1].weight[0, 0] = value
    assert all(math.isnan(v) for v in flatness(network, predict, x, label, generator(), **FLAT).values())
    assert all(math.isnan(v) for v in hessian(network, predict, x, label, generator(), **CURVED).values())


def test_single_precision_is_enough():
    network, (x, label) = mlp(), batch(24)
    keys = CURVED | {"iterations": 60, "tolerance": 1e-4}
    exact = hessian(network, forward, x, label, generator(), **keys)
    measured = hessian(network.float(), forward, x.float(), label, generator(), **keys)
    assert measured["top"] == pytest.approx(exact["top"], rel=1e-4)
    assert measured["trace"] == pytest.approx(exact["trace"], rel=1e-4)


def test_forward_forward_is_read_by_its_goodness():
    network = mlp()
    assert isinstance(rule("ff", network), ForwardForward)
    x, label = batch(24)
    goodness = flatness(network, rule("ff", network).predict, x, label, generator(), **FLAT)
    assert goodness != flatness(network, forward, x, label, generator(), **FLAT)
