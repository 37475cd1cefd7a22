from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import nn

from creditlab.architectures.block import ACTIVATIONS
from creditlab.architectures.initialise import initialise
from creditlab.keys import Activation, Initialisation

SCHEMES = get_args(Initialisation)
DRAWN_BY_TORCH = {
    "default": lambda w, g: nn.init.kaiming_uniform_(w, a=math.sqrt(5), generator=g),
    "kaiming_normal": lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=g),
    "kaiming_uniform": lambda w, g: nn.init.kaiming_uniform_(w, nonlinearity="relu", generator=g),
    "xavier_normal": lambda w, g: nn.init.xavier_normal_(w, generator=g),
    "xavier_uniform": lambda w, g: nn.init.xavier_uniform_(w, generator=g),
    "orthogonal": lambda w, g: nn.init.orthogonal_(w, generator=g),
}
LAYERS = {  # constructor, fan_in, fan_out
    "linear": (lambda: nn.Linear(300, 200), 300, 200),
    "conv": (lambda: nn.Conv2d(30, 20, (3, 5)), 450, 300),
}


def filled(layer: nn.Module, init: Initialisation, seed: int = 0) -> nn.Sequential:
    return initialise(nn.Sequential(layer).to("meta"), init, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("init", SCHEMES)
def test_weights_have_the_moments_of_the_scheme(init: Initialisation, layer: str) -> None:
    make, fan_in, fan_out = LAYERS[layer]
    weight = filled(make(), init)[0].weight.detach()
    out = weight.shape[0]
    variance = {
        "default": 1 / (3 * fan_in),
        "kaiming_normal": 2 / fan_in,
        "kaiming_uniform": 2 / fan_in,
        "xavier_normal": 2 / (fan_in + fan_out),
        "xavier_uniform": 2 / (fan_in + fan_out),
        "lecun_normal": 1 / fan_in,
        "orthogonal": 1 / fan_in,  # out < fan_in: each row of length 1
        "normal_fan_out": 1 / fan_out,
        "gpt2": 0.02**2,
    }[init]
    n = weight.numel()
    assert weight.mean().abs() < 4 * math.sqrt(variance / n)
    assert weight.square().mean() == pytest.approx(variance, rel=5 * math.sqrt(2 / n))
    kurtosis = (weight**4).mean() / weight.square().mean() ** 2  # 3 if normal, 9/5 if uniform
    uniform = init == "default" or init.endswith("_uniform")
    assert kurtosis == pytest.approx(1.8 if uniform else 3.0, abs=0.25)
    if init == "orthogonal":
        rows = weight.flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(out), atol=1e-5, rtol=0)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("init", DRAWN_BY_TORCH)
def test_agrees_with_torch(init: Initialisation, layer: str) -> None:
    make, *_ = LAYERS[layer]
    weight = filled(make(), init, seed=3)[0].weight
    expected = torch.empty_like(weight, requires_grad=False)
    DRAWN_BY_TORCH[init](expected, torch.Generator().manual_seed(3))
    torch.testing.assert_close(weight.detach(), expected)


@pytest.mark.parametrize("init", SCHEMES)
def test_biases(init: Initialisation) -> None:
    bias = filled(nn.Linear(400, 5000), init)[0].bias.detach()
    if init == "default":
        assert bias.abs().max() == pytest.approx(1 / 20, rel=0.01)
        assert bias.abs().max() <= 1 / 20
        assert bias.std() == pytest.approx(1 / 20 / math.sqrt(3), rel=0.05)
    else:
        assert not bias.any()


def test_stable_rank_of_the_default() -> None:
    """784 → 256: 105.0 with a standard deviation of 1.5 between draws."""
    ranks = []
    for seed in range(10):
        s = torch.linalg.svdvals(filled(nn.Linear(784, 256), "default", seed)[0].weight.detach().double())
        ranks.append((s.square().sum() / s[0] ** 2).item())
    assert sum(ranks) / 10 == pytest.approx(105.0, abs=1.5)
    assert max(ranks) - min(ranks) < 9


def test_parameters_are_drawn_one_after_the_other() -> None:
    generator = torch.Generator().manual_seed(5)
    network = nn.Sequential(nn.Linear(4, 3, device="meta"), nn.Linear(3, 2, device="meta"))
    initialise(network, "default", generator)
    again = torch.Generator().manual_seed(5)
    for p, fan_in in zip(network.parameters(), (4, 4, 3, 3), strict=True):
        bound = 1 / math.sqrt(fan_in)
        torch.testing.assert_close(p.detach(), torch.empty(p.shape).uniform_(-bound, bound, generator=again))


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d(6), nn.BatchNorm2d(6), nn.LayerNorm(6), nn.GroupNorm(3, 6)], ids=lambda n: type(n).__name__
)
def test_normalisation_starts_as_the_identity(norm: nn.Module) -> None:
    (layer,) = filled(norm, "kaiming_normal")
    assert torch.equal(layer.weight.detach(), torch.ones(6))
    assert torch.equal(layer.bias.detach(), torch.zeros(6))
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        assert torch.equal(layer.running_mean, torch.zeros(6))
        assert torch.equal(layer.running_var, torch.ones(6))
        assert layer.num_batches_tracked == 0


def test_a_module_that_it_cannot_fill() -> None:
    with pytest.raises(ValueError, match="0 is a PReLU"):
        filled(nn.PReLU(), "default")


@pytest.mark.parametrize("init", SCHEMES)
def test_embeddings(init: Initialisation) -> None:
    table = filled(nn.Embedding(300, 200), init)[0].weight.detach()
    std = 0.02 if init == "gpt2" else 1.0
    assert table.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * table.numel()))


def test_names_in_the_config_are_those_there_are() -> None:
    assert set(get_args(Activation)) == set(ACTIVATIONS)
