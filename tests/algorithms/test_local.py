"""Local losses held to numpy, to plain-tensor derivations, and to the teachers that they are added to."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import one_hot

from creditlab.algorithms.local import Head, Local, similarities
from creditlab.architectures.block import weights
from creditlab.task import Task
from tests.algorithms.test_feedback import ON, assign, parts

SMALL_MLP = "architecture.widths=[12,9]"


def test_similarities_are_correlations():
    x = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(similarities(x).numpy(), np.corrcoef(x.numpy()), atol=1e-12)


def test_cross_entropy_against_a_plain_derivation(plan):
    p = parts(plan, "algorithm=local", SMALL_MLP, "architecture.activation=tanh", "algorithm.weight=0.7")
    readings, actual = assign(p)
    x, y = p.dataset.batch(torch.arange(16))
    h, expected, loss = x.flatten(1), {}, 0.0
    with torch.no_grad():
        for name, linear in (("fc1", p.network.fc1.body.linear), ("fc2", p.network.fc2.body.linear)):
            inputs = h
            h = (inputs @ linear.weight.T + linear.bias).tanh()
            head = p.algorithm.heads.get_submodule(name).classify
            scores = (h @ head.weight.T + head.bias).log_softmax(1)
            error = 0.7 * (scores.exp() - one_hot(y, 10)) / 16
            delta = (error @ head.weight) * (1 - h**2)
            expected[f"{name}.body.linear.weight"] = delta.T @ inputs
            torch.testing.assert_close(readings.errors[name], delta, rtol=0, atol=1e-12)
            torch.testing.assert_close(head.weight.grad, error.T @ h, rtol=0, atol=1e-12)
            loss -= 0.7 * scores[torch.arange(16), y].mean()
        scores = (h @ p.network.readout.weight.T + p.network.readout.bias).log_softmax(1)
        expected["readout.weight"] = ((scores.exp() - one_hot(y, 10)) / 16).T @ h
        loss -= scores[torch.arange(16), y].mean()
    for name, gradient in expected.items():
        torch.testing.assert_close(actual[name], gradient, rtol=0, atol=1e-12)
    torch.testing.assert_close(readings.loss, loss)


@pytest.mark.parametrize("similarity", [0.99, 1.0])
def test_predsim_is_numpys(plan, similarity):
    """The loss from numpy's correlations; its slope along random directions by differences of that."""
    p = parts(plan, "algorithm=local", "architecture.widths=[12]", f"algorithm.similarity={similarity}")
    x, y = p.dataset.batch(torch.arange(16))
    linear, head = p.network.fc1.body.linear, p.algorithm.heads.fc1

    def loss(w, u):
        h = np.maximum(x.flatten(1).numpy() @ w.T + linear.bias.detach().numpy(), 0)
        total = similarity * np.mean((np.corrcoef(h @ u.T) - np.corrcoef(np.eye(10)[y])) ** 2)
        if similarity < 1:
            scores = h @ head.classify.weight.detach().numpy().T + head.classify.bias.detach().numpy()
            logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
            total -= (1 - similarity) * logs[np.arange(16), y].mean()
        return total

    _, actual = assign(p)
    w, u = linear.weight.detach().numpy().copy(), head.compare.weight.detach().numpy().copy()
    assert hasattr(head, "classify") == (similarity < 1)
    rng = np.random.default_rng(0)
    for _ in range(5):
        dw, du = rng.normal(size=w.shape), rng.normal(size=u.shape)
        slope = (loss(w + 1e-6 * dw, u + 1e-6 * du) - loss(w - 1e-6 * dw, u - 1e-6 * du)) / 2e-6
        ours = (actual["fc1.body.linear.weight"].numpy() * dw).sum() + (head.compare.weight.grad.numpy() * du).sum()
        assert ours == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("similarity", [0.0, 0.99])
def test_alone_no_gradient_crosses_a_block(plan, similarity):
    p = parts(plan, "algorithm=local", SMALL_MLP, f"algorithm.similarity={similarity}")
    before = assign(p)[1]
    with torch.no_grad():
        p.network.fc2.body.linear.weight.mul_(-3)
        p.network.readout.weight.mul_(-2)
        p.algorithm.heads.fc2.classify.weight.mul_(-2)
    after = assign(p)[1]
    assert torch.equal(before["fc1.body.linear.weight"], after["fc1.body.linear.weight"])
    assert not torch.equal(before["fc2.body.linear.weight"], after["fc2.body.linear.weight"])
    assert not torch.equal(before["readout.weight"], after["readout.weight"])


@pytest.mark.parametrize("architecture", ON)
def test_beside_backpropagation_gradients_add_up(plan, architecture):
    """The teacher's, and the weight times those of the losses alone; running statistics are updated once."""
    bp, alone = parts(plan, *ON[architecture]), parts(plan, *ON[architecture], "algorithm=local")
    both = parts(plan, *ON[architecture], "algorithm=local", "algorithm.teacher=bp", "algorithm.weight=0.3")
    (taught, expected), (local, added), (readings, actual) = assign(bp), assign(alone), assign(both)
    for name in actual:
        share = 0.0 if name.startswith("readout") else 0.3
        torch.testing.assert_close(actual[name], expected[name] + share * added[name], rtol=0, atol=1e-12)
    for block in readings.errors:
        share = 0.0 if block == "readout" else 0.3
        error = taught.errors[block] + share * local.errors[block]
        torch.testing.assert_close(readings.errors[block], error, rtol=0, atol=1e-12)
    for a, b in zip(both.network.state_dict().values(), bp.network.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("architecture", ["mlp", "cnn3"])
def test_beside_feedback_alignment_gradients_add_up(plan, architecture):
    """Where a block is one layer, all of the local derivative is true. B is that of `fa` with the same seed."""
    fa, alone = parts(plan, *ON[architecture], "algorithm=fa"), parts(plan, *ON[architecture], "algorithm=local")
    both = parts(plan, *ON[architecture], "algorithm=local", "algorithm.teacher=fa", "algorithm.weight=0.3")
    for layer, b in fa.algorithm.feedback(fa.network).items():
        assert torch.equal(both.algorithm.feedback(both.network)[layer], b)
    both.algorithm.heads.load_state_dict(alone.algorithm.heads.state_dict())
    expected, added, actual = (assign(p)[1] for p in (fa, alone, both))
    for name in actual:
        share = 0.0 if name.startswith("readout") else 0.3
        torch.testing.assert_close(actual[name], expected[name] + share * added[name], rtol=0, atol=1e-12)
    assert {layer: b.shape for layer, b in both.algorithm.feedback(both.network).items()} == {
        layer: w.shape for layer, w in list(weights(both.network).items())[1:]
    }


@pytest.mark.parametrize("architecture", ["mlp", "resnet18"])
@pytest.mark.parametrize("teacher", ["bp", "fa"])
def test_without_weight_it_is_its_teacher(plan, architecture, teacher):
    plain = assign(parts(plan, *ON[architecture], f"algorithm={teacher}"))[1]
    p = parts(plan, *ON[architecture], "algorithm=local", f"algorithm.teacher={teacher}", "algorithm.weight=0")
    actual = assign(p)[1]
    for name, gradient in plain.items():
        torch.testing.assert_close(actual[name], gradient, rtol=0, atol=1e-12)


def test_a_head_sees_means_over_parts_of_a_feature_map():
    h = torch.randn(6, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(6) % 3
    head = Head(h, 3, features=99, similarity=0.0)
    assert head.classify.weight.shape == (3, 80)
    means = h.unflatten(2, (4, 2)).unflatten(4, (4, 2)).mean((3, 5))
    expected = nn.functional.cross_entropy(head.classify(means.flatten(1)), y)
    torch.testing.assert_close(head(h, y), expected)
    assert Head(h, 3, features=320, similarity=0.0).classify.in_features == 320
    assert Head(h, 3, features=2, similarity=0.0).classify.in_features == 5  # no fewer than a number a channel


def test_a_sequence_of_tokens_is_a_map_of_one_row():
    h = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(6) % 3
    head = Head(h, 3, features=20, similarity=0.0)
    means = h.unflatten(2, (4, 2)).mean(3)
    expected = nn.functional.cross_entropy(head.classify(means.flatten(1)), y)
    torch.testing.assert_close(head(h, y), expected)
    head = Head(h, 3, features=40, similarity=1.0)
    spreads = np.std(head.compare(h[:, :, None])[:, :, 0].detach().numpy(), axis=2, ddof=1)
    expected = np.mean((np.corrcoef(spreads) - np.corrcoef(np.eye(3)[y])) ** 2)
    assert head(h, y).item() == pytest.approx(expected, rel=1e-4)


def test_similarity_of_feature_maps_is_that_of_spreads_over_positions():
    h = torch.randn(6, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(6) % 3
    head = Head(h, 3, features=99, similarity=1.0)
    spreads = np.std(head.compare(h).detach().numpy(), axis=(2, 3), ddof=1)
    expected = np.mean((np.corrcoef(spreads) - np.corrcoef(np.eye(3)[y])) ** 2)
    assert head(h, y).item() == pytest.approx(expected, rel=1e-4)


def test_refuses_a_network_without_hidden_blocks():
    network = nn.Sequential(OrderedDict(readout=nn.Linear(4, 3)))
    with pytest.raises(ValueError, match="the network has none"):
        Local(network, Task((4,), 3, 0.0, 1.0), None, None, teacher="none", weight=1.0, similarity=0.0, features=9)
