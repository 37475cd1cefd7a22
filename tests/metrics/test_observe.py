from collections import OrderedDict

import pytest
import torch
from torch import nn

from creditlab.algorithms.base import Algorithm
from creditlab.architectures.block import Block, weights
from creditlab.metrics import OBSERVABLES
from creditlab.metrics.observe import Observation, measure, observed, probe_steps


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
    initial = {n: w.detach().clone() for n, w in weights(network).items()}
    with torch.no_grad():
        weights(network)["fc1"].add_(1.0)
    algorithm = Algorithm(network, None, None, None)
    return Observation(network, algorithm, torch.randn(8, 1, 8, 8), torch.arange(8) % 4, initial)


def test_every_observable_is_there_in_the_shape_it_is_documented_with(observation):
    seen = observation.weights["conv1"] | observation.activations["conv1"]
    assert set(seen) == set(OBSERVABLES)
    shapes = {name: tuple(tensor.shape) for name, tensor in seen.items()}
    assert shapes == {
        "weight": (3, 9),
        "singular_values": (3,),
        "initial_weight": (3, 9),
        "activation": (8, 3),
        "activation_map": (8, 3, 36),
        "label": (8,),
    }
    assert observation.activations["fc1"]["activation_map"].shape == (8, 5, 1)
    assert list(observation.activations) == ["conv1", "fc1"]
    assert list(observation.weights) == ["conv1", "fc1", "readout"]


def test_changes_are_of_the_layers_that_moved(observation):
    assert list(observation.changes) == ["fc1"]
    torch.testing.assert_close(observation.changes["fc1"]["weight"], torch.ones(5, 108))


def test_a_metric_is_told_by_its_parameters_where_it_applies(observation):
    def size(weight, *, unit):
        return weight.numel() * unit

    def pair(activation, label):
        return {"units": activation.shape[1], "classes": len(label.unique())}

    found = measure({"size": (size, {"unit": 2.0}), "pair": (pair, {})}, observation)
    assert found == {
        "weights/conv1/size": 54,
        "weights/fc1/size": 1080,
        "weights/readout/size": 40,
        "changes/fc1/size": 1080,
        "activations/conv1/pair_units": 3,
        "activations/conv1/pair_classes": 4,
        "activations/fc1/pair_units": 5,
        "activations/fc1/pair_classes": 4,
    }
    assert observed(size) == ("weight",)


def test_looking_changes_nothing(observation):
    network = observation.network.train()
    before = {n: t.clone() for n, t in network.state_dict().items()}
    state = torch.get_rng_state()
    measure({"m": (lambda activation: activation.mean(), {}), "s": (lambda singular_values: 0.0, {})}, observation)
    assert network.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())


@pytest.mark.parametrize(("total", "points"), [(1, 1), (1000, 4), (1000, 1), (10, 50), (5, 0)])
def test_probe_steps(total, points):
    steps = probe_steps(total, points)
    assert steps == sorted(set(steps))
    assert len(steps) <= points
    assert all(1 <= s <= total for s in steps)
    assert not points or steps[-1] == total
    if (total, points) == (1000, 4):
        assert steps == [1, 10, 100, 1000]
