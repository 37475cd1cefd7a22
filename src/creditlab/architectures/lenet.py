"""BioTorch's "LeNet": three 3 × 3 convolutions without padding, global average pooling, one fully connected layer.

    conv 32, pool – conv 64, pool – conv 128, global average – fc 256 – readout      128,842 parameters on CIFAR-10

Published errors on CIFAR-10 with SGD: backpropagation 14.2 %, feedback alignment 46.7 %, direct feedback alignment
54.2 %. Source: Sanfiz, Akrout, "Benchmarking the accuracy and robustness of feedback alignment algorithms", arXiv
2108.13446, and its code.
"""

from __future__ import annotations

import torch
from torch import Generator, nn

from creditlab.architectures.convolution import Convolution, convolutional
from creditlab.architectures.initialise import initialise
from creditlab.keys import Activation, Initialisation
from creditlab.task import Task


def lenet(task: Task, generator: Generator, *, activation: Activation, init: Initialisation) -> nn.Sequential:
    """For images of at least 18 × 18."""
    layers = [
        Convolution(32, kernel=3, padding=0, pool="max"),
        Convolution(64, kernel=3, padding=0, pool="max"),
        Convolution(128, kernel=3, padding=0, pool="none"),
    ]
    cure = "lenet needs 18 × 18 or more. Add a border (dataset.pad) or use architecture=convnet"
    with torch.device("meta"):
        network = convolutional(task, layers, head="average", widths=[256], activation=activation, cure=cure)
    return initialise(network, init, generator)
