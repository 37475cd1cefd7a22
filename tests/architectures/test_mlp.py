from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from creditlab.architectures.block import weights
from creditlab.architectures.mlp import mlp
from creditlab.task import Task

KEYS: dict[str, Any] = {"widths": [256, 128], "activation": "relu", "norm": "none", "bias": True, "init": "default"}


def build(shape: tuple[int, ...] = (1, 28, 28), **keys: Any) -> nn.Sequential:
    return mlp(Task(shape, 10, 0.0, 1.0), torch.Generator().manual_seed(0), **(KEYS | keys))


def test_the_network_of_the_study() -> None:
    network = build()
    assert sum(p.numel() for p in network.parameters()) == 235_146
    assert {name: tuple(w.shape) for name, w in weights(network).items()} == {
        "fc1": (256, 784),
        "fc2": (128, 256),
        "readout": (10, 128),
    }


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("bias", [True, False])
def test_against_the_formula(norm: str, bias: bool) -> None:
    network = build((3, 2, 2), widths=[6, 5], activation="tanh", norm=norm, bias=bias).double()
    assert len(list(network.parameters())) == 4 + 2 * bias + (4 if norm != "none" else 0)
    x = torch.randn(9, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    p = dict(network.named_parameters())
    h = x.reshape(9, 12)
    for layer in ("fc1", "fc2"):
        a = h @ p[f"{layer}.body.linear.weight"].T + (p[f"{layer}.body.linear.bias"] if bias else 0)
        if norm != "none":
            axis = 0 if norm == "batch" else 1
            a = (a - a.mean(axis, keepdim=True)) / (a.var(axis, correction=0, keepdim=True) + 1e-5).sqrt()
        h = a.tanh()
    torch.testing.assert_close(network(x), h @ p["readout.weight"].T + p["readout.bias"], rtol=1e-10, atol=1e-10)


def test_needs_a_hidden_layer() -> None:
    with pytest.raises(ValueError, match=r"widths=\[\]: at least one hidden layer is needed"):
        build(widths=[])
