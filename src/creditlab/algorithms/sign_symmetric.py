"""Sign-symmetric feedback: the backward pass uses the signs of the transposed weights, but not their sizes.

    usf:  B = s sign(W)          brsf:  B = |R_t| sign(W), a new R_t in each pass          frsf:  B = |R| sign(W)

    δ_l = (B_{l+1} δ_{l+1}) ⊙ φ'(a_l),   ∂L/∂W_l := δ_l h_{l−1}ᵀ

B follows the current sign of W: after a weight crosses zero, it sends errors back with its new sign. s is `scale` times
the root mean square of the layer's initial weights, and R ~ U(±√3 s) has the same root mean square. With Xavier's
initialisation this is BioTorch's s = √(2/(fan_in + fan_out)); with PyTorch's default it is its alternative
1/√(3 fan_in). As with feedback alignment, every layer below the read-out receives its error through B, and all but
linear maps and convolutions is exact. (Xiao et al. use the true weights of the last layer by default.)

Source: Liao, Leibo, Poggio, "How important is weight symmetry in backpropagation?", AAAI 2016 (arXiv 1510.05067); Xiao
et al., arXiv 1811.03567; Sanfiz, Akrout, arXiv 2108.13446, whose code uses these names.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from creditlab.algorithms.base import Batch, Draw, Readings
from creditlab.algorithms.fa import FeedbackRule, registered
from creditlab.architectures.block import teaching
from creditlab.keys import Positive
from creditlab.task import Task


class SignSymmetric(FeedbackRule):
    """`size` says how large the entries of B are; `scale` multiplies them. ValueError: weights that start at zero,
    which have no sign.
    """

    def __init__(
        self,
        network: nn.Sequential,
        task: Task,
        draw: Draw,
        generator: Generator,
        *,
        size: Literal["uniform", "fixed", "redrawn"],
        scale: Positive,
    ) -> None:
        super().__init__(network, task, draw, generator)
        self.size = size
        self.rms = {layer: scale * w.detach().square().mean().sqrt().item() for layer, w in teaching(network).items()}
        if zero := [layer for layer, rms in self.rms.items() if rms == 0]:
            raise ValueError(f"{zero[0]} starts at zero, so its weights have no sign to send errors with")
        for layer, w in teaching(network).items():
            sizes = torch.full_like(w, self.rms[layer], requires_grad=False)
            self.register_buffer(registered(layer), sizes)
        if size != "uniform":
            self._redraw(generator)

    def feedback(self, network: nn.Sequential) -> dict[str, Tensor]:
        """If R is redrawn, the feedback of the last pass."""
        return {layer: self.get_buffer(registered(layer)) * w.detach().sign() for layer, w in teaching(network).items()}

    def assign(self, network: nn.Sequential, batch: Batch) -> Readings:
        if self.size == "redrawn":
            self._redraw(batch.generator)
        return super().assign(network, batch)

    def _redraw(self, generator: Generator) -> None:
        for layer, rms in self.rms.items():
            sizes = self.get_buffer(registered(layer))
            r = torch.empty(sizes.shape, dtype=sizes.dtype, device=generator.device)
            sizes.copy_(r.uniform_(0, math.sqrt(3) * rms, generator=generator))
