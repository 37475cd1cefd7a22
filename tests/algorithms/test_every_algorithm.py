"""One suite for every rule: a new YAML in `conf/algorithm` is picked up by it."""

import pytest
import torch

from creditlab import seeding
from creditlab.algorithms.base import Batch
from creditlab.architectures.block import weights
from creditlab.config import bind_target
from creditlab.task import Task
from tests.common import options

NO_ERRORS = {"es", "spsa", "forward_gradient", "weight_perturbation"}  # rules that are blind to the network's inside
OTHER_GRADIENTS = {  # tested with the rule: δ of other inputs than the batch, or more than δ in the gradient
    *("ff", "ff_naive", "bp_goodness", "bp_aligned", "noisy", "pepita"),
}

TASK = Task((1, 6, 6), 4, -1.0, 2.0)
NETWORKS = {
    "mlp": ["architecture=mlp", "architecture.widths=[20,16]", "architecture.norm=batch"],
    "convnet": [
        *("architecture=convnet", "architecture.depth=2", "architecture.pool_every=2"),
        *("architecture.channels=[5,6]", "architecture.norm=batch"),
    ],
}
PLAIN = ["architecture=mlp", "architecture.widths=[20,16]"]  # in which a block's input and δ make a weight's gradient


@pytest.fixture(params=options("algorithm"))
def algorithm(request):
    return request.param


@pytest.fixture(params=NETWORKS)
def draw(request, plan):
    return drawing(plan, NETWORKS[request.param])


nodes = {}  # configs by algorithm and by architecture, composed once: that takes longer than most of what is tested


def drawing(plan, keys):
    """What draws a network from a generator."""
    name = " ".join(keys)
    if name not in nodes:
        nodes[name] = plan(*keys).config["architecture"]
    architecture = bind_target(nodes[name])
    return lambda generator: architecture(TASK, generator)


def built(plan, name, draw, dtype=torch.float32):
    network = draw(seeding.generator(0, "init"))
    if name not in nodes:
        nodes[name] = plan(f"algorithm={name}").config["algorithm"]
    rule = bind_target(nodes[name])(network, TASK, draw, seeding.generator(0, "feedback"))
    return network.to(dtype), rule.to(dtype)


def batch(n=24, dtype=torch.float32):
    """Four classes, each a bright row of the image in noise."""
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(n) % 4
    x = 0.3 * torch.randn(n, 1, 6, 6, generator=generator)
    x[torch.arange(n), 0, y + 1] += 1.0
    return x.clamp(TASK.low, TASK.high).to(dtype), y


def step(network, rule, x, y, number=0, **keys):
    return rule.assign(network, Batch(x, y, generator=seeding.generator(0, "algorithm", number), **keys))


def gradients(network):
    return {n: None if p.grad is None else p.grad.clone() for n, p in network.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_dtypes_and_bounds_of_what_it_gives(plan, algorithm, draw, dtype):
    network, rule = built(plan, algorithm, draw, dtype)
    x, y = batch(dtype=dtype)
    readings = step(network, rule, x, y)
    assert readings.loss.ndim == 0
    assert readings.loss.isfinite()
    assert not readings.loss.requires_grad
    assert readings.errors == {}
    trained = {n: p for n, p in network.named_parameters() if p.grad is not None}
    assert trained
    assert all(p.grad.shape == p.shape and p.grad.dtype == dtype and p.grad.isfinite().all() for p in trained.values())
    network.eval()
    scores = rule.predict(network, x)
    assert scores.shape == (len(y), TASK.classes)
    seen = rule.represent(network, x)
    assert list(seen) == [n for n, _ in network.named_children()][:-1]
    assert all(len(h) == len(y) for h in seen.values())


def test_it_neither_moves_parameters_nor_leaves_gradients_behind(plan, algorithm, draw):
    network, rule = built(plan, algorithm, draw)
    x, y = batch()
    before = {n: p.clone() for n, p in network.named_parameters()}
    step(network, rule, x, y)
    once = gradients(network)
    assert all(torch.equal(before[n], p) for n, p in network.named_parameters())
    _, fresh = built(plan, algorithm, draw)  # a rule may keep running means
    step(network, fresh, x, y)
    again = gradients(network)
    assert all((once[n] is None and again[n] is None) or torch.equal(once[n], again[n]) for n in once)


def test_only_the_generator_that_it_is_handed_matters(plan, algorithm, draw):
    actual = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        network, rule = built(plan, algorithm, draw)
        step(network, rule, *batch())
        actual.append(gradients(network))
    assert all(
        (a is None and b is None) or torch.equal(a, b) for a, b in zip(*(f.values() for f in actual), strict=True)
    )


def test_a_probe_reads_error_signals_and_changes_nothing(plan, algorithm, draw):
    x, y = batch()
    network, rule = built(plan, algorithm, draw)
    step(network, rule, x, y)
    plain = gradients(network)
    network, rule = built(plan, algorithm, draw)
    readings = step(network, rule, x, y, probe=True)
    probed = gradients(network)
    assert all((plain[n] is None and probed[n] is None) or torch.equal(plain[n], probed[n]) for n in plain)
    blocks = [n for n, _ in network.named_children()]
    assert set(readings.errors) <= set(blocks)
    if algorithm not in NO_ERRORS:
        assert readings.errors
        assert all(e.isfinite().all() and e.any() for e in readings.errors.values())


def test_the_error_signal_makes_the_weights_gradient(plan, algorithm):
    """δ_lᵀ h_{l−1} of the readings is the `.grad` of the layer, for rules that have an error signal."""
    network, rule = built(plan, algorithm, drawing(plan, PLAIN), torch.float64)
    x, y = batch(dtype=torch.float64)
    if algorithm in NO_ERRORS | OTHER_GRADIENTS:
        pytest.skip("no error signal, or not of the batch alone")
    delta = step(network, rule, x, y, probe=True).errors["fc1"]
    torch.testing.assert_close(delta.T @ x.flatten(1), weights(network)["fc1"].grad)


def test_its_state_comes_back_from_a_state_dict(plan, algorithm, draw):
    x, y = batch()
    network, rule = built(plan, algorithm, draw)
    for number in range(2):
        step(network, rule, x, y, number)
    state = {n: t.clone() for n, t in rule.state_dict().items()}
    buffers = {n: t.clone() for n, t in network.state_dict().items()}
    step(network, rule, x, y, 2)
    expected = gradients(network)
    network, rule = built(plan, algorithm, draw)
    rule.load_state_dict(state)
    network.load_state_dict(buffers)
    step(network, rule, x, y, 2)
    actual = gradients(network)
    assert all((expected[n] is None and actual[n] is None) or torch.equal(expected[n], actual[n]) for n in expected)


def test_it_learns(plan, algorithm, draw):
    """With AdamW, for every rule: four easy classes, from chance to almost all right. (The naive forward-forward barely
    learns on convolutions: 10 % on CIFAR-10 is its published signature.)
    """
    network, rule = built(plan, algorithm, draw)
    goal = 0.4 if algorithm == "ff_naive" and "conv1" in network._modules else 0.9
    trained = [*network.parameters(), *rule.parameters()]
    optimiser = torch.optim.AdamW(trained, lr=0.01, weight_decay=0.0)
    x, y = batch(128)
    steps = 150
    for number in range(steps):
        step(network, rule, x, y, number, progress=number / steps)
        optimiser.step()
    network.eval()
    with torch.no_grad():
        accuracy = (rule.predict(network, x).argmax(1) == y).double().mean()
    assert accuracy > goal


def test_it_trains_every_block(plan, algorithm, draw):
    """Over training, every weight that the rule is meant to train moves."""
    network, rule = built(plan, algorithm, draw)
    x, y = batch()
    reached = set()
    for number in range(8):
        step(network, rule, x, y, number, progress=number / 8)
        reached |= {n for n, w in weights(network).items() if w.grad is not None and w.grad.any()}
    assert reached >= {n for n, _ in network.named_children() if n != "readout"}
