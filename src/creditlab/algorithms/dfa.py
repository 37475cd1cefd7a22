"""Direct feedback alignment: the output error sent to every block by a fixed random matrix of its own.

    e = softmax(a_L) − y,   ∂L/∂h_l := B_l e,   δ_l = (B_l e) ⊙ φ'(a_l),   ∂L/∂W_l := δ_l h_{l−1}ᵀ

h_l is a block's output (after pooling, in a convolutional block); inside a block the derivative is exact, and none
crosses from a block to the one below. The read-out learns by its exact gradient.

Source: Nøkland, "Direct feedback alignment provides learning in deep neural networks", NeurIPS 2016 (arXiv 1609.01596).
B_l ~ U(±scale/√classes): with `scale` 1 the range of the author's code (1/√fan-out of the feedback).

The read-out comes to align with its B_{L−1}, a layer between two blocks with B_l B_{l−1}ᵀ: Refinetti, d'Ascoli, Ohana,
Goldt, "Align, then memorise: the dynamics of learning with feedback alignment", ICML 2021 (arXiv 2011.12428).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from creditlab.algorithms.base import Algorithm, Draw, Readings, clear_gradients, require_one_target
from creditlab.architectures.block import hidden_blocks, readout, weights
from creditlab.keys import Positive
from creditlab.task import Task


class DirectFeedbackAlignment(Algorithm):
    """`scale` multiplies the range of the feedback weights. ValueError: targets at every token."""

    def __init__(
        self, network: nn.Sequential, task: Task, draw: Draw, generator: Generator, *, scale: Positive
    ) -> None:
        super().__init__(network, task, draw, generator)
        require_one_target(task, "a block is sent one error of the output for each sample")
        bound = scale / math.sqrt(task.classes)
        h = task.blank(2)
        training = network.training
        network.eval()  # shapes only: running statistics stay as they are
        with torch.no_grad():
            for name, block in hidden_blocks(network):
                h = block(h)
                b = torch.empty(task.classes, *h.shape[1:]).uniform_(-bound, bound, generator=generator)
                self.register_buffer(name, b)
        network.train(training)

    def feedback(self, network: nn.Sequential) -> dict[str, Tensor]:
        """Of the layers that alone join the output of one block to the next, without a convolution."""
        sent = {name: self.get_buffer(name).flatten(1) for name, _ in hidden_blocks(network)}  # (classes, units)
        last = next(reversed(network._modules))
        shapes = {layer: w.shape for layer, w in weights(network).items()}
        found = {
            above: sent[above].T @ sent[below]
            for below, above in pairwise(sent)
            if shapes.get(above) == (sent[above].shape[1], sent[below].shape[1])
        }
        return found | ({last: sent[list(sent)[-1]]} if sent else {})

    def assign(
        self,
        network: nn.Sequential,
        x: Tensor,
        y: Tensor,
        *,
        generator: Generator,
        progress: float = 0.0,
        probe: bool = False,
    ) -> Readings:
        clear_gradients(network)
        outputs, preactivations = {}, {}
        for name, block in hidden_blocks(network):
            preactivations[name] = block.body(x)
            outputs[name] = block.tail(block.activation(preactivations[name]))
            x = outputs[name].detach()
        scores = readout(network)(x)
        loss = cross_entropy(scores, y)
        (error,) = torch.autograd.grad(loss, scores, retain_graph=True)  # (batch, classes), mean over the batch within
        if probe:
            for a in preactivations.values():
                a.retain_grad()
        sent = [torch.tensordot(error, self.get_buffer(name).to(error.dtype), 1) for name in outputs]
        torch.autograd.backward([*outputs.values(), loss], [*sent, None])
        errors = {name: a.grad for name, a in preactivations.items() if probe and a.grad is not None}
        if probe:
            errors[next(reversed(network._modules))] = error
        return Readings(loss.detach(), scores.detach(), errors)
