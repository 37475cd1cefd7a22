"""Feedback alignment, layer by layer and direct, held to backpropagation and to plain-tensor derivations."""

import math

import pytest
import torch
from torch.nn.functional import one_hot

from creditlab.algorithms.base import Batch, forward
from creditlab.architectures.block import hidden_blocks, teaching, weights
from creditlab.parts import assemble
from tests.common import SMALL, options


def parts(plan, *overrides, double=True):
    precision = "float64" if double else "float32"
    return assemble(plan(*SMALL, f"precision={precision}", *overrides).config)


def assign(p, rule=None, n=16, probe=True):
    x, y = p.dataset.batch(torch.arange(n))
    readings = (rule or p.algorithm).assign(p.network, Batch(x, y, generator=torch.Generator(), probe=probe))
    return readings, {name: q.grad.clone() for name, q in p.network.named_parameters()}


def degrees(a, b):
    cosine = torch.nn.functional.cosine_similarity(a.detach().flatten().double(), b.flatten().double(), dim=0)
    return math.degrees(math.acos(cosine.clamp(-1, 1)))


ON = {
    "mlp": ["architecture=mlp", "architecture.norm=layer"],
    "convnet": ["architecture=convnet", "architecture.depth=3", "architecture.norm=batch", "architecture.channels=[6]"],
    "lenet": ["architecture=lenet", "dataset.pad=6"],
    "cnn3": ["architecture=cnn3"],
    "resnet18": ["architecture=resnet18", "architecture.width=4"],
    "transformer": ["architecture=transformer", "architecture.width=16", "dataset=text", "dataset.context=8"],
}


def test_every_architecture_is_covered():
    assert sorted(ON) == options("architecture")


@pytest.mark.parametrize("architecture", ON)
def test_with_the_transposed_weights_it_is_backpropagation(plan, architecture):
    bp = parts(plan, *ON[architecture])
    fa = parts(plan, *ON[architecture], "algorithm=fa")
    expected_readings, expected = assign(bp)
    feedback = fa.algorithm.feedback(fa.network)
    assert list(feedback) == list(teaching(fa.network))
    tables = 2 if architecture == "transformer" else 1  # of tokens and of positions
    assert list(feedback) == list(weights(fa.network))[tables:]
    random = assign(fa)[1]
    for layer, b in feedback.items():
        b.copy_(weights(fa.network)[layer].detach())
    readings, actual = assign(fa)
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=0, atol=1e-10)
    for block, error in expected_readings.errors.items():
        torch.testing.assert_close(readings.errors[block], error, rtol=0, atol=1e-10)
    first = next(iter(expected))
    assert (random[first] - expected[first]).norm() > 0.1 * expected[first].norm()  # it was not so before


@pytest.mark.parametrize("architecture", ON)
def test_at_initialisation_feedback_is_orthogonal_to_the_weights(plan, architecture):
    p = parts(plan, *ON[architecture], "algorithm=fa")
    for layer, b in p.algorithm.feedback(p.network).items():
        w = weights(p.network)[layer]
        assert b.shape == w.shape
        assert abs(degrees(b, w) - 90) < 4 * 57.3 / math.sqrt(w.numel())
        assert b.std().item() == pytest.approx(w.std().item(), rel=6 / math.sqrt(w.numel()) + 0.02)


def test_scale_multiplies_the_feedback(plan):
    one = parts(plan, "algorithm=fa").algorithm.feedback(parts(plan, "algorithm=fa").network)
    three = parts(plan, "algorithm=fa", "algorithm.scale=3").algorithm.feedback(parts(plan, "algorithm=fa").network)
    for layer in one:
        torch.testing.assert_close(three[layer], 3 * one[layer])


@pytest.mark.parametrize("architecture", ON)
def test_bfloat16_gives_nearly_the_same(plan, architecture):
    """To what rounding leaves of twenty layers with normalisation: backpropagation itself keeps a cosine of 0.93."""
    p = parts(plan, *ON[architecture], "algorithm=fa", double=False)
    expected = assign(p)[1]
    with torch.autocast("cpu", torch.bfloat16):
        actual = assign(p)[1]
    for name in (n for n, q in p.network.named_parameters() if q.ndim >= 2):
        assert actual[name].dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(actual[name].flatten(), expected[name].flatten(), dim=0) > 0.9


def test_fa_against_a_plain_derivation(plan):
    p = parts(plan, "algorithm=fa", "architecture.widths=[12,9]")
    readings, _ = assign(p)
    x, y = p.dataset.batch(torch.arange(16))
    w = dict(p.network.named_parameters())
    b = p.algorithm.feedback(p.network)
    with torch.no_grad():
        h0 = x.flatten(1)
        a1 = h0 @ w["fc1.body.linear.weight"].T + w["fc1.body.linear.bias"]
        h1 = a1.clamp(min=0)
        a2 = h1 @ w["fc2.body.linear.weight"].T + w["fc2.body.linear.bias"]
        h2 = a2.clamp(min=0)
        p3 = (h2 @ w["readout.weight"].T + w["readout.bias"]).softmax(1)
        d3 = (p3 - one_hot(y, 10)) / len(y)
        d2 = (d3 @ b["readout"]) * (a2 > 0)
        d1 = (d2 @ b["fc2"]) * (a1 > 0)
    expected = {"fc1": d1.T @ h0, "fc2": d2.T @ h1, "readout": d3.T @ h2}
    for layer, gradient in expected.items():
        torch.testing.assert_close(weights(p.network)[layer].grad, gradient, rtol=0, atol=1e-12)
    for block, delta in {"fc1": d1, "fc2": d2, "readout": d3}.items():
        torch.testing.assert_close(readings.errors[block], delta, rtol=0, atol=1e-12)


def test_dfa_against_a_plain_derivation(plan):
    p = parts(plan, "algorithm=dfa", "architecture.widths=[12,9]", "architecture.activation=tanh")
    readings, _ = assign(p)
    x, y = p.dataset.batch(torch.arange(16))
    w = dict(p.network.named_parameters())
    with torch.no_grad():
        h0 = x.flatten(1)
        h1 = (h0 @ w["fc1.body.linear.weight"].T + w["fc1.body.linear.bias"]).tanh()
        h2 = (h1 @ w["fc2.body.linear.weight"].T + w["fc2.body.linear.bias"]).tanh()
        e = ((h2 @ w["readout.weight"].T + w["readout.bias"]).softmax(1) - one_hot(y, 10)) / len(y)
        d1 = (e @ p.algorithm.get_buffer("fc1")) * (1 - h1**2)
        d2 = (e @ p.algorithm.get_buffer("fc2")) * (1 - h2**2)
    for layer, gradient in {"fc1": d1.T @ h0, "fc2": d2.T @ h1, "readout": e.T @ h2}.items():
        torch.testing.assert_close(weights(p.network)[layer].grad, gradient, rtol=0, atol=1e-12)
    torch.testing.assert_close(readings.errors["fc1"], d1, rtol=0, atol=1e-12)


def test_dfa_with_the_derivative_of_the_net_above_is_backpropagation_for_the_last_hidden_block(plan):
    """B_L = W_Lᵀ makes the block below the read-out learn by the exact gradient."""
    p, bp = parts(plan, "algorithm=dfa", *ON["convnet"]), parts(plan, *ON["convnet"])
    expected = assign(bp)[1]
    name, _ = list(hidden_blocks(p.network))[-1]
    b = p.algorithm.get_buffer(name)
    b.copy_(weights(p.network)["readout"].detach().reshape(b.shape))
    actual = assign(p)[1]
    for parameter in (n for n in expected if n.startswith((name, "readout"))):
        torch.testing.assert_close(actual[parameter], expected[parameter], rtol=0, atol=1e-10)


def test_no_dfa_gradient_crosses_a_block(plan):
    """The first block's gradient depends on the blocks above through the output error alone."""
    p = parts(plan, "algorithm=dfa", "architecture.widths=[12,9]")
    x, _ = p.dataset.batch(torch.arange(16))
    before = assign(p)[1]["fc1.body.linear.weight"]
    with torch.no_grad():
        scores = forward(p.network, x)[0]
        p.network.fc2.body.linear.weight.mul_(2)  # the read-out halved: the same scores, where biases are zero
        p.network.fc2.body.linear.bias.mul_(2)
        p.network.readout.weight.div_(2)
        torch.testing.assert_close(forward(p.network, x)[0], scores)
    torch.testing.assert_close(assign(p)[1]["fc1.body.linear.weight"], before)


def test_dfa_feedback_has_the_documented_range(plan):
    p = parts(plan, "algorithm=dfa", "algorithm.scale=2", "architecture.widths=[400]")
    b = p.algorithm.get_buffer("fc1")
    bound = 2 / math.sqrt(10)
    assert 0.99 * bound < b.abs().max() <= bound
    assert b.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


@pytest.mark.data
def test_in_training_fa_errors_lie_at_an_angle_to_backpropagations(plan, data_root):
    """A true FA MLP settles at 35 to 50° on MNIST (Akrout's logs: 34.9°); near 0° means one runs backpropagation."""
    mnist = [
        "dataset=mnist",
        f"dataset.root={data_root}",
        "architecture.widths=[500]",
        "architecture.activation=sigmoid",
    ]
    sgd = ["optimiser=sgd", "optimiser.lr=0.2", "optimiser.momentum=0", "training.batch_size=128"]
    p = parts(plan, "algorithm=fa", *mnist, *sgd, double=False)
    order = torch.randperm(60_000, generator=torch.Generator().manual_seed(0))
    for indices in order[: 400 * 128].split(128):
        x, y = p.dataset.batch(indices)
        p.algorithm.assign(p.network, Batch(x, y, generator=torch.Generator()))
        p.optimiser.step()
    bp = parts(plan, *mnist, double=False)
    x, y = p.dataset.batch(order[-512:])
    fa_error = p.algorithm.assign(p.network, Batch(x, y, generator=torch.Generator(), probe=True)).errors["fc1"]
    bp_error = bp.algorithm.assign(p.network, Batch(x, y, generator=torch.Generator(), probe=True)).errors["fc1"]
    assert 35 < degrees(fa_error, bp_error) < 50


@pytest.mark.parametrize("architecture", ON)
def test_what_dfa_sends_below_the_readout_is_its_feedback(plan, architecture):
    """With it instead of the read-out's weight, feedback alignment teaches the block below as direct does."""
    dfa, fa = (parts(plan, *ON[architecture], f"algorithm={rule}") for rule in ("dfa", "fa"))
    feedback = dfa.algorithm.feedback(dfa.network)
    assert all(b.shape == weights(dfa.network)[layer].shape for layer, b in feedback.items())
    assert ("fc1" in feedback) == (architecture in ("lenet", "cnn3"))
    fa.algorithm.feedback(fa.network)["readout"].copy_(feedback["readout"])
    errors, expected = (assign(p)[0].errors for p in (fa, dfa))
    last = list(expected)[-2]
    torch.testing.assert_close(errors[last], expected[last], rtol=0, atol=1e-12)


def test_weights_come_to_align_with_the_feedback_of_dfa(plan):
    """Refinetti et al. 2021: from a right angle at initialisation, where the scatter of a cosine is 1/√entries."""
    p = parts(plan, "algorithm=dfa", "architecture.widths=[64,32,24]", "optimiser.lr=0.003")
    cosine = lambda: {n: math.cos(math.radians(degrees(weights(p.network)[n], b))) for n, b in feedback.items()}  # noqa: E731
    feedback = p.algorithm.feedback(p.network)
    assert list(feedback) == ["fc2", "fc3", "readout"]
    assert all(abs(c) < 4 / math.sqrt(feedback[n].numel()) for n, c in cosine().items())
    for step in range(150):
        x, y = p.dataset.batch(torch.arange(64) + 64 * (step % 20))
        p.algorithm.assign(p.network, Batch(x, y, generator=torch.Generator()))
        p.optimiser.step()
    assert all(c > 0.2 for c in cosine().values()), cosine()
