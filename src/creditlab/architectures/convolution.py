"""The parts of plain convolutional networks: blocks  pool(φ(norm(W ∗ x + b))),  then fully connected layers.

Shapes are computed by arithmetic. A forward pass on torch's meta device would cost a second at its first use.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from creditlab.architectures.block import Block
from creditlab.architectures.block import activation as new_activation
from creditlab.keys import Activation
from creditlab.task import Task

Norm = Literal["none", "batch", "layer", "group"]
Pool = Literal["none", "max", "avg"]
Head = Literal["flatten", "average"]


@dataclass(frozen=True)
class Convolution:
    """One convolutional layer of stride 1. `pool` is the kind of 2 × 2 pooling after its activation."""

    channels: int
    kernel: int
    padding: int
    pool: Pool
    norm: Norm = "none"
    groups: int = 1
    bias: bool = True


class Conv2d(nn.Conv2d):
    """torch's convolution, on images whose memory is laid out channels last: CPUs convolve and pool them up to twice as
    fast. The layout is made by permuting, because `torch.func.vmap` has no memory formats.
    """

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2))


def numbers(task: Task) -> None:
    """Raise ValueError if the entries of an input cannot be multiplied by weights."""
    if task.tokens is not None:
        raise ValueError(
            f"inputs are tokens of {task.tokens} kinds, not numbers: use architecture=transformer, or images"
        )


def image_shape(task: Task) -> tuple[int, int, int]:
    """(channels, height, width) of the input. Raises ValueError if inputs are not images."""
    numbers(task)
    if len(task.input_shape) != 3:
        raise ValueError(
            f"inputs of shape {task.input_shape} are not images (channels, height, width): "
            "use architecture=mlp or a data set of images"
        )
    channels, height, width = task.input_shape
    return channels, height, width


def feature_norm(norm: Norm, channels: int, groups: int) -> nn.Module:
    """Normalisation of feature maps over the batch, over all channels, or over each of `groups` groups of channels."""
    if norm == "group" and channels % groups:
        raise ValueError(
            f"groups={groups} does not divide {channels} channels: give a divisor of the channels of every layer"
        )
    match norm:
        case "none":
            return nn.Identity()
        case "batch":
            return nn.BatchNorm2d(channels)
        case "layer":
            return nn.GroupNorm(1, channels)
        case "group":
            return nn.GroupNorm(groups, channels)


def convolutional(
    task: Task,
    layers: Sequence[Convolution],
    *,
    head: Head,
    widths: Sequence[int],
    activation: Activation,
    cure: str,
) -> nn.Sequential:
    """conv1, …, fc1, …, readout: first `layers`, then all positions (`flatten`) or their mean (`average`), then one
    fully connected layer for each of `widths`. Call it with torch's device set to meta.

    Raises ValueError if the input is too small for a layer. `cure` is the end of its message and may contain {depth},
    the number of convolutions that the input is large enough for.
    """
    network = nn.Sequential()
    channels, *sides = image_shape(task)
    for number, layer in enumerate(layers, 1):
        before = (channels, *sides)
        sides = [side + 2 * layer.padding - layer.kernel + 1 for side in sides]
        if layer.pool != "none":
            sides = [side // 2 for side in sides]
        if min(sides) < 1:
            raise ValueError(
                f"inputs of shape {task.input_shape} have shrunk to {before} at conv{number}, "
                f"which is too small for it: {cure.format(depth=number - 1)}"
            )
        conv = Conv2d(channels, layer.channels, layer.kernel, padding=layer.padding, bias=layer.bias)
        norm = feature_norm(layer.norm, layer.channels, layer.groups)
        tail: list[nn.Module] = []
        if layer.pool != "none":
            tail.append(nn.MaxPool2d(2) if layer.pool == "max" else nn.AvgPool2d(2))
        if number == len(layers):
            tail += [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if head == "average" else [nn.Flatten()]
        body = nn.Sequential(OrderedDict(conv=conv, norm=norm))
        network.add_module(f"conv{number}", Block(body, new_activation(activation), nn.Sequential(*tail)))
        channels = layer.channels
    features = channels if head == "average" else channels * math.prod(sides)
    for number, width in enumerate(widths, 1):
        linear = nn.Sequential(OrderedDict(linear=nn.Linear(features, width)))
        network.add_module(f"fc{number}", Block(linear, new_activation(activation)))
        features = width
    network.add_module("readout", nn.Linear(features, task.classes))
    return network
