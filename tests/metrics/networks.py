"""What tests of whole-network metrics share: a tiny network, its samples, and real rules to read it out."""

from collections import OrderedDict

import torch
import yaml
from torch import nn

from creditlab import seeding
from creditlab.__main__ import CONF
from creditlab.algorithms.bp import Backpropagation
from creditlab.algorithms.ff import ForwardForward
from creditlab.architectures.block import Block
from creditlab.task import Task

TASK = Task((1, 3, 4), 3, 0.0, 1.0)
RULES = {"bp": Backpropagation, "ff": ForwardForward}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def convolutional():
    """float64, with pooling and normalisation by running statistics that are not the identity."""
    blocks = OrderedDict(
        conv1=Block(nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3)), nn.ReLU(), nn.MaxPool2d((1, 2))),
        conv2=Block(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(), nn.Flatten()),
        readout=nn.Linear(12, 3),
    )
    network = drawn(nn.Sequential(blocks).double().eval())
    norm = network[0].body[1]
    norm.running_mean.fill_(0.2)
    norm.running_var.fill_(0.5)
    return network


def mlp(widths=(7, 6), activation=nn.ReLU):
    """float64, weights and biases drawn from the stream of seed 0."""
    blocks, features = OrderedDict(), 12
    for i, width in enumerate(widths, 1):
        body = [nn.Flatten()] if i == 1 else []
        blocks[f"fc{i}"] = Block(nn.Sequential(*body, nn.Linear(features, width)), activation())
        features = width
    return drawn(nn.Sequential(blocks | {"readout": nn.Linear(features, 3)}).double().eval())


def drawn(network):
    stream = seeding.generator(0, "init")
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=stream) / (p[0].numel() if p.ndim > 1 else 10) ** 0.5)
    return network


def rule(name, network):
    """The learning rule as its YAML has it."""
    keys = yaml.safe_load((CONF / "algorithm" / f"{name}.yaml").read_text())
    del keys["_target_"]
    return RULES[name](network, TASK, None, generator(1), **keys).double()


def batch(n, features=None):
    """Samples of `TASK`, or of so many features, and labels."""
    shape = TASK.input_shape if features is None else (features,)
    return torch.randn(n, *shape, generator=generator(2), dtype=torch.float64), torch.arange(n) % 3


def forward(network, x):
    return network(x)
