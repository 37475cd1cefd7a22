"""Initial weights. Every parameter is drawn from one generator, in the order of definition.

    default           U(±1/√fan_in), also for biases: the default of PyTorch
    kaiming_normal    N(0, 2/fan_in)                 kaiming_uniform   U with that variance
    xavier_normal     N(0, 2/(fan_in + fan_out))     xavier_uniform    U with that variance
    lecun_normal      N(0, 1/fan_in)
    orthogonal        orthonormal rows of the weight as (out, rest), or columns if there are fewer columns
    normal_fan_out    N(0, 1/fan_out)
    gpt2              N(0, 0.02²)

Embeddings are N(0, 0.02²) with `gpt2`, else N(0, 1), the default of PyTorch. Biases are zero except with `default`.
Normalisation starts as the identity. fan_in is the number of entries of a weight (out, in, height, width) per output
channel, fan_out that per input channel.

Sources: He et al. 2015 (kaiming), Glorot and Bengio 2010 (xavier), LeCun et al. 1998, Saxe et al. 2014 (orthogonal);
`normal_fan_out` is usual for forward-forward (Löwe's implementation); Radford et al. 2019 and its code (gpt2).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from creditlab.keys import Initialisation

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)


def _normal(variance: float) -> Callable[[Tensor, Generator], object]:
    return lambda w, g: w.normal_(0, math.sqrt(variance), generator=g)


def _uniform(variance: float) -> Callable[[Tensor, Generator], object]:
    bound = math.sqrt(3 * variance)
    return lambda w, g: w.uniform_(-bound, bound, generator=g)


def _filler(init: Initialisation, fan_in: int, fan_out: int) -> Callable[[Tensor, Generator], object]:
    """The function that fills a weight in place."""
    match init:
        case "default":
            return _uniform(1 / (3 * fan_in))
        case "kaiming_normal":
            return _normal(2 / fan_in)
        case "kaiming_uniform":
            return _uniform(2 / fan_in)
        case "xavier_normal":
            return _normal(2 / (fan_in + fan_out))
        case "xavier_uniform":
            return _uniform(2 / (fan_in + fan_out))
        case "lecun_normal":
            return _normal(1 / fan_in)
        case "orthogonal":
            return lambda w, g: nn.init.orthogonal_(w, generator=g)
        case "normal_fan_out":
            return _normal(1 / fan_out)
        case "gpt2":
            return _normal(0.02**2)


@torch.no_grad()
def initialise(network: nn.Sequential, init: Initialisation, generator: Generator) -> nn.Sequential:
    """Move `network` from the meta device to the memory of the CPU and fill it from `generator` (on the CPU)."""
    for name, module in network.named_modules():
        _materialise(module)
        if isinstance(module, nn.Linear | nn.Conv2d):
            out, fan_in = module.weight.flatten(1).shape
            fan_out = out * module.weight[0, 0].numel()
            fill = _filler(init, fan_in, fan_out)
            fill(module.weight, generator)
            if module.bias is not None and init == "default":
                fill(module.bias, generator)
            elif module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(0, 0.02 if init == "gpt2" else 1, generator=generator)
        elif isinstance(module, _NORMS):
            module.reset_parameters()
        elif [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
            raise ValueError(f"{name} is a {type(module).__name__}, which initialise cannot fill")
    return network


def _materialise(module: nn.Module) -> None:
    """Do what `to_empty` does, without the half second of imports at its first use."""
    for name, p in list(module.named_parameters(recurse=False)):
        setattr(module, name, nn.Parameter(torch.empty(p.shape, dtype=p.dtype)))
    for name, b in list(module.named_buffers(recurse=False)):
        setattr(module, name, torch.empty(b.shape, dtype=b.dtype))
