import gc
import weakref
from collections import OrderedDict

import pytest
import torch
from torch import nn

from creditlab.algorithms.base import Algorithm
from creditlab.architectures.block import Block, weights
from creditlab.metrics.observe import Observation, Samples, Start, evaluate, observed, probe_steps
from creditlab.scopes import ANYWHERE, SCOPES
from creditlab.spectral import as_matrix


@pytest.fixture
def observation():
    torch.manual_seed(0)
    network = nn.Sequential(
        OrderedDict(
            conv1=Block(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten()),
            fc1=Block(nn.Sequential(nn.Linear(3 * 36, 5), nn.BatchNorm1d(5)), nn.ReLU()),
            readout=nn.Linear(5, 4),
        )
    )
    x = torch.randn(8, 1, 8, 8)
    samples = Samples(x, x.sigmoid(), torch.arange(8) % 4, torch.logit)
    initial = Start({n: as_matrix(w.detach()).clone() for n, w in weights(network).items()}, {})
    algorithm = Algorithm(network, None, None, None)
    with torch.no_grad():
        weights(network)["fc1"].add_(1.0)
        network[1].body[1].bias[2] = -1e6  # a dead unit
        network[1].body[1].running_mean.fill_(0.5)
    start = Start(
        initial.weights, Observation(network, algorithm, samples, initial, {}, None).find("activations", "activation")
    )
    signals = {name: {"fc1": torch.full((2, 3), 1.0)} for name in SCOPES["signals"]}
    return Observation(network, algorithm, samples, start, signals, lambda x: x.flatten(1)[:, :4])


def look(metrics, observation):
    measured = {}
    for name, (metric, keys) in metrics.items():
        measured |= evaluate(name, metric, keys, observation, lambda: torch.Generator().manual_seed(3))
    return measured


def test_every_observable_is_there_in_the_shape_it_is_documented_with(observation):
    observation.algorithm.feedback = lambda network: {"fc1": weights(network)["fc1"]}
    every = {s: {n: observation.find(s, n) for n in names} for s, names in SCOPES.items()}
    assert all(layers for names in every.values() for layers in names.values())
    shapes = lambda scope, layer: {  # noqa: E731
        n: tuple(layers[layer].shape) for n, layers in every[scope].items() if layer in layers
    }
    assert shapes("weights", "conv1") == {
        "weight": (3, 9), "singular_values": (3,), "initial_weight": (3, 9), "kernel": (3, 1, 3, 3), "dead": (3,)
    }  # fmt: skip
    assert shapes("weights", "fc1") == {
        "weight": (5, 108), "singular_values": (5,), "initial_weight": (5, 108), "dead": (5,), "feedback": (5, 108)
    }  # fmt: skip
    assert set(shapes("weights", "readout")) == {"weight", "singular_values", "initial_weight"}
    assert shapes("activations", "conv1") == {
        "activation": (8, 3), "activation_map": (8, 3, 36), "initial_activation": (8, 3), "label": (8,)
    }  # fmt: skip
    assert every["activations"]["activation_map"]["fc1"].shape == (8, 5, 1)
    assert every["weights"]["dead"]["fc1"].tolist() == [False, False, True, False, False]
    network = {n: layers[""] for n, layers in every["network"].items()}
    tensors = {n: tuple(v.shape) for n, v in network.items() if isinstance(v, torch.Tensor)}
    assert tensors == {
        "x": (8, 1, 8, 8), "pixels": (8, 1, 8, 8), "scores": (8, 4), "features": (8, 5), "readout_weight": (4, 5),
        "readout_bias": (4,), "label": (8,),
    }  # fmt: skip
    torch.testing.assert_close(network["normalise"](network["pixels"]), network["x"])
    torch.testing.assert_close(
        network["features"] @ network["readout_weight"].T + network["readout_bias"], network["scores"].float()
    )


def test_what_is_seen_of_a_convolution_that_is_pooled_before_the_readout():
    tail = nn.Sequential(nn.MaxPool2d(2), nn.Flatten())
    block = Block(nn.Conv2d(1, 3, 3), nn.ReLU(), tail)
    network = nn.Sequential(OrderedDict(conv1=block, readout=nn.Linear(27, 4)))
    x = torch.randn(8, 1, 8, 8)
    with torch.no_grad():
        block.body.bias.copy_(torch.tensor([-9.0, 0.0, 9.0]))
        h, scores = block.activation(block.body(x)), network(x)
    samples = Samples(x, x.sigmoid(), torch.arange(8) % 4, torch.logit)
    seen = Observation(network, Algorithm(network, None, None, None), samples, Start({}, {}), {}, None)
    torch.testing.assert_close(seen.find("activations", "activation")["conv1"], h.mean((2, 3)))
    torch.testing.assert_close(seen.find("network", "features")[""], tail(h))
    torch.testing.assert_close(seen.find("network", "scores")[""].float(), scores)
    assert (h == 0).any((2, 3)).all(0)[1]  # every sample has a position where the second unit is silent: not dead yet
    assert seen.find("weights", "dead")["conv1"].tolist() == [True, False, False]


def test_changes_are_of_the_layers_that_moved(observation):
    changes = observation.find("changes", "weight")
    assert list(changes) == ["fc1"]
    torch.testing.assert_close(changes["fc1"], torch.ones(5, 108))


def test_a_metric_is_told_by_its_parameters_where_it_applies(observation):
    def size(weight, *, unit):
        return weight.numel() * unit

    def pair(activation, label):
        return {"units": activation.shape[1], "classes": len(label.unique())}

    def filters(kernel, generator):
        return len(kernel)

    def whole(network, predict, x):
        return predict(network, x).shape[1]

    measured = look(
        {"size": (size, {"unit": 2.0}), "pair": (pair, {}), "f": (filters, {}), "w": (whole, {})}, observation
    )
    assert measured == {
        "weights/conv1/size": 54,
        "weights/fc1/size": 1080,
        "weights/readout/size": 40,
        "changes/fc1/size": 1080,
        "activations/conv1/pair_units": 3,
        "activations/conv1/pair_classes": 4,
        "activations/fc1/pair_units": 5,
        "activations/fc1/pair_classes": 4,
        "weights/conv1/f": 3,
        "network/w": 4,
    }
    assert observed(size) == ("weight",)


def test_what_is_no_number_is_named(observation):
    with pytest.raises(TypeError, match=r"gave 'high' for weights/conv1; a metric gives a number"):
        look({"m": (lambda weight: "high", {})}, observation)


def test_singular_values_of_layers_of_one_shape_are_those_of_each(observation):
    for layer, w in observation.find("weights", "weight").items():
        expected = torch.linalg.svdvals(w.double())
        torch.testing.assert_close(
            observation.find("weights", "singular_values")[layer].double(), expected, atol=1e-6, rtol=1e-5
        )


def test_looking_changes_nothing_even_where_a_metric_breaks_its_copy(observation):
    def spoil(network, x, generator):
        with torch.no_grad():
            for p in network.parameters():
                p.zero_()
        network(x).sum().backward()
        return torch.rand(1, generator=generator).item()

    network = observation.network.train()
    before = {n: t.clone() for n, t in network.state_dict().items()}
    state = torch.get_rng_state()
    draws = [look({"m": (lambda activation: activation.mean(), {}), "s": (spoil, {})}, observation) for _ in range(2)]
    assert draws[0]["network/s"] == draws[1]["network/s"]
    assert network.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_what_was_seen_is_let_go_at_once(observation):
    """Maps of a large network are gigabytes: none may wait for the collector of cycles."""
    fresh = Observation(observation.network, observation.algorithm, observation.samples, observation.start, {}, None)
    kept = weakref.ref(fresh.find("activations", "activation_map")["conv1"])
    assert kept() is not None
    gc.disable()
    try:
        del fresh
        assert kept() is None
    finally:
        gc.enable()


def test_no_name_is_seen_in_two_scopes_but_the_label():
    names = [n for names in SCOPES.values() for n in names] + list(ANYWHERE)
    assert [n for n in set(names) if names.count(n) > 1] == ["label"]


@pytest.mark.parametrize(("total", "points"), [(1, 1), (1000, 4), (1000, 1), (10, 10**9), (5, 0)])
def test_probe_steps(total, points):
    steps = sorted(probe_steps(total, points, 100, None))
    assert len(steps) <= points
    assert all(1 <= s <= total for s in steps)
    assert not points or steps[-1] == total
    if points >= total:
        assert steps == list(range(1, total + 1))
    if (total, points) == (1000, 4):
        assert steps == [1, 10, 100, 1000]


def test_probe_steps_by_epoch():
    assert probe_steps(10, 0, 4, 1) == {4, 8}
    assert probe_steps(10, 0, 4, 0.5) == {2, 4, 6, 8, 10}
    assert probe_steps(8, 2, 4, 2) == {1, 8}


def test_a_metric_that_changes_what_it_sees_is_refused_and_the_network_unharmed(observation):
    before = weights(observation.network)["fc1"].clone()
    spoil = {
        "weight": lambda weight: weight.mul_(0.5).norm(),
        "kernel": lambda kernel: kernel.zero_().sum(),
        "x": lambda x: x.zero_().sum(),
        "readout_weight": lambda readout_weight: readout_weight.abs_().sum(),
    }
    for name in spoil:
        with pytest.raises(ValueError, match=rf"changes {name} in place"):
            look({"m": (spoil[name], {})}, observation)
    assert torch.equal(weights(observation.network)["fc1"], before)
    assert weights(observation.network)["conv1"].any()


def test_a_part_without_a_plain_name_is_refused(observation):
    with pytest.raises(ValueError, match=r"gave the part 'm_a/b'"):
        look({"m": (lambda weight: {"a/b": 1.0}, {})}, observation)
