"""ResNet-18 for small images: a 3 × 3 stem without pooling and eight residual blocks.

    h = relu(norm(W₂ ∗ relu(norm(W₁ ∗ x))) + shortcut(x)),  shortcut a 1 × 1 convolution if the size changes

conv1, stage1_0, stage1_1, …, stage4_1, readout; widths 64, 128, 256, 512; 11,173,962 parameters for ten classes. A
residual block is one `Block`: its pre-activation is the sum.

Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016; the stem is
the usual one for CIFAR.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import relu

from creditlab.architectures.block import Block
from creditlab.architectures.convolution import Conv2d, Norm, feature_norm, image_shape
from creditlab.architectures.initialise import initialise
from creditlab.keys import Initialisation, PositiveInt
from creditlab.task import Task


class Residual(nn.Module):
    """The body of a residual block, from `inputs` channels to `width`; with biases only if no norm follows."""

    def __init__(self, inputs: int, width: int, stride: int, norm: Norm, groups: int) -> None:
        super().__init__()
        bias = norm == "none"
        self.conv1 = Conv2d(inputs, width, 3, stride, padding=1, bias=bias)
        self.norm1 = feature_norm(norm, width, groups)
        self.conv2 = Conv2d(width, width, 3, padding=1, bias=bias)
        self.norm2 = feature_norm(norm, width, groups)
        self.shortcut: nn.Module = nn.Identity()
        self.shortcut_norm: nn.Module = nn.Identity()
        if stride != 1 or inputs != width:
            self.shortcut = Conv2d(inputs, width, 1, stride, bias=bias)
            self.shortcut_norm = feature_norm(norm, width, groups)

    def forward(self, x: Tensor) -> Tensor:  # (n, inputs, h, w) -> (n, width, h/stride, w/stride)
        inner = relu(self.norm1(self.conv1(x)))
        return self.norm2(self.conv2(inner)) + self.shortcut_norm(self.shortcut(x))


def resnet18(
    task: Task,
    generator: Generator,
    *,
    width: PositiveInt,
    norm: Literal["none", "batch", "group"],
    groups: PositiveInt,
    init: Initialisation,
) -> nn.Sequential:
    """`width` channels in the stem and the first stage, twice as many in each further stage."""
    inputs, *_ = image_shape(task)
    with torch.device("meta"):
        network = nn.Sequential()
        stem = nn.Sequential(
            Conv2d(inputs, width, 3, padding=1, bias=norm == "none"), feature_norm(norm, width, groups)
        )
        network.add_module("conv1", Block(stem, nn.ReLU()))
        inputs = width
        for stage in range(4):
            outputs = width * 2**stage
            for unit in range(2):
                stride = 2 if stage > 0 and unit == 0 else 1
                last = (stage, unit) == (3, 1)
                tail = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()) if last else None
                body = Residual(inputs, outputs, stride, norm, groups)
                network.add_module(f"stage{stage + 1}_{unit}", Block(body, nn.ReLU(), tail))
                inputs = outputs
        network.add_module("readout", nn.Linear(inputs, task.classes))
    return initialise(network, init, generator)
