"""Sign-symmetric feedback held to backpropagation, to a plain-tensor derivation and to its definitions."""

import math

import pytest
import torch
from torch.nn.functional import one_hot

from creditlab.algorithms.base import Batch
from creditlab.algorithms.fa import registered, teaching
from creditlab.architectures.block import weights
from tests.algorithms.test_feedback import ON, assign, degrees, parts

RULES = ["usf", "frsf", "brsf"]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("architecture", ON)
def test_where_sizes_agree_it_is_backpropagation(plan, architecture, rule):
    """All weights of the size (usf) or sizes (frsf; brsf in that pass) that its B has, whatever their signs: B = W."""
    bp, ours = parts(plan, *ON[architecture]), parts(plan, *ON[architecture], f"algorithm={rule}")
    plain = assign(bp)[1]
    random = assign(ours)[1]
    first = next(iter(plain))
    assert (random[first] - plain[first]).norm() > 0.1 * plain[first].norm()  # before they agree
    with torch.no_grad():
        for layer, w in teaching(bp.network).items():
            w.copy_(ours.algorithm.get_buffer(registered(layer)) * w.sign())
            teaching(ours.network)[layer].copy_(w)
    expected, actual = assign(bp), assign(ours)  # the generator of a step starts where that of the last did
    for name in expected[1]:
        torch.testing.assert_close(actual[1][name], expected[1][name], rtol=0, atol=1e-10)
    for block, error in expected[0].errors.items():
        torch.testing.assert_close(actual[0].errors[block], error, rtol=0, atol=1e-10)


@pytest.mark.parametrize("rule", RULES)
def test_against_a_plain_derivation(plan, rule):
    p = parts(plan, f"algorithm={rule}", "architecture.widths=[12,9]", "architecture.activation=tanh")
    w = dict(p.network.named_parameters())
    with torch.no_grad():
        w["fc2.body.linear.weight"][:, ::2].neg_()  # the sign that counts is today's
    readings, _ = assign(p)
    x, y = p.dataset.batch(torch.arange(16))
    with torch.no_grad():
        h0 = x.flatten(1)
        h1 = (h0 @ w["fc1.body.linear.weight"].T + w["fc1.body.linear.bias"]).tanh()
        h2 = (h1 @ w["fc2.body.linear.weight"].T + w["fc2.body.linear.bias"]).tanh()
        d3 = ((h2 @ w["readout.weight"].T + w["readout.bias"]).softmax(1) - one_hot(y, 10)) / len(y)
        b3 = p.algorithm.get_buffer("readout") * torch.where(w["readout.weight"] > 0, 1.0, -1.0)
        b2 = p.algorithm.get_buffer("fc2") * torch.where(w["fc2.body.linear.weight"] > 0, 1.0, -1.0)
        d2 = (d3 @ b3) * (1 - h2**2)
        d1 = (d2 @ b2) * (1 - h1**2)
    for layer, gradient in {"fc1": d1.T @ h0, "fc2": d2.T @ h1, "readout": d3.T @ h2}.items():
        torch.testing.assert_close(weights(p.network)[layer].grad, gradient, rtol=0, atol=1e-12)
    for block, delta in {"fc1": d1, "fc2": d2, "readout": d3}.items():
        torch.testing.assert_close(readings.errors[block], delta, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("init", "spread"), [("default", lambda i, o: 1 / (3 * i)), ("xavier_uniform", lambda i, o: 2 / (i + o))]
)
def test_sizes_are_biotorchs(plan, rule, init, spread):
    """s = √(2/(fan_in + fan_out)) with Xavier's initialisation, 1/√(3 fan_in) with PyTorch's; R has it too."""
    p = parts(plan, f"algorithm={rule}", "algorithm.scale=2", f"architecture.init={init}")
    sizes = p.algorithm.get_buffer("fc2")  # 128 × 256
    assert (sizes > 0).all()
    rms = 2 * math.sqrt(spread(256, 128))
    assert sizes.square().mean().sqrt().item() == pytest.approx(rms, rel=0.02)
    if rule == "usf":
        assert sizes.min() == sizes.max()
    else:
        assert sizes.max().item() == pytest.approx(math.sqrt(3) * rms, rel=0.02)
        assert sizes.mean().item() == pytest.approx(math.sqrt(3) / 2 * rms, rel=0.02)


def test_only_brsf_draws_its_sizes_anew_from_the_steps_generator(plan):
    for rule, changes in (("usf", False), ("frsf", False), ("brsf", True)):
        p = parts(plan, f"algorithm={rule}")
        x, y = p.dataset.batch(torch.arange(16))
        seen = []
        for seed in (1, 2, 1):
            p.algorithm.assign(p.network, Batch(x, y, generator=torch.Generator().manual_seed(seed)))
            seen.append(p.algorithm.feedback(p.network)["fc2"].clone())
        assert torch.equal(seen[0], seen[2])
        assert torch.equal(seen[0], seen[1]) != changes
        assert torch.equal(seen[0].sign(), seen[1].sign())


@pytest.mark.parametrize("rule", RULES)
def test_errors_are_closer_to_backpropagations_than_those_of_random_feedback(plan, rule):
    """For uniform W of the same spread the cosine of W and B is √3/2 (usf) and 3/4 (sizes drawn independently)."""
    p, bp, fa = (parts(plan, f"algorithm={name}") for name in (rule, "bp", "fa"))
    w, b = (weights(p.network)["fc2"], p.algorithm.feedback(p.network)["fc2"])
    assert degrees(w, b) == pytest.approx(math.degrees(math.acos(math.sqrt(3) / 2 if rule == "usf" else 3 / 4)), abs=1)
    true, ours, random = (assign(q)[0].errors["fc1"] for q in (bp, p, fa))
    assert degrees(ours, true) < 60 < 75 < degrees(random, true)


def test_refuses_weights_without_a_sign(plan):
    p = parts(plan)
    with torch.no_grad():
        p.network.fc2.body.linear.weight.zero_()
    usf = type(parts(plan, "algorithm=usf").algorithm)
    with pytest.raises(ValueError, match="fc2 starts at zero"):
        usf(p.network, p.dataset.task, None, torch.Generator(), size="uniform", scale=1.0)
