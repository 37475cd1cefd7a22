"""Feedback weights that learn from the same signals as the forward weights, so no forward weight is used backwards.

    G = δ_l h_{l−1}ᵀ + c W_l,   δ_l = (F_{l+1} δ_{l+1}) ⊙ φ'(a_l)

Kolen-Pollack (kp):  F = B,  and B receives the change of W:  G_B = δ_l h_{l−1}ᵀ + c B. Under SGD with rate η their
difference shrinks by λ = 1 − ηc per step:  W − B → λᵗ (W₀ − B₀). With c = 0 it stays, and their angle falls only as
both grow. Adaptive optimisers treat the two alike but do not change them alike (c W ≠ c B); the optimiser's own
decoupled decay, used instead of c, keeps the law exact for any optimiser.

Product feedback alignment (pfa):  F = B R,  B (out, mid) fixed with entries N(0, 1/mid), mid = `expand_ratio` × out,
and R (mid, rest) receives  G_R = (Bᵀ δ_l) h_{l−1}ᵀ + c R.  So under SGD  B Bᵀ W − B R  shrinks by λ. Since B Bᵀ ≈ I,
the product turns towards W, up to an angle of about arctan √(1/expand_ratio).

A rule never steps an optimiser. So B and R are parameters of the rule, with their own gradients, in the optimiser group
(`role`) of the weight that they belong to. Only weights that errors are sent through have such a parameter, and decay.

Source: Kolen, Pollack, "Backpropagation without weight transport", ICNN 1994; Akrout et al., "Deep learning without
weight transport", NeurIPS 2019 (arXiv 1904.05391). Li, Benna, "Deep learning without weight symmetry", arXiv
2405.20594, whose code has expand_ratio 10, R from Xavier's range, and decay 0.005 (CIFAR-10) or 0.03 (MNIST), later
lowered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

from creditlab.algorithms.base import Batch, Draw, Readings
from creditlab.algorithms.fa import FeedbackRule, drawn_anew, registered
from creditlab.architectures.block import grouped, parameter_groups, teaching
from creditlab.keys import NonNegative, Positive
from creditlab.task import Task


class LearnedFeedback(FeedbackRule):
    """`learned`: by layer, the parameter's initial value. `decay` is c."""

    def __init__(
        self,
        network: nn.Sequential,
        task: Task,
        draw: Draw,
        generator: Generator,
        learned: Mapping[str, Tensor],
        decay: float,
    ) -> None:
        super().__init__(network, task, draw, generator)
        self.decay = decay
        roles = {p: group["role"] for group in parameter_groups(network) for p in group["params"]}
        self.roles = {registered(layer): roles[w] for layer, w in teaching(network).items()}
        for layer, value in learned.items():
            self.register_parameter(registered(layer), nn.Parameter(value.detach().clone()))

    def share(self, layer: str, gradient: Tensor) -> Tensor:
        """The gradient of the layer's parameter, from the `gradient` of its weight; both without decay."""
        return gradient

    def parameter_groups(self) -> list[dict]:
        return grouped((name, p, self.roles[name]) for name, p in self.named_parameters())

    def assign(self, network: nn.Sequential, batch: Batch) -> Readings:
        readings = super().assign(network, batch)
        with torch.no_grad(), torch.autocast(batch.x.device.type, enabled=False):
            for layer, w in teaching(network).items():
                assert w.grad is not None
                parameter = self.get_parameter(registered(layer))
                parameter.grad = self.share(layer, w.grad) + self.decay * parameter
                w.grad.add_(w, alpha=self.decay)
        return readings


class KolenPollack(LearnedFeedback):
    """`scale` multiplies the initial feedback weights, which are drawn like the forward weights."""

    def __init__(
        self,
        network: nn.Sequential,
        task: Task,
        draw: Draw,
        generator: Generator,
        *,
        decay: NonNegative,
        scale: Positive,
    ) -> None:
        learned = {layer: b * scale for layer, b in drawn_anew(network, draw, generator).items()}
        super().__init__(network, task, draw, generator, learned, decay)

    def feedback(self, network: nn.Sequential) -> dict[str, Tensor]:
        return {layer: self.get_parameter(registered(layer)).detach() for layer in teaching(network)}


class ProductFeedbackAlignment(LearnedFeedback):
    """`scale` multiplies the initial R, which is drawn so that B R has the spread of W."""

    def __init__(
        self,
        network: nn.Sequential,
        task: Task,
        draw: Draw,
        generator: Generator,
        *,
        expand_ratio: Positive,
        decay: NonNegative,
        scale: Positive,
    ) -> None:
        fixed, learned = {}, {}
        for layer, w in teaching(network).items():
            middle = math.ceil(expand_ratio * len(w))
            rms = w.detach().square().mean().sqrt()
            fixed[layer] = torch.randn(len(w), middle, generator=generator) / math.sqrt(middle)
            learned[layer] = scale * rms * torch.randn(middle, *w.shape[1:], generator=generator)
        super().__init__(network, task, draw, generator, learned, decay)
        for layer, b in fixed.items():
            self.register_buffer(f"fixed_{registered(layer)}", b)

    def feedback(self, network: nn.Sequential) -> dict[str, Tensor]:
        products = {}
        for layer, w in teaching(network).items():
            b, r = self.get_buffer(f"fixed_{registered(layer)}"), self.get_parameter(registered(layer)).detach()
            products[layer] = (b @ r.flatten(1)).view(w.shape)
        return products

    def share(self, layer: str, gradient: Tensor) -> Tensor:
        b = self.get_buffer(f"fixed_{registered(layer)}")
        return (b.T @ gradient.flatten(1)).view(-1, *gradient.shape[1:])
