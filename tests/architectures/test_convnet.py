from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from creditlab.architectures.block import weights
from creditlab.architectures.convnet import convnet
from creditlab.task import Task

KEYS: dict[str, Any] = {
    "depth": 4,
    "channels": [4, 8],
    "kernel": 3,
    "norm": "none",
    "groups": 2,
    "activation": "relu",
    "pool": "max",
    "pool_every": 1,
    "head": "flatten",
    "bias": True,
    "init": "default",
}


def build(shape: tuple[int, ...] = (3, 32, 32), **keys: Any) -> nn.Sequential:
    return convnet(Task(shape, 10, 0.0, 1.0), torch.Generator().manual_seed(0), **(KEYS | keys))


def test_the_last_number_of_channels_serves_all_further_layers() -> None:
    shapes = [tuple(w.shape) for w in weights(build(depth=4, channels=[4, 8])).values()]
    assert shapes == [(4, 3, 3, 3), (8, 4, 3, 3), (8, 8, 3, 3), (8, 8, 3, 3), (10, 8 * 2 * 2)]
    assert len(weights(build(depth=1))) == 2


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "group"])
@pytest.mark.parametrize(("pool", "head"), [("max", "flatten"), ("avg", "average"), ("none", "average")])
def test_against_the_formula(norm: str, pool: str, head: str) -> None:
    network = build((2, 9, 8), depth=3, kernel=5, norm=norm, pool=pool, pool_every=2, head=head, activation="tanh")
    network.double()
    p = dict(network.named_parameters())
    h = x = torch.randn(6, 2, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for number in (1, 2, 3):
        a = F.conv2d(h, p[f"conv{number}.body.conv.weight"], p[f"conv{number}.body.conv.bias"], padding=2)
        if norm == "batch":
            a = (a - a.mean((0, 2, 3), keepdim=True)) / (a.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        elif norm != "none":
            parts = a.reshape(6, 1 if norm == "layer" else 2, -1)
            parts = (parts - parts.mean(2, keepdim=True)) / (parts.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
            a = parts.reshape(a.shape)
        h = a.tanh()
        if number == 2 and pool != "none":
            h = F.max_pool2d(h, 2) if pool == "max" else F.avg_pool2d(h, 2)
    h = h.mean((2, 3)) if head == "average" else h.reshape(6, -1)
    torch.testing.assert_close(network(x), h @ p["readout.weight"].T + p["readout.bias"], rtol=1e-9, atol=1e-9)


def test_depth_8_on_small_images() -> None:
    assert build(depth=8, pool_every=2)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    with pytest.raises(ValueError, match=r"\(3, 32, 32\) have shrunk to \(8, 1, 1\) at conv6.* at most depth=5 works"):
        build(depth=8)


@settings(deadline=None, max_examples=60)
@given(
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    depth=st.integers(1, 8),
    kernel=st.sampled_from([1, 3, 5]),
    pool=st.sampled_from(["max", "avg", "none"]),
    pool_every=st.integers(1, 3),
)
def test_refused_exactly_where_torch_fails(
    sides: tuple[int, int], depth: int, kernel: int, pool: str, pool_every: int
) -> None:
    keys = {"depth": depth, "kernel": kernel, "pool": pool, "pool_every": pool_every, "channels": [1]}
    layers: list[nn.Module] = []
    for number in range(1, depth + 1):
        layers.append(nn.Conv2d(1, 1, kernel, padding=kernel // 2))
        if pool != "none" and number % pool_every == 0:
            layers.append(nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2))
    x = torch.zeros(2, 1, *sides)
    try:
        features = nn.Sequential(*layers)(x).flatten(1).shape[1]
    except RuntimeError:
        with pytest.raises(ValueError, match="at most depth=") as refusal:
            build((1, *sides), **keys)
        stated = re.search(r"depth=(\d)", str(refusal.value))
        assert stated is not None
        works = int(stated[1])
        assert works < depth
        if works:
            build((1, *sides), **(keys | {"depth": works}))(x)
        with pytest.raises(ValueError, match="at most depth="):
            build((1, *sides), **(keys | {"depth": works + 1}))
    else:
        network = build((1, *sides), **keys)
        assert network.readout.in_features == features
        assert network(x).shape == (2, 10)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kernel": 4}, "kernel=4: must be odd"),
        ({"channels": []}, r"channels=\[\]: at least one number is needed"),
        ({"norm": "group", "groups": 3}, "groups=3 does not divide 4 channels"),
    ],
)
def test_combinations_that_cannot_work(keys: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**keys)
