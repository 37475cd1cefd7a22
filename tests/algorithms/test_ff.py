"""Forward-forward against plain-tensor re-derivation, and its locality, labels, negatives and read-outs."""

import math
from collections import OrderedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import one_hot

from creditlab.algorithms.base import Batch
from creditlab.algorithms.ff import ROWS, ForwardForward
from creditlab.architectures.block import Block, readout, weights
from creditlab.task import Task

TASK = Task((2, 6), 3, -0.5, 2.0)
IMAGES = Task((2, 6, 6), 3, -0.5, 2.0)
KEYS = dict(
    goodness="sum",
    threshold=1.0,
    label="auto",
    label_scale=0.7,
    negatives="never_true",
    length_norm="rms",
    normalise_input=True,
    peer_norm=0.0,
    peer_momentum=0.9,
    straight_through=True,
    orthogonality=0.0,
    layers="simultaneous",
    readout="goodness",
    skip_first=True,
)


def mlp(widths=(7, 5), activation=nn.ReLU, dtype=torch.float64):
    torch.manual_seed(0)
    blocks, features = OrderedDict(), 12
    for i, width in enumerate(widths, 1):
        body = [nn.Flatten()] if i == 1 else []
        blocks[f"fc{i}"] = Block(nn.Sequential(*body, nn.Linear(features, width)), activation())
        features = width
    return nn.Sequential(blocks | {"readout": nn.Linear(features, 3)}).to(dtype)


def convolutional():
    torch.manual_seed(0)
    blocks = OrderedDict(
        conv1=Block(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        conv2=Block(nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(), nn.Flatten()),
        readout=nn.Linear(45, 3),
    )
    return nn.Sequential(blocks).double()


def ff(network, task=TASK, **keys):
    rule = ForwardForward(network, task, None, torch.Generator().manual_seed(1), **(KEYS | keys))
    return rule.to(next(network.parameters()).dtype)


def batch(n=9, task=TASK):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(n, *task.input_shape, generator=generator, dtype=torch.float64), torch.arange(n) % 3


def step(network, rule, x, y, seed=0, **keys):
    readings = rule.assign(network, Batch(x, y, generator=torch.Generator().manual_seed(seed), **keys))
    return readings, {n: None if p.grad is None else p.grad.clone() for n, p in network.named_parameters()}


def overlaid(x, y):
    """(batch, entries): the flattened input, a label in its first three entries."""
    return torch.cat([TASK.low + (TASK.high - TASK.low) * one_hot(y, 3), x.flatten(1)[:, 3:]], 1)


def divided(x, how):
    length = x.square().sum(1, keepdim=True).sqrt()
    return {"rms": x / (length / math.sqrt(x.shape[1]) + 1e-8), "unit": x / (length + 1e-8), "none": x}[how]


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"goodness": "mean", "threshold": 0.4},
        {"length_norm": "unit", "normalise_input": False},
        {"length_norm": "none"},
        {"peer_norm": 3.0, "peer_momentum": 0.6},
        {"peer_norm": 3.0, "straight_through": False},
        {"orthogonality": 0.5},
        {"negatives": "permuted", "threshold": 0.2},
    ],
    ids=lambda keys: "-".join(keys) or "defaults",
)
def test_gradients_are_those_of_the_formulas(keys):
    """Two steps, derivatives written out by hand."""
    k, network, (x, y) = KEYS | keys, mlp(), batch()
    rule = ff(network, **keys)
    running = {name: 0.0 for name in ("fc1", "fc2")}
    for seed in (0, 1):
        readings, actual = step(network, rule, x, y, seed)
        wrong = rule.wrong_labels(y, torch.Generator().manual_seed(seed))
        h = torch.cat([overlaid(x, y), overlaid(x, wrong)])
        total = 0.0
        for name in ("fc1", "fc2"):
            if name == "fc2" or k["normalise_input"]:
                h = divided(h, k["length_norm"])
            w, b = (p.detach() for p in network.get_submodule(name).parameters())
            units, inputs = len(w), h
            a = inputs @ w.T + b
            h = a.clamp(min=0)
            share = 1 / units if k["goodness"] == "mean" else 1.0
            goodness = share * h.square().sum(1)
            z = goodness - k["threshold"] * (1 if k["goodness"] == "mean" else units)
            true = torch.arange(18) < 9
            total += torch.where(true, (1 + torch.exp(-z)).log(), (1 + torch.exp(z)).log()).sum() / 18
            by_h = ((z.sigmoid() - true.double()) / 18)[:, None] * 2 * share * h
            if k["peer_norm"]:
                m = k["peer_momentum"] * running[name] + (1 - k["peer_momentum"]) * h[:9].mean(0)
                running[name] = m
                total += k["peer_norm"] * (m.mean() - m).square().mean()
                pull = k["peer_norm"] * 2 / units * (m - m.mean()) * (1 - k["peer_momentum"]) / 9
                by_h[:9] += pull
                torch.testing.assert_close(rule.state_dict()[f"activity_{name}"], m)
            by_a = by_h if k["straight_through"] else by_h * (a > 0)
            by_w = by_a.T @ inputs
            if k["orthogonality"]:
                norms = w.square().sum(1, keepdim=True).sqrt()
                rows = w / norms
                excess = rows @ rows.T - torch.eye(units)
                total += k["orthogonality"] * excess.square().sum() / units**2
                by_rows = k["orthogonality"] * 4 / units**2 * excess @ rows
                by_w = by_w + (by_rows - rows * (rows * by_rows).sum(1, keepdim=True)) / norms
            torch.testing.assert_close(
                actual[f"{name}.body.{1 if name == 'fc1' else 0}.weight"], by_w, rtol=1e-9, atol=1e-10
            )
            torch.testing.assert_close(
                actual[f"{name}.body.{1 if name == 'fc1' else 0}.bias"], by_a.sum(0), rtol=1e-9, atol=1e-10
            )
        torch.testing.assert_close(readings.loss, total)
        assert readings.scores is None
        assert readings.errors == {}


@given(st.integers(2, 12), st.integers(1, 60), st.integers(0, 2**31))
def test_no_negative_carries_its_true_label(classes, n, seed):
    network = mlp()
    rule = ff(network, Task((2, 6), classes, 0.0, 1.0))
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=generator)
    wrong = rule.wrong_labels(y, generator)
    assert not (wrong == y).any()
    assert wrong.min() >= 0
    assert wrong.max() < classes


def test_every_wrong_label_is_as_likely():
    rule = ff(mlp(), Task((2, 6), 4, 0.0, 1.0))
    y = torch.arange(4).repeat(6000)
    counts = torch.stack([y, rule.wrong_labels(y, torch.Generator().manual_seed(0))]).unique(dim=1, return_counts=True)[
        1
    ]
    assert len(counts) == 12
    assert ((counts - 2000).square() / 2000).sum() < 31.3  # χ², 11 degrees of freedom or fewer, p = 0.001


def test_permuted_negatives_are_the_same_labels_and_true_one_time_in_classes():
    rule = ff(mlp(), negatives="permuted")
    y = torch.arange(6000) % 3
    wrong = rule.wrong_labels(y, torch.Generator().manual_seed(0))
    assert torch.equal(wrong.sort().values, y.sort().values)
    assert (wrong == y).double().mean().item() == pytest.approx(1 / 3, abs=0.02)


def test_hard_negatives_are_the_wrong_labels_that_the_read_out_finds_likely():
    rule = ff(mlp(), Task((2, 6), 4, 0.0, 1.0), negatives="hard")
    y = torch.full((20_000,), 2)
    p = torch.tensor([0.1, 0.3, 0.5, 0.1])  # the true label is the likeliest, and sure of itself in the second half
    scores = p.log().repeat(len(y), 1)
    scores[10_000:, 2] = 1e4
    for half in rule.wrong_labels(y, torch.Generator().manual_seed(0), scores).split(10_000):
        shares = torch.bincount(half, minlength=4) / len(half)
        torch.testing.assert_close(shares, torch.tensor([0.2, 0.6, 0.0, 0.2]), rtol=0, atol=0.02)
    rule.wrong_labels(y, torch.Generator(), torch.full_like(scores, torch.nan))  # a diverged run ends as one


def test_hard_negatives_train_the_read_out_as_the_head_does():
    network, (x, y) = mlp(), batch()
    hard = step(network, ff(network, negatives="hard"), x, y)[1]
    head = step(network, ff(network, readout="head"), x, y)[1]
    torch.testing.assert_close(hard["readout.weight"], head["readout.weight"])


@pytest.mark.parametrize("head", ["goodness", "head"])
def test_no_gradient_crosses_a_block(head):
    network, (x, y) = mlp((7, 6, 5)), batch()
    rule = ff(network, readout=head, orthogonality=0.3)
    before = step(network, rule, x, y)[1]
    with torch.no_grad():
        network.fc2.body[0].weight.mul_(-3)
        network.readout.weight.mul_(-2)
    after = step(network, rule, x, y)[1]
    assert torch.equal(before["fc1.body.1.weight"], after["fc1.body.1.weight"])
    assert torch.equal(before["fc1.body.1.bias"], after["fc1.body.1.bias"])
    assert not torch.equal(before["fc2.body.0.weight"], after["fc2.body.0.weight"])
    assert not torch.equal(before["fc3.body.0.weight"], after["fc3.body.0.weight"])
    inputs = []
    network.fc2.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    network.fc2.body.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    step(network, rule, x, y)
    assert inputs
    assert not any(i.requires_grad for i in inputs)


@given(st.floats(0.1, 100))
def test_a_block_cannot_read_the_goodness_of_the_one_below(scale):
    """ReLU units scaled as one: more goodness, the same direction."""
    network, (x, y) = mlp(), batch()
    rule = ff(network)
    before = step(network, rule, x, y)[1]
    with torch.no_grad():
        for p in network.fc1.parameters():
            p.mul_(scale)
    after = step(network, rule, x, y)[1]
    torch.testing.assert_close(before["fc2.body.0.weight"], after["fc2.body.0.weight"], rtol=1e-4, atol=1e-9)


def test_straight_through_reaches_silent_units():
    for straight_through in (True, False):
        network, (x, y) = mlp(), batch()
        with torch.no_grad():
            network.fc1.body[1].bias[2] = -100.0
        rule = ff(network, peer_norm=1.0, straight_through=straight_through)
        pull = step(network, rule, x, y)[1]["fc1.body.1.bias"][2]
        assert (pull < 0) == straight_through  # descent raises the unit's bias
        assert (pull == 0) != straight_through


@pytest.mark.parametrize(("network", "task"), [(mlp((7, 6, 5)), TASK), (convolutional(), IMAGES)], ids=["mlp", "conv"])
def test_goodness_reads_out_without_a_read_out_layer(network, task):
    x, y = batch(task=task)
    _, actual = step(network, ff(network, task), x, y)
    assert actual["readout.weight"] is None
    assert actual["readout.bias"] is None
    assert all(g is not None for n, g in actual.items() if not n.startswith("readout"))


def test_the_head_learns_by_cross_entropy_under_the_neutral_label():
    network, (x, y) = mlp(), batch()
    plain = step(network, ff(network), x, y)
    readings, actual = step(network, ff(network, readout="head"), x, y, probe=True)
    assert all(torch.equal(plain[1][n], actual[n]) for n in actual if not n.startswith("readout"))
    h = x.flatten(1).clone()
    h[:, :3] = TASK.low + (TASK.high - TASK.low) / 3
    for body in (network.fc1.body[1], network.fc2.body[0]):
        h = (divided(h, "rms") @ body.weight.T + body.bias).clamp(min=0)
    features = divided(h, "rms").detach()
    scores = (features @ network.readout.weight.T + network.readout.bias).detach()
    delta = (scores.softmax(1) - one_hot(y, 3)) / 9
    torch.testing.assert_close(actual["readout.weight"], delta.T @ features)
    torch.testing.assert_close(actual["readout.bias"], delta.sum(0))
    torch.testing.assert_close(readings.errors["readout"], delta)
    torch.testing.assert_close(readings.scores, scores)
    torch.testing.assert_close(readings.loss, plain[0].loss - scores.log_softmax(1)[torch.arange(9), y].mean())
    torch.testing.assert_close(ff(network, readout="head").predict(network, x), scores)


@pytest.mark.parametrize("keys", [{}, {"skip_first": False}, {"goodness": "mean", "length_norm": "unit"}], ids=str)
@pytest.mark.parametrize("widths", [(7,), (7, 6, 5)])
def test_scores_are_the_goodness_under_each_label(widths, keys):
    network = mlp(widths)
    rule = ff(network, **keys)
    x, _ = batch(ROWS // 3 + 50)  # more than one part
    k, expected = KEYS | keys, torch.zeros(len(x), 3, dtype=torch.float64)
    for label in range(3):
        h = overlaid(x, torch.full((len(x),), label))
        for i in range(len(widths)):
            linear = network[i].body[-1]
            h = (divided(h, k["length_norm"]) @ linear.weight.T + linear.bias).clamp(min=0)
            if i > 0 or not k["skip_first"] or len(widths) == 1:
                expected[:, label] += h.square().sum(1) / (h.shape[1] if k["goodness"] == "mean" else 1)
    torch.testing.assert_close(rule.predict(network, x), expected)


@pytest.mark.parametrize(("label", "positions"), [("auto", 36), ("pattern", 36), ("overlay", 8)])
def test_which_positions_of_a_feature_map_know_the_label(label, positions):
    """A pattern reaches all; an overlay on three entries of the first row a 3 × 3 kernel at 2 × 4 positions."""
    network = convolutional()
    rule = ff(network, IMAGES, label=label, normalise_input=False)
    seen = []
    network.conv1.body.register_forward_hook(lambda *call: seen.append(call[2].detach()))
    step(network, rule, torch.zeros(3, 2, 6, 6, dtype=torch.float64), torch.arange(3))
    positives = seen[0][:3]
    differs = (positives[0] != positives[1]).any(0) | (positives[1] != positives[2]).any(0)
    assert differs.sum() == positions


def test_patterns_are_signs_drawn_from_the_feedback_stream():
    network = convolutional()
    one, same = ff(network, IMAGES).get_buffer("patterns"), ff(network, IMAGES).get_buffer("patterns")
    assert torch.equal(one, same)
    assert one.shape == (3, 2, 6, 6)
    assert set(one.unique().tolist()) == {-1.0, 1.0}
    assert not any(torch.equal(one[i], one[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    other = ForwardForward(network, IMAGES, None, torch.Generator().manual_seed(2), **KEYS).get_buffer("patterns")
    assert not torch.equal(one, other)


@pytest.mark.parametrize("label", ["overlay", "pattern"])
def test_the_neutral_label_is_the_mean_of_all_labels(label):
    """Seen through a network that hands on its input."""
    network = mlp((12,), nn.Identity)
    with torch.no_grad():
        network.fc1.body[1].weight.copy_(torch.eye(12))
        network.fc1.body[1].bias.zero_()
    rule = ff(network, label=label, normalise_input=False)
    seen = []
    network.fc1.body.register_forward_hook(lambda *call: seen.append(call[2].detach()))
    x, _ = batch(1)
    rule.predict(network, x)
    torch.testing.assert_close(rule.represent(network, x)["fc1"][0], seen[0].mean(0))
    assert (seen[0][0] != seen[0][1]).sum() == (
        2 if label == "overlay" else (rule.patterns[0] != rule.patterns[1]).sum()
    )
    torch.testing.assert_close(batch(1)[0], x, rtol=0, atol=0)  # the caller's batch is not written to


@pytest.mark.parametrize(("progress", "block"), [(0.0, 1), (0.3, 1), (0.34, 2), (0.66, 2), (0.67, 3), (0.999, 3)])
def test_sequential_layers_learn_one_after_another(progress, block):
    network, (x, y) = mlp((7, 6, 5)), batch()
    readings, actual = step(
        network, ff(network, layers="sequential", peer_norm=0.1), x, y, progress=progress, probe=True
    )
    assert {n.split(".")[0] for n, g in actual.items() if g is not None} == {f"fc{block}"}
    assert list(readings.errors) == [f"fc{block}"]
    together = step(network, ff(network, peer_norm=0.1), x, y)[1]
    name = next(n for n in actual if n.startswith(f"fc{block}") and n.endswith("weight"))
    assert torch.equal(actual[name], together[name])


def test_error_signals_are_those_of_positives_then_negatives():
    network, (x, y) = mlp(), batch()
    rule = ff(network, threshold=0.3)
    readings, actual = step(network, rule, x, y, probe=True)
    wrong = rule.wrong_labels(y, torch.Generator().manual_seed(0))
    inputs = divided(torch.cat([overlaid(x, y), overlaid(x, wrong)]), "rms")
    delta = readings.errors["fc1"]
    torch.testing.assert_close(delta.T @ inputs, actual["fc1.body.1.weight"])
    assert (delta[:9] <= 0).all()  # descent adds to what is active for the true label
    assert (delta[9:] >= 0).all()
    assert delta[:9].any()
    assert delta[9:].any()


@pytest.mark.parametrize("goodness", ["sum", "mean"])
def test_a_channel_is_one_unit_whose_square_is_the_mean_over_positions(goodness):
    network, (x, y) = convolutional(), batch(task=IMAGES)
    rule = ff(network, IMAGES, goodness=goodness, threshold=0.3, length_norm="none", layers="sequential")
    readings, _ = step(network, rule, x, y)
    wrong = rule.wrong_labels(y, torch.Generator().manual_seed(0))
    stacked = torch.cat([x, x]) + 0.7 * rule.get_buffer("patterns")[torch.cat([y, wrong])]
    squares = network.conv1.body(stacked).clamp(min=0).square().mean((2, 3)).detach()  # (18, 4)
    z = squares.sum(1) - 4 * 0.3 if goodness == "sum" else squares.mean(1) - 0.3
    sign = torch.tensor([1.0] * 9 + [-1.0] * 9)
    torch.testing.assert_close(readings.loss, (1 + (-sign * z).exp()).log().mean())


def test_peers_of_a_convolution_are_its_channels():
    network, (x, y) = convolutional(), batch(task=IMAGES)
    rule = ff(network, IMAGES, peer_norm=0.1)
    seen = []
    network.conv1.body.register_forward_hook(lambda *call: seen.append(call[2].detach()))
    step(network, rule, x, y)
    expected = 0.1 * seen[0][:9].clamp(min=0).mean((0, 2, 3))
    torch.testing.assert_close(rule.get_buffer("activity_conv1"), expected)
    assert rule.get_buffer("activity_conv2").shape == (5,)


def test_goodness_is_summed_in_more_than_bfloat16():
    """bfloat16 resolves sums of squares between 1024 and 2048 to 8, which as a logit is everything or nothing."""
    network = mlp((1000,), dtype=torch.float32)
    x, _ = batch()
    rule = ff(network, threshold=1.0)
    with torch.no_grad():
        network.fc1.body[1].weight.mul_(3)
        with torch.autocast("cpu", torch.bfloat16):
            scores = rule.predict(network, x.float())
    assert scores.dtype == torch.float32
    assert scores.median() > 1024
    assert (scores % 8 != 0).double().mean() > 0.9


def test_refuses_what_it_cannot_train():
    with pytest.raises(ValueError, match=r"input of shape \(2, 6\) has 12 for 13 classes; use label=pattern"):
        ff(mlp(), Task((2, 6), 13, 0.0, 1.0))
    ff(mlp(), Task((2, 6), 13, 0.0, 1.0), label="pattern")
    with pytest.raises(ValueError, match="trains hidden blocks, and the network has none"):
        ff(nn.Sequential(OrderedDict(readout=nn.Linear(12, 3))))


def test_the_head_and_the_blocks_are_the_networks_own():
    network = mlp()
    rule = ff(network, readout="head")
    assert list(rule.parameters()) == []
    assert readout(network) is network.readout
    assert list(weights(network)) == ["fc1", "fc2", "readout"]
