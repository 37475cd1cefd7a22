"""Attacks against closed forms on linear classifiers, the box they must stay in, and gradients that hide the way."""

import copy
import math
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from creditlab.metrics.adversarial import ROWS, adversarial_accuracy, doubt, fgsm, pgd, square, transfer_accuracy
from tests.metrics.networks import RULES, TASK, forward, generator, mlp, rule

KEYS = dict(epsilon=0.1, step=0.25, steps=10, queries=50, samples=10**6)
TRANSFER = {k: v for k, v in KEYS.items() if k != "queries"}


def normalise(p):
    return (p - 0.4) / 0.3


def linear(classes=2, seed=1):
    """Softmax regression on the pixels of `TASK`."""
    network = nn.Sequential(OrderedDict(flatten=nn.Flatten(), readout=nn.Linear(12, classes))).double()
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=generator(seed), dtype=p.dtype))
    return network


def images(n=200, classes=2, low=0.3, high=0.7):
    """Pixels well within [0, 1], so that only epsilon bounds the attacks, and labels."""
    pixels = torch.rand(n, *TASK.input_shape, generator=generator(2), dtype=torch.float64)
    return low + (high - low) * pixels, torch.randint(classes, (n,), generator=generator(3))


def labelled_by(network, pixels, predict=forward):
    """Labels that the network gets right."""
    with torch.no_grad():
        return predict(network, normalise(pixels)).argmax(1)


def attack(network, predict, pixels, label, seed=0, **keys):
    return adversarial_accuracy(network, predict, pixels, normalise, label, generator(seed), **(KEYS | keys))


@pytest.mark.parametrize("epsilon", [0.01, 0.03, 0.1, 0.2])
def test_linear_classifier_of_two_classes_in_closed_form(epsilon):
    """It holds where its margin exceeds what the box can take from it: ε ‖w‖₁, the pixels being divided by 0.3."""
    network, (pixels, label) = linear(), images()
    weight = network[1].weight.detach()
    scores = network(normalise(pixels)).detach()
    margin = scores.gather(1, label[:, None])[:, 0] - scores.gather(1, 1 - label[:, None])[:, 0]
    reach = epsilon / 0.3 * (weight[0] - weight[1]).abs().sum()
    measured = attack(network, forward, pixels, label, epsilon=epsilon)
    assert measured["clean"] == (margin > 0).double().mean().item()
    assert measured["fgsm"] == (margin > reach).double().mean().item()
    assert measured["pgd"] == measured["fgsm"]
    assert measured["pgd"] <= measured["square"] <= measured["clean"]
    assert measured["masking"] == 0


def test_a_step_follows_the_gradient_of_the_cross_entropy():
    network, (pixels, label) = mlp(), images(2 * ROWS + 5, 3)

    def scores(p):
        return network(normalise(p))

    p = pixels.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(scores(p), label), p)
    assert torch.equal(fgsm(scores, pixels, label, 0.05), pixels + 0.05 * gradient.sign())
    loss = cross_entropy(scores(pixels), label, reduction="none")
    assert torch.allclose(torch.nn.functional.softplus(doubt(scores(pixels), label)), loss)


def test_a_sure_network_does_not_hide_its_gradient_in_rounding():
    """Scores times 1e4: the softmax is exactly 1 at the label, and the cross-entropy's gradient 0."""
    network, (pixels, _) = mlp(), images(50)
    label = labelled_by(network, pixels)
    measured = attack(network, forward, pixels, label)
    sure = attack(network, lambda n, x: 1e4 * n(x), pixels, label)
    p = pixels.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(1e4 * network(normalise(p)), label, reduction="sum"), p)
    assert (gradient.flatten(1) == 0).all(1).double().mean() > 0.5
    assert sure["fgsm"] == pytest.approx(measured["fgsm"], abs=0.1)
    assert sure["masking"] < 0.05


@settings(max_examples=15)
@given(st.floats(0, 1), st.floats(0.05, 3), st.integers(1, 5), st.integers(0, 10), st.sampled_from(["image", "vector"]))
def test_examples_stay_within_the_box(epsilon, step, steps, seed, kind):
    network, (pixels, label) = mlp(), images(20, 3, 0, 1)
    shape = pixels.shape
    if kind == "vector":
        pixels = pixels.flatten(1)

    def scores(p):
        return network(normalise(p.view(-1, *shape[1:])))

    for examples in (
        fgsm(scores, pixels, label, epsilon),
        pgd(scores, pixels, label, epsilon, step * epsilon, steps, generator(seed)),
        square(scores, pixels, label, epsilon, 20, generator(seed)),
    ):
        assert examples.shape == pixels.shape
        assert (examples - pixels).abs().max().item() <= epsilon + 1e-12
        assert examples.min().item() >= 0
        assert examples.max().item() <= 1


@pytest.mark.parametrize("name", RULES)
def test_no_room_no_loss(name):
    network, (pixels, _) = mlp(), images(40, 3)
    predict = rule(name, network).predict
    label = labelled_by(network, pixels, predict)
    label[:10] = (label[:10] + 1) % 3
    expected = {"clean": 0.75, "fgsm": 0.75, "pgd": 0.75, "square": 0.75, "masking": 0.0}
    assert attack(network, predict, pixels, label, epsilon=0.0) == expected


@pytest.mark.parametrize("name", RULES)
def test_attacks_on_real_rules(name):
    """PGD is at least as strong as one step but for chance, and what Square finds (a hundred queries for twelve pixels)
    the gradient does not hide.
    """
    network, (pixels, _) = mlp(), images(150, 3)
    predict = rule(name, network).predict
    label = labelled_by(network, pixels, predict)
    measured = attack(network, predict, pixels, label, epsilon=0.03, steps=20, step=0.1, queries=100)
    assert measured["clean"] == 1
    assert measured["pgd"] <= measured["fgsm"] + 0.02
    assert measured["fgsm"] < 0.95
    assert measured["square"] < 0.95
    assert measured["masking"] < 0.1


def rounded(network, x):
    """Scores to the third of a unit, whose gradient is zero wherever it exists."""
    return (3 * network(x)).round() / 3


def test_rounded_scores_hide_the_gradient_and_square_finds_the_way():
    network, (pixels, _) = linear(3), images(150, 3)
    label = labelled_by(network, pixels, rounded)
    measured = attack(network, rounded, pixels, label, queries=200)
    assert measured["clean"] == measured["fgsm"] == 1
    assert measured["pgd"] > 0.7  # what its random start leaves
    assert measured["square"] < 0.4
    assert measured["masking"] > 0.4
    shown = attack(network, forward, pixels, labelled_by(network, pixels), queries=200)
    assert shown["pgd"] < 0.4
    assert shown["masking"] < 0.02


def test_more_queries_are_a_stronger_attack():
    network, (pixels, _) = mlp(), images(150, 3)
    label = labelled_by(network, pixels)
    held = [attack(network, forward, pixels, label, epsilon=0.05, queries=q)["square"] for q in (1, 10, 100, 400)]
    assert held == sorted(held, reverse=True)
    assert held[-1] < held[0] - 0.2


def test_square_never_lets_the_doubt_fall():
    network, (pixels, _) = mlp(), images(60, 3)
    label = labelled_by(network, pixels)

    def scores(p):
        return network(normalise(p)).detach()

    stripes = square(scores, pixels, label, 0.02, 1, generator())
    assert torch.allclose((stripes - pixels).abs(), torch.full_like(pixels, 0.02))
    assert (stripes - pixels).sign().unique(dim=2).shape[2] == 1  # vertical
    after = square(scores, pixels, label, 0.02, 60, generator())
    assert (doubt(scores(after), label) >= doubt(scores(stripes), label) - 1e-12).all()
    assert torch.allclose((after - pixels).abs(), torch.full_like(pixels, 0.02))


def test_square_asks_no_further_once_a_sample_has_fallen():
    network, (pixels, _) = mlp(), images(60, 3)
    label = labelled_by(network, pixels)
    asked = []

    def scores(p):
        asked.append(p)
        return network(normalise(p))

    examples = square(scores, pixels, label, 0.05, 40, generator())
    assert len(asked) == 40
    fallen = scores(examples).argmax(1) != label
    assert 0 < fallen.double().mean() < 1
    assert [len(p) for p in asked[:40]] == sorted((len(p) for p in asked[:40]), reverse=True)
    assert len(asked[39]) <= 60 - fallen.sum() + 5  # those that the last query may have felled
    asked.clear()
    square(scores, pixels, label, 1.0, 500, generator())
    assert len(asked) < 500


def test_transfer_from_the_network_itself_is_the_attack_on_it():
    network, (pixels, label) = mlp(), images(150, 3)
    twin = copy.deepcopy(network)
    without_surrogate = attack(network, forward, pixels, label)
    measured = transfer_accuracy(network, forward, pixels, normalise, label, twin, generator(), **TRANSFER)
    assert {k: measured[k] for k in ("clean", "fgsm", "pgd")} == {
        k: without_surrogate[k] for k in ("clean", "fgsm", "pgd")
    }


def test_transfer_shows_a_hidden_gradient_and_a_surrogate_that_knows_nothing_does_not():
    network, (pixels, _) = linear(3), images(150, 3)
    label = labelled_by(network, pixels, rounded)
    measured = transfer_accuracy(network, rounded, pixels, normalise, label, network, generator(), **TRANSFER)
    assert measured["clean"] == 1
    assert max(measured["fgsm"], measured["pgd"]) < 0.3
    assert measured["masking"] > 0.5
    other = linear(3, seed=9)
    blind = transfer_accuracy(network, forward, pixels, normalise, label, other, generator(), **TRANSFER)
    assert 0 <= blind["masking"] < 0.05
    assert blind["fgsm"] > measured["fgsm"]


@pytest.mark.parametrize("name", RULES)
def test_one_stream_one_value_and_nothing_else_is_touched(name):
    network, (pixels, label) = mlp(), images(60, 3, 0, 1)
    predict = rule(name, network).predict
    before, given_pixels = copy.deepcopy(network.state_dict()), pixels.clone()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    measured = attack(network, predict, pixels, label)
    assert attack(network, predict, pixels, label) == measured
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(pixels, given_pixels)
    assert not pixels.requires_grad
    assert all(torch.equal(before[n], v) for n, v in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    capped = attack(network, predict, pixels, label, samples=20)
    assert capped == attack(network, predict, pixels[:20], label[:20])


@pytest.mark.parametrize("name", RULES)
def test_a_network_that_is_never_right_has_nothing_to_lose(name):
    network, (pixels, _) = mlp(), images(20, 3)
    predict = rule(name, network).predict
    label = (labelled_by(network, pixels, predict) + 1) % 3
    assert set(attack(network, predict, pixels, label).values()) == {0.0}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_network_has_no_accuracy_under_attack(name, value):
    network, (pixels, label) = mlp(), images(20, 3)
    with torch.no_grad():
        network[0].body[-1].weight[0, 0] = value
    predict = rule(name, network).predict
    assert all(math.isnan(v) for v in attack(network, predict, pixels, label).values())
    measured = transfer_accuracy(network, predict, pixels, normalise, label, mlp(), generator(), **TRANSFER)
    assert all(math.isnan(v) for v in measured.values())
