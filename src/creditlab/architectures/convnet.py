"""Plain convolutional network of depth 1 to 8: conv1, conv2, …, readout.

    h_l = pool(φ(norm(W_l ∗ h_{l−1} + b_l))),  stride 1; the convolution keeps the size

It is made for the study of depth in Boeshertz, Pascanu, Clopath, arXiv 2606.11123. The study does not give channels,
kernel, pooling, head and activation. Each of them is a key here, and its default is ours.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Generator, nn

from creditlab.architectures.convolution import Convolution, convolutional
from creditlab.architectures.initialise import initialise
from creditlab.keys import Activation, Initialisation, PositiveInt, Range
from creditlab.task import Task


def convnet(
    task: Task,
    generator: Generator,
    *,
    depth: Annotated[int, Range(1, 8)],
    channels: list[PositiveInt],
    kernel: PositiveInt,
    norm: Literal["none", "batch", "layer", "group"],
    groups: PositiveInt,
    activation: Activation,
    pool: Literal["max", "avg", "none"],
    pool_every: PositiveInt,
    head: Literal["flatten", "average"],
    bias: bool,
    init: Initialisation,
) -> nn.Sequential:
    """`depth` convolutions with the numbers of `channels`, of which the last is repeated. 2 × 2 pooling follows every
    `pool_every`-th convolution. The output layer sees all positions (`flatten`) or their mean (`average`).
    """
    if not channels:
        raise ValueError("channels=[]: at least one number is needed. Give a list such as [32, 64]")
    if kernel % 2 == 0:
        raise ValueError(f"kernel={kernel}: must be odd, so that a convolution keeps the size. Give 3 or 5")
    layers = [
        Convolution(
            channels=channels[min(number, len(channels)) - 1],
            kernel=kernel,
            padding=kernel // 2,
            pool=pool if number % pool_every == 0 else "none",
            norm=norm,
            groups=groups,
            bias=bias,
        )
        for number in range(1, depth + 1)
    ]
    cure = "at most depth={depth} works, or pool less often (pool_every, pool=none)"
    with torch.device("meta"):
        network = convolutional(task, layers, head=head, widths=[], activation=activation, cure=cure)
    return initialise(network, init, generator)
