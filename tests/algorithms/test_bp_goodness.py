"""Backpropagation of the goodness objective, held to differences of the loss and to forward-forward."""

import pytest
import torch

from creditlab.algorithms.bp_goodness import BackpropagationOfGoodness
from tests.algorithms.test_ff import IMAGES, KEYS, batch, convolutional, ff, mlp, step

NETWORKS = {"mlp": (lambda: mlp((7, 6, 5)), {}), "convolutional": (convolutional, {"task": IMAGES})}


def goodness(network, task=None, **keys):
    task = {} if task is None else {"task": task}
    like = ff(network, **task)
    rule = BackpropagationOfGoodness(network, like.task, None, torch.Generator().manual_seed(1), **(KEYS | keys))
    return rule.double()


@pytest.mark.parametrize("keys", [{}, {"goodness": "mean", "length_norm": "none"}, {"peer_norm": 0.3}], ids=str)
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_gradient_is_that_of_the_sum_of_forward_forwards_losses(kind, keys):
    """By central differences of the loss that `ff` itself reports, along random directions. A straight-through ReLU has
    no such loss.
    """
    build, task = NETWORKS[kind]
    keys = {"straight_through": False, **keys}
    network, (x, y) = build(), batch(**task)
    readings, actual = step(network, goodness(network, **task, **keys), x, y)
    hidden = {n: p for n, p in network.named_parameters() if not n.startswith("readout")}

    def loss():
        return step(network, ff(network, **task, **keys), x, y)[0].loss.item()

    assert readings.loss.item() == pytest.approx(loss(), rel=1e-12)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        directions = {n: torch.randn(p.shape, generator=generator, dtype=p.dtype) for n, p in hidden.items()}
        losses = []
        for sign in (1, -2):
            with torch.no_grad():
                for n, p in hidden.items():
                    p.add_(directions[n], alpha=sign * 1e-6)
            losses.append(loss())
        with torch.no_grad():
            for n, p in hidden.items():
                p.add_(directions[n], alpha=1e-6)
        slope = sum((actual[n] * directions[n]).sum().item() for n in hidden)
        assert slope == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-4)


@pytest.mark.parametrize("kind", NETWORKS)
def test_only_the_last_block_learns_as_in_forward_forward(kind):
    build, task = NETWORKS[kind]
    network, (x, y) = build(), batch(**task)
    local, whole = step(network, ff(network, **task), x, y)[1], step(network, goodness(network, **task), x, y)[1]
    blocks = [name for name, _ in network.named_children()][:-1]
    for name, gradient in local.items():
        if name.startswith("readout"):
            assert whole[name] is None
        else:
            alike = torch.allclose(whole[name], gradient, rtol=1e-9, atol=1e-12)
            assert alike == name.startswith(blocks[-1]), name


def test_it_predicts_and_represents_as_forward_forward():
    network, (x, _) = mlp((7, 6, 5)), batch()
    ours, theirs = goodness(network), ff(network)
    assert torch.equal(ours.predict(network, x), theirs.predict(network, x))
    for name, h in theirs.represent(network, x).items():
        assert torch.equal(ours.represent(network, x)[name], h)


@pytest.mark.parametrize("head", [{"readout": "head"}, {"negatives": "hard"}], ids=str)
def test_the_head_stays_local(head):
    network, (x, y) = mlp((7, 6, 5)), batch()
    local, whole = step(network, ff(network, **head), x, y)[1], step(network, goodness(network, **head), x, y)[1]
    assert torch.equal(local["readout.weight"], whole["readout.weight"])


def test_refuses_one_block_after_another():
    with pytest.raises(ValueError, match=r"layers=sequential.*use layers=simultaneous"):
        goodness(mlp(), layers="sequential")
