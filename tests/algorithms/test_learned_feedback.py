"""Kolen-Pollack, product feedback and weight mirrors: what their feedback becomes, and what it is taught by."""

import math

import pytest
import torch
from torch.nn.functional import one_hot

from creditlab.algorithms.base import Batch
from creditlab.algorithms.fa import registered, teaching
from creditlab.architectures.block import weights
from tests.algorithms.test_feedback import ON, assign, degrees, parts
from tests.common import options

SGD = ["optimiser=sgd", "optimiser.lr=0.5", "optimiser.momentum=0"]
SMALL_MLP = "architecture.widths=[12,9]"


def steps(p, n, batch=64):
    """`n` steps on random batches."""
    for step in range(n):
        generator = torch.Generator().manual_seed(step)
        x, y = p.dataset.batch(torch.randint(len(p.dataset.train_y), (batch,), generator=generator))
        p.algorithm.assign(p.network, Batch(x, y, generator=generator))
        p.optimiser.step()


def feedback(p):
    return p.algorithm.feedback(p.network)


def angles(p):
    return {layer: degrees(b, weights(p.network)[layer]) for layer, b in feedback(p).items()}


@pytest.mark.parametrize("rule", ["kp", "pfa", "wm"])
@pytest.mark.parametrize("architecture", ["mlp", "convnet", "resnet18"])
def test_the_error_goes_through_the_feedback_that_it_shows(plan, architecture, rule):
    """Feedback alignment with those B gives the same gradients, but for decay."""
    ours = parts(plan, *ON[architecture], f"algorithm={rule}", *(["algorithm.decay=0"] if rule != "wm" else []))
    readings, actual = assign(ours)
    fa = parts(plan, *ON[architecture], "algorithm=fa")
    for layer, b in ours.algorithm.feedback(ours.network).items():
        assert b.shape == weights(ours.network)[layer].shape
        fa.algorithm.get_buffer(registered(layer)).copy_(b)
    expected_readings, expected = assign(fa)
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=0, atol=1e-12)
    for block, error in expected_readings.errors.items():
        torch.testing.assert_close(readings.errors[block], error, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rule", ["kp", "pfa"])
def test_what_feedback_and_weights_differ_by_shrinks_as_a_power_of_lambda(plan, rule):
    """W − B, and with a product B Bᵀ W − B R, which B Bᵀ ≠ I leaves at an angle to W."""
    p = parts(plan, f"algorithm={rule}", "algorithm.decay=0.04", SMALL_MLP, *SGD)

    def differences():
        actual = {}
        for layer, f in feedback(p).items():
            w = teaching(p.network)[layer].detach()
            b = p.algorithm.get_buffer(f"fixed_{layer}") if rule == "pfa" else torch.eye(len(w), dtype=w.dtype)
            actual[layer] = b @ b.T @ w - f
        return actual

    before = differences()
    steps(p, 40)
    for layer, now in differences().items():
        torch.testing.assert_close(now, (1 - 0.5 * 0.04) ** 40 * before[layer], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", ["kp", "pfa", "wm"])
def test_scale_multiplies_the_feedback_at_the_start(plan, rule):
    once, thrice = (feedback(parts(plan, f"algorithm={rule}", f"algorithm.scale={s}", SMALL_MLP)) for s in (1, 3))
    for layer, b in once.items():
        torch.testing.assert_close(thrice[layer], 3 * b)


@pytest.mark.parametrize("rule", ["kp", "pfa"])
def test_feedback_is_in_the_optimiser_group_of_its_weight(plan, rule):
    p = parts(plan, f"algorithm={rule}", SMALL_MLP)
    roles = {q: group["role"] for group in p.optimiser.param_groups for q in group["params"]}
    assert roles[p.algorithm.get_parameter("fc2")] == roles[teaching(p.network)["fc2"]] == "hidden"
    assert roles[p.algorithm.get_parameter("readout")] == roles[teaching(p.network)["readout"]] == "last"


@pytest.mark.parametrize("optimiser", options("optimiser"))
def test_without_decay_of_its_own_every_optimiser_changes_weights_and_feedback_alike(plan, optimiser):
    """Roles too: Muon and its kin map both or neither. `last` is where they differ most."""
    last = [] if optimiser in ("sgd", "adamw") else ["optimiser.last=true"]
    p = parts(plan, "algorithm=kp", "algorithm.decay=0", SMALL_MLP, f"optimiser={optimiser}", *last)
    before = {n: (teaching(p.network)[n].detach().clone(), b.clone()) for n, b in feedback(p).items()}
    steps(p, 5)
    for layer, b in feedback(p).items():
        w0, b0 = before[layer]
        change = teaching(p.network)[layer].detach() - w0
        assert change.norm() > 0
        torch.testing.assert_close(b - b0, change, rtol=1e-6, atol=1e-10)


def test_decoupled_decay_keeps_the_law_for_adaptive_steps(plan):
    p = parts(plan, "algorithm=kp", "algorithm.decay=0", SMALL_MLP, "optimiser.lr=0.01", "optimiser.weight_decay=2")
    before = {n: teaching(p.network)[n].detach() - b for n, b in feedback(p).items()}
    steps(p, 30)
    for layer, b in feedback(p).items():
        torch.testing.assert_close(
            teaching(p.network)[layer].detach() - b, 0.98**30 * before[layer], rtol=1e-6, atol=1e-9
        )


@pytest.mark.parametrize("rule", ["kp", "pfa"])
def test_the_gradients_of_weights_and_feedback_are_those_of_the_formulas(plan, rule):
    p = parts(plan, f"algorithm={rule}", "algorithm.decay=0.3", SMALL_MLP)
    assign(p)
    x, y = p.dataset.batch(torch.arange(16))
    w, learned = dict(p.network.named_parameters()), dict(p.algorithm.named_parameters())
    with torch.no_grad():
        h0 = x.flatten(1)
        a1 = h0 @ w["fc1.body.linear.weight"].T + w["fc1.body.linear.bias"]
        a2 = a1.clamp(min=0) @ w["fc2.body.linear.weight"].T + w["fc2.body.linear.bias"]
        h1, h2 = a1.clamp(min=0), a2.clamp(min=0)
        d3 = ((h2 @ w["readout.weight"].T + w["readout.bias"]).softmax(1) - one_hot(y, 10)) / len(y)
        if rule == "kp":
            sent = {"readout": learned["readout"], "fc2": learned["fc2"]}
        else:
            fixed = {layer: p.algorithm.get_buffer(f"fixed_{layer}") for layer in ("readout", "fc2")}
            sent = {layer: fixed[layer] @ learned[layer] for layer in fixed}
            assert fixed["fc2"].shape == (9, 90)
        d2 = (d3 @ sent["readout"]) * (a2 > 0)
        d1 = (d2 @ sent["fc2"]) * (a1 > 0)
        expected = {
            "fc1": d1.T @ h0,
            "fc2": d2.T @ h1 + 0.3 * weights(p.network)["fc2"],
            "readout": d3.T @ h2 + 0.3 * w["readout.weight"],
        }
        if rule == "kp":
            own_expected = {"fc2": d2.T @ h1, "readout": d3.T @ h2}
        else:
            own_expected = {"fc2": (d2 @ fixed["fc2"]).T @ h1, "readout": (d3 @ fixed["readout"]).T @ h2}
    for layer, gradient in expected.items():
        torch.testing.assert_close(weights(p.network)[layer].grad, gradient, rtol=0, atol=1e-12)
    for layer, gradient in own_expected.items():
        torch.testing.assert_close(learned[layer].grad, gradient + 0.3 * learned[layer].detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("ratio", "tolerance"), [(10, 0.35), (1000, 0.04)])
def test_the_fixed_factor_of_product_feedback_is_nearly_orthogonal(plan, ratio, tolerance):
    """B Bᵀ → I, so that the product changes as W does, at a spread of the start that is W's."""
    p = parts(plan, "algorithm=pfa", f"algorithm.expand_ratio={ratio}", SMALL_MLP)
    b = p.algorithm.get_buffer("fixed_fc2")
    assert b.shape == (9, 9 * ratio)
    assert (b @ b.T - torch.eye(9)).abs().max() < tolerance
    product, w = p.algorithm.feedback(p.network)["fc2"], weights(p.network)["fc2"]
    assert product.norm().item() == pytest.approx(w.norm().item(), rel=0.25)
    assert abs(degrees(product, w) - 90) < 4 * 57.3 / math.sqrt(w.numel())


@pytest.mark.parametrize(
    ("rule", "keys", "low", "high"),
    [
        ("kp", [], 0, 2),
        ("pfa", ["algorithm.expand_ratio=10"], 10, 26),
        ("pfa", ["algorithm.expand_ratio=100"], 3, 9),
    ],
)
@pytest.mark.parametrize("architecture", [["architecture.widths=[32,16]"], ON["convnet"]], ids=["mlp", "convnet"])
def test_learned_feedback_comes_to_agree_with_the_weights(plan, architecture, rule, keys, low, high):
    """To 0°, or with a product to arctan(expand_ratio^−½), 17.5° and 5.7°: for B Bᵀ ≠ I."""
    p = parts(plan, f"algorithm={rule}", *keys, "algorithm.decay=0.05", *architecture, *SGD, double=False)
    assert all(angle > 55 for angle in angles(p).values())
    steps(p, 200, batch=32)
    assert all(low <= angle < high for angle in angles(p).values()), angles(p)


@pytest.mark.parametrize(("activation", "slope"), [("relu", 0.5), ("identity", 1.0)])
@pytest.mark.parametrize("architecture", [["architecture.widths=[32,16]"], ON["convnet"]], ids=["mlp", "convnet"])
def test_the_mirror_shows_the_weights_at_rest(plan, architecture, activation, slope):
    """B → (r/d)⟨φ'⟩ W for a hidden layer, (r/d) W for the read-out, to the accuracy that its samples allow."""
    keys = ["algorithm.rate=0.05", "algorithm.decay=0.1", "algorithm.samples=4096"]
    p = parts(plan, "algorithm=wm", *architecture, f"architecture.activation={activation}", *keys, double=False)
    x, y = p.dataset.batch(torch.arange(16))
    for number in range(80):
        p.algorithm.assign(p.network, Batch(x, y, generator=torch.Generator().manual_seed(number)))
    for layer, b in feedback(p).items():
        w = weights(p.network)[layer].detach()
        expected = 0.5 * w * (1.0 if layer == "readout" else slope)
        assert (b - expected).norm() < 0.1 * expected.norm(), layer


def test_the_mirror_follows_while_the_network_learns(plan):
    p = parts(plan, "algorithm=wm", "architecture.widths=[32,16]", *SGD, double=False)
    assert all(angle > 55 for angle in angles(p).values())
    steps(p, 800, batch=32)
    assert all(angle < 12 for angle in angles(p).values()), angles(p)


def test_a_mirror_step_is_that_of_the_formula(plan):
    p = parts(plan, "algorithm=wm", SMALL_MLP, "algorithm.samples=7", "algorithm.decay=0.1")
    before = {layer: b.clone() for layer, b in feedback(p).items()}
    x, y = p.dataset.batch(torch.arange(16))
    p.algorithm.assign(p.network, Batch(x, y, generator=torch.Generator().manual_seed(3)))
    generator = torch.Generator().manual_seed(3)
    for layer in ("fc2", "readout"):
        w = weights(p.network)[layer].detach()
        noise = torch.empty(7, w.shape[1], dtype=torch.float64).normal_(generator=generator)
        output = noise @ w.T if layer == "readout" else (noise @ w.T).clamp(min=0)
        expected = 0.9 * before[layer] + 0.01 * torch.einsum("so,si->oi", output, noise) / 7
        torch.testing.assert_close(feedback(p)[layer], expected, rtol=0, atol=1e-12)
