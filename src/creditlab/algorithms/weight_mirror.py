"""Weight mirrors: feedback weights learn the forward weights from noise that is sent through each layer separately.

    B ← (1 − d) B + r ⟨y xᵀ⟩,   y = φ(W x),   x ~ N(0, I)          then   δ_l = (B_{l+1} δ_{l+1}) ⊙ φ'(a_l)

E[y xᵀ] = ⟨φ'⟩ W for Gaussian x (Stein), so B tends to (r/d) ⟨φ'⟩ W: with ReLU, where ⟨φ'⟩ = ½, to W for r = 2 d. φ is
the activation of the layer's block; the read-out has none. A convolution is treated as a linear map on patches.

The mirror phase comes before the backward pass of every step. It does not use the step's data, only noise: `samples`
inputs for each layer, from the step's generator, without biases and normalisation. It does not learn by a gradient, so
it changes B directly; B is a buffer.

Source: Akrout, Wilson, Humphreys, Lillicrap, Tweed, "Deep learning without weight transport", NeurIPS 2019 (arXiv
1904.05391). Their code also uses one batch of noise per step, but uniform on ±0.05, with rate 0.01, with biases, with
the sigmoid as φ, and instead of the decay a rescaling of B that its last line does not store.
"""

from __future__ import annotations

import torch
from torch import Generator, nn

from creditlab.algorithms.base import Batch, Draw, Readings, standard_normal
from creditlab.algorithms.fa import FeedbackAlignment, registered
from creditlab.architectures.block import hidden_blocks, teaching
from creditlab.keys import Decay, Positive, PositiveInt
from creditlab.task import Task


class WeightMirror(FeedbackAlignment):
    """`rate` is r, `decay` is d. `scale` multiplies the initial feedback weights, which are drawn like the forward
    weights.
    """

    def __init__(
        self,
        network: nn.Sequential,
        task: Task,
        draw: Draw,
        generator: Generator,
        *,
        rate: Positive,
        decay: Decay,
        samples: PositiveInt,
        scale: Positive,
    ) -> None:
        super().__init__(network, task, draw, generator, scale=scale)
        self.rate, self.decay, self.samples = rate, decay, samples

    def assign(self, network: nn.Sequential, batch: Batch) -> Readings:
        with torch.autocast(batch.x.device.type, enabled=False):
            self._mirror(network, batch.generator)
        return super().assign(network, batch)

    @torch.no_grad()
    def _mirror(self, network: nn.Sequential, generator: Generator) -> None:
        activations = {name: block.activation for name, block in hidden_blocks(network)}
        for layer, weight in teaching(network).items():
            w = weight.flatten(1)  # (out, rest)
            x = standard_normal(w.new_empty(self.samples, w.shape[1]), generator)
            y = x @ w.T
            if activation := activations.get(layer.split(".")[0]):
                y = activation(y)
            b = self.get_buffer(registered(layer))
            b.mul_(1 - self.decay).add_((y.T @ x).view(b.shape), alpha=self.rate / self.samples)
