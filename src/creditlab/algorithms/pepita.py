"""PEPITA: a second forward pass, on an input changed by the error, replaces the backward pass.

    e = softmax(a_L) − y,   x' = x + F e,   h'_l the activations of x'
    ∂L/∂W_l := (h_l − h'_l) h'_{l−1}ᵀ with h'_0 = x',   ∂L/∂W_L := e h'_{L−1}ᵀ          (means over the batch)

The difference h_l − h'_l replaces the derivative at the block's pre-activation, without φ'. Inside a block of several
layers, and for biases and gains, the derivative is exact from there. F is fixed and uniform on ±scale √(6/entries),
with the number of entries of an input. Only the first pass updates running statistics.

Source: Dellaferrera, Kreiman, "Error-driven input modulation: solving the credit assignment problem without a backward
pass", ICML 2022, and its code: scale 0.05, networks without biases, with dropout. For the read-out of networks with two
fully connected layers the code uses the error of the second pass; the paper uses that of the first, as here.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from creditlab.algorithms.base import Algorithm, Batch, Draw, Readings, clear_gradients, forward, statistics_kept
from creditlab.architectures.block import hidden_blocks, readout
from creditlab.keys import Positive
from creditlab.task import Task


class Pepita(Algorithm):
    """`scale` multiplies the range of F. ValueError: a network without hidden blocks, or inputs that are tokens."""

    def __init__(
        self, network: nn.Sequential, task: Task, draw: Draw, generator: Generator, *, scale: Positive
    ) -> None:
        super().__init__(network, task, draw, generator)
        if len(network) < 2:
            raise ValueError(
                "pepita compares the activations of hidden blocks, and the network has none; give it at least one"
            )
        if task.tokens is not None:
            raise ValueError(
                "pepita adds the error to the input, but inputs are tokens, which are not numbers: use another "
                "algorithm (bp, fa, dfa, es) or a data set of images"
            )
        bound = scale * math.sqrt(6 / math.prod(task.input_shape))
        projection = torch.empty(task.classes, *task.input_shape).uniform_(-bound, bound, generator=generator)
        self.register_buffer("projection", projection)

    def assign(self, network: nn.Sequential, batch: Batch) -> Readings:
        """`errors` are the differences divided by the batch size. The gradients of the weights use the inputs of the
        second pass.
        """
        x, y = batch.x, batch.y
        clear_gradients(network)
        with torch.no_grad():
            scores, preactivations = forward(network, x)
            error = (scores.softmax(1) - one_hot(y, scores.shape[1])) / len(y)
            x = x + len(y) * torch.tensordot(error.to(x.dtype), self.get_buffer("projection").to(x.dtype), 1)
        errors: dict[str, Tensor] = {}
        with statistics_kept(network):
            for name, block in hidden_blocks(network):
                a = block.body(x)
                with torch.no_grad():
                    h = block.activation(a)
                    errors[name] = (block.activation(preactivations[name]) - h) / len(y)
                    x = block.tail(h)
                a.backward(errors[name])
            last = readout(network)(x)
            errors[next(reversed(network._modules))] = error
            last.backward(error.to(last.dtype))
        return Readings(cross_entropy(scores, y), scores, errors if batch.probe else {})
