"""Every rule on each of creditlab's architectures, at a small size: a step works, or the rule says why it cannot."""

import pytest
import torch

from creditlab import seeding
from creditlab.algorithms.base import Batch
from creditlab.config import ConfigError
from creditlab.parts import assemble
from tests.common import options

IMAGES = ["dataset=synthetic", "dataset.samples=20", "dataset.test_samples=10", "training.batch_size=4"]
NETWORKS = {
    "mlp": ["dataset.shape=[1,6,6]", "architecture.widths=[8,7]"],
    "convnet": ["dataset.shape=[1,8,8]", "architecture.depth=2", "architecture.channels=[4]"],
    "lenet": ["dataset.shape=[1,18,18]"],
    "cnn3": ["dataset.shape=[3,16,16]"],
    "resnet18": ["dataset.shape=[3,8,8]", "architecture.width=4"],
    "transformer": [
        *("dataset=text", "dataset.context=6", "training.batch_size=4"),
        *("architecture.layers=1", "architecture.width=8", "architecture.heads=2"),
    ],
}
NO_TOKENS = {"ff", "ff_naive", "bp_goodness", "pepita"}  # they change the numbers of an input


def keys(architecture):
    images = [] if architecture == "transformer" else IMAGES
    return [*images, *NETWORKS[architecture], f"architecture={architecture}", "device=cpu"]


def test_no_architecture_is_left_out():
    assert set(NETWORKS) == set(options("architecture"))


@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.parametrize("algorithm", options("algorithm"))
def test_a_step_writes_gradients(plan, algorithm, architecture):
    config = plan(f"algorithm={algorithm}", *keys(architecture)).config
    if architecture == "transformer" and algorithm in NO_TOKENS:
        with pytest.raises(ConfigError, match="tokens"):
            assemble(config)
        return
    parts = assemble(config)
    x, y = parts.dataset.batch(torch.arange(4))
    readings = parts.algorithm.assign(parts.network, Batch(x, y, seeding.generator(0, "algorithm"), probe=True))
    assert readings.loss.isfinite()
    trained = [p for p in parts.network.parameters() if p.grad is not None]
    assert trained
    assert all(p.grad.shape == p.shape and p.grad.dtype == p.dtype and p.grad.isfinite().all() for p in trained)
    assert any(p.grad.any() for p in trained)


@pytest.mark.parametrize("rank", ["full", 1])
@pytest.mark.parametrize("architecture", NETWORKS)
def test_es_gives_the_same_estimate_however_many_members_are_evaluated_at_once(plan, architecture, rank):
    es = ["algorithm=es", "algorithm.population=12", "algorithm.shaping=raw", f"algorithm.rank={rank}"]

    def estimate(chunk):
        parts = assemble(plan(*es, f"algorithm.chunk={chunk}", "precision=float64", *keys(architecture)).config)
        x, y = parts.dataset.batch(torch.arange(4))
        parts.algorithm.assign(parts.network, Batch(x, y, torch.Generator().manual_seed(0)))
        return torch.cat([p.grad.flatten() for p in parts.network.parameters()])

    one_by_one = estimate(1)
    for chunk in (4, 64):
        torch.testing.assert_close(estimate(chunk), one_by_one, rtol=1e-7, atol=1e-9 * one_by_one.abs().max().item())
