"""Node perturbation: noise on all pre-activations; the change of each sample's loss rewards the noise of that sample.

    δ_l := 1/n Σ (L(a + σξ) − L(a))/σ · ξ_l,   ξ ~ N(0, I) for every sample and unit          ∂L/∂W_l := δ_l h_{l−1}ᵀ

The variance grows with the number of units; that of weight perturbation grows with the number of weights. One noisy
pass has the noise of all blocks at once, the read-out included. h_{l−1} comes from a pass without noise. Noise acts on
the pre-activation of a block: inside a block of several layers the derivative is exact (as in dfa). In a convolution
every position is a unit. As σ → 0 the estimate is unbiased, unless samples affect each other's loss, as with batch
normalisation.

Source: Williams, Machine Learning 1992 (REINFORCE); in this form Werfel, Xie, Seung, Neural Computation 2005; Dalm et
al., arXiv 2310.00965, who also decorrelate each layer's inputs (not done here) and do not publish their settings.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from creditlab.algorithms.base import (
    Algorithm,
    Batch,
    Draw,
    Readings,
    clear_gradients,
    require_one_target,
    standard_normal,
    statistics_kept,
)
from creditlab.architectures.block import hidden_blocks, readout
from creditlab.keys import Positive, PositiveInt
from creditlab.task import Task


class NodePerturbation(Algorithm):
    """`samples` is n, the noisy passes of a step; `sigma` is σ. ValueError: targets at every token."""

    def __init__(
        self,
        network: nn.Sequential,
        task: Task,
        draw: Draw,
        generator: Generator,
        *,
        samples: PositiveInt,
        sigma: Positive,
    ) -> None:
        super().__init__(network, task, draw, generator)
        require_one_target(task, "the change of a sample's one loss rewards the noise of that sample")
        self.samples, self.sigma = samples, sigma

    def assign(self, network: nn.Sequential, batch: Batch) -> Readings:
        x, y = batch.x, batch.y
        clear_gradients(network)
        preactivations, h = {}, x
        for name, block in hidden_blocks(network):
            preactivations[name] = block.body(h)
            h = block.tail(block.activation(preactivations[name])).detach()
        last = next(reversed(network._modules))
        scores = preactivations[last] = readout(network)(h)
        losses = cross_entropy(scores, y, reduction="none").detach()
        errors = {name: torch.zeros_like(a) for name, a in preactivations.items()}
        with torch.no_grad(), statistics_kept(network):
            for _ in range(self.samples):
                noise = {name: standard_normal(a, batch.generator) for name, a in preactivations.items()}
                slope = (self._noisy(network, x, y, noise) - losses) / (self.sigma * self.samples * len(y))
                for name, xi in noise.items():
                    errors[name] += slope.view(-1, *[1] * (xi.ndim - 1)).to(xi.dtype) * xi
        torch.autograd.backward(list(preactivations.values()), list(errors.values()))
        return Readings(losses.mean(), scores.detach(), errors if batch.probe else {})

    def _noisy(self, network: nn.Sequential, x: Tensor, y: Tensor, noise: dict[str, Tensor]) -> Tensor:
        """The loss (batch,) of each sample under noise."""
        for name, block in hidden_blocks(network):
            x = block.tail(block.activation(block.body(x) + self.sigma * noise[name]))
        last = next(reversed(network._modules))
        return cross_entropy(readout(network)(x) + self.sigma * noise[last], y, reduction="none")
