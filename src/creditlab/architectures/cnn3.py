"""Three padded 3 × 3 convolutions with pooling, then two fully connected layers.

    conv 32, pool – conv 64, pool – conv 64, pool – fc 256 – readout                 321,290 parameters on CIFAR-10

This may be the convolutional network of the what-and-how study, which says only "about 320,000 parameters".
"""

from __future__ import annotations

import torch
from torch import Generator, nn

from creditlab.architectures.convolution import Convolution, convolutional
from creditlab.architectures.initialise import initialise
from creditlab.keys import Activation, Initialisation
from creditlab.task import Task


def cnn3(task: Task, generator: Generator, *, activation: Activation, init: Initialisation) -> nn.Sequential:
    """For images of at least 8 × 8."""
    layers = [Convolution(channels, kernel=3, padding=1, pool="max") for channels in (32, 64, 64)]
    cure = "cnn3 needs 8 × 8 or more. Add a border (dataset.pad) or use architecture=convnet"
    with torch.device("meta"):
        network = convolutional(task, layers, head="flatten", widths=[256], activation=activation, cure=cure)
    return initialise(network, init, generator)
