"""Direct feedback alignment: each block receives the output error through a fixed random matrix of its own.

    e = softmax(a_L) − y,   ∂L/∂h_l := B_l e,   δ_l = (B_l e) ⊙ φ'(a_l),   ∂L/∂W_l := δ_l h_{l−1}ᵀ

h_l is the output of a block (in a convolutional block, after pooling). Inside a block the derivative is exact; no
derivative crosses from a block to the one below. The read-out learns by its exact gradient.

Source: Nøkland, "Direct feedback alignment provides learning in deep neural networks", NeurIPS 2016 (arXiv 1609.01596).
B_l ~ U(±scale/√classes). With `scale` 1 this is the range of the author's code (1/√fan-out of the feedback).

During training the read-out aligns with its B_{L−1}, and a layer between two blocks with B_l B_{l−1}ᵀ: Refinetti,
d'Ascoli, Ohana, Goldt, "Align, then memorise: the dynamics of learning with feedback alignment", ICML 2021 (arXiv
2011.12428).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn

from creditlab.algorithms.base import Draw, require_one_target
from creditlab.algorithms.bp import Backpropagation
from creditlab.architectures.block import hidden_blocks, readout, weights
from creditlab.keys import Positive
from creditlab.task import Task


class _Broadcast(torch.autograd.Function):
    """Returns the scores unchanged. In the backward pass their error e also goes to each block's output, as B e."""

    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, *outputs_and_matrices: Tensor) -> Tensor:
        return scores.view_as(scores)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1 + len(inputs) // 2 :])

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor | None, ...]:
        (error,) = errors  # (batch, classes), mean over the batch within
        sent = [torch.tensordot(error, b.to(error.dtype), 1) for b in ctx.saved_tensors]
        return error, *sent, *[None] * len(sent)


class DirectFeedbackAlignment(Backpropagation):
    """`scale` multiplies the range of the feedback weights. ValueError: targets at every token."""

    def __init__(
        self, network: nn.Sequential, task: Task, draw: Draw, generator: Generator, *, scale: Positive
    ) -> None:
        super().__init__(network, task, draw, generator)
        require_one_target(task, "a block receives one error of the output for each sample")
        bound = scale / math.sqrt(task.classes)
        h = task.blank(2)
        training = network.training
        network.eval()  # only shapes are needed: running statistics must not change
        with torch.no_grad():
            for name, block in hidden_blocks(network):
                h = block(h)
                b = torch.empty(task.classes, *h.shape[1:]).uniform_(-bound, bound, generator=generator)
                self.register_buffer(name, b)
        network.train(training)

    def feedback(self, network: nn.Sequential) -> dict[str, Tensor]:
        """Only for layers that are fully connected and the only one between the outputs of two blocks."""
        sent = {name: self.get_buffer(name).flatten(1) for name, _ in hidden_blocks(network)}  # (classes, units)
        last = next(reversed(network._modules))
        shapes = {layer: w.shape for layer, w in weights(network).items()}
        aligned = {
            above: sent[above].T @ sent[below]
            for below, above in pairwise(sent)
            if shapes.get(above) == (sent[above].shape[1], sent[below].shape[1])
        }
        return aligned | ({last: sent[list(sent)[-1]]} if sent else {})

    def scores(self, network: nn.Sequential, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        outputs, preactivations = {}, {}
        for name, block in hidden_blocks(network):
            preactivations[name] = block.body(x)
            outputs[name] = block.tail(block.activation(preactivations[name]))
            x = outputs[name].detach()
        matrices = [self.get_buffer(name) for name in outputs]
        scores = _Broadcast.apply(readout(network)(x), *outputs.values(), *matrices)
        return scores, preactivations | {next(reversed(network._modules)): scores}
