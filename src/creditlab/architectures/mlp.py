"""Multi-layer perceptron: fc1, fc2, …, readout. Images are flattened.

h_l = φ(norm(W_l h_{l−1} + b_l))
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Literal

import torch
from torch import Generator, nn

from creditlab.architectures.block import Block
from creditlab.architectures.block import activation as new_activation
from creditlab.architectures.convolution import numbers
from creditlab.architectures.initialise import initialise
from creditlab.keys import Activation, Initialisation, PositiveInt
from creditlab.task import Task


def mlp(
    task: Task,
    generator: Generator,
    *,
    widths: list[PositiveInt],
    activation: Activation,
    norm: Literal["none", "batch", "layer"],
    bias: bool,
    init: Initialisation,
) -> nn.Sequential:
    """A network with one hidden layer for each of `widths`. `norm` comes before the activation. `bias` is for the
    hidden layers; the output layer always has one.
    """
    numbers(task)
    if not widths:
        raise ValueError("widths=[]: at least one hidden layer is needed. Give a list such as [256, 128]")
    with torch.device("meta"):
        network = nn.Sequential()
        features = math.prod(task.input_shape)
        for number, width in enumerate(widths, 1):
            body: OrderedDict[str, nn.Module] = OrderedDict()
            if number == 1:
                body["flatten"] = nn.Flatten()
            body["linear"] = nn.Linear(features, width, bias)
            if norm != "none":
                body["norm"] = nn.BatchNorm1d(width) if norm == "batch" else nn.LayerNorm(width)
            network.add_module(f"fc{number}", Block(nn.Sequential(body), new_activation(activation)))
            features = width
        network.add_module("readout", nn.Linear(features, task.classes))
    return initialise(network, init, generator)
