"""Estimates of the gradient from its slope along random directions: SPSA, forward gradients, weight perturbation.

    ∂L/∂θ := 1/n Σ_i d_i v_i,   v_i ~ N(0, I),   d_i ≈ ⟨∇L, v_i⟩

    spsa                   d = (L(θ + εv) − L(θ − εv)) / 2ε      two passes      (es with antithetic pairs, raw fitness)
    weight_perturbation    d = (L(θ + σv) − L(θ)) / σ            one pass
    forward_gradient       d = ⟨∇L, v⟩ exactly                   one pass, in forward-mode differentiation

Each also takes one plain pass, which gives the scores and the running statistics. E[v vᵀ] = I, so the estimates are
unbiased (the first two as ε, σ → 0). With d parameters the expected cosine with the gradient is near √(n/(n + d)). A
direction is drawn again from the generator's state whenever it is needed; only forward gradients store it as a whole.

MeZO is spsa with n = 1, in place: it moves the weights of the network itself. The moves +ε, −2ε, +ε leave rounding
errors in the weights (`restore: arithmetic`); `exact` keeps a copy of the weights.

Source: Spall, IEEE Trans. Automatic Control 1992; Malladi et al., "Fine-tuning language models with just forward
passes", NeurIPS 2023 (arXiv 2305.17333); Baydin et al., "Gradients without backpropagation", arXiv 2202.08587; for
weight perturbation Jabri, Flower, IEEE Trans. Neural Networks 1992. MeZO's model is in evaluation mode, ours in
training mode.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from creditlab.algorithms.base import Algorithm, Batch, Draw, Readings, standard_normal, statistics_kept
from creditlab.keys import Positive, PositiveInt
from creditlab.task import Task

Along = Callable[[], Iterator[tuple[nn.Parameter, Tensor]]]
"""Gives every parameter with its part of one direction v. Each call gives the same direction."""


class Directional(Algorithm):
    """`directions` is n. A subclass defines how it measures a slope."""

    def __init__(
        self, network: nn.Sequential, task: Task, draw: Draw, generator: Generator, *, directions: PositiveInt
    ) -> None:
        super().__init__(network, task, draw, generator)
        self.directions = directions

    def slopes(self, network: nn.Sequential, x: Tensor, y: Tensor, loss: Tensor) -> Callable[[Along], Tensor]:
        """A function that gives the slope of the loss along a direction. `loss` is that of the unperturbed network."""
        raise NotImplementedError

    @torch.no_grad()
    def assign(self, network: nn.Sequential, batch: Batch) -> Readings:
        x, y, generator = batch.x, batch.y, batch.generator
        scores = network(x)
        loss = cross_entropy(scores, y)
        for p in network.parameters():
            p.grad = torch.zeros_like(p)
        slope = self.slopes(network, x, y, loss)
        for _ in range(self.directions):
            start = generator.get_state()

            def along(start: Tensor = start) -> Iterator[tuple[nn.Parameter, Tensor]]:
                generator.set_state(start)
                for p in network.parameters():
                    yield p, standard_normal(p, generator)

            d = slope(along) / self.directions
            for p, v in along():
                assert p.grad is not None
                p.grad.add_(v.mul_(d))
        return Readings(loss, scores)


class SPSA(Directional):
    """`epsilon` is ε. `inplace`: MeZO's form, which keeps no copy of the network. Only this form uses `restore`."""

    def __init__(
        self,
        network: nn.Sequential,
        task: Task,
        draw: Draw,
        generator: Generator,
        *,
        directions: PositiveInt,
        epsilon: Positive,
        inplace: bool,
        restore: Literal["exact", "arithmetic"],
    ) -> None:
        super().__init__(network, task, draw, generator, directions=directions)
        self.epsilon, self.inplace, self.restore = epsilon, inplace, restore

    def slopes(self, network: nn.Sequential, x: Tensor, y: Tensor, loss: Tensor) -> Callable[[Along], Tensor]:
        if self.inplace:
            return lambda along: self._in_place(network, x, y, along)
        at = loss_elsewhere(network, x, y)
        return lambda along: (at(along, self.epsilon) - at(along, -self.epsilon)) / (2 * self.epsilon)

    def _in_place(self, network: nn.Sequential, x: Tensor, y: Tensor, along: Along) -> Tensor:
        kept = [p.clone() for p in network.parameters()] if self.restore == "exact" else None

        def move(step: float) -> None:
            for p, v in along():
                p.add_(v, alpha=step)
            torch.clear_autocast_cache()  # it holds casts of the former weights

        def back() -> None:
            for p, before in zip(network.parameters(), kept or [], strict=True):
                p.copy_(before)
            torch.clear_autocast_cache()

        losses = []
        with statistics_kept(network):
            for step in (self.epsilon, -self.epsilon):
                move(step if kept or step > 0 else 2 * step)
                losses.append(cross_entropy(network(x), y))
                if kept:
                    back()
            if not kept:
                move(self.epsilon)
        return (losses[0] - losses[1]) / (2 * self.epsilon)


class WeightPerturbation(Directional):
    """`sigma` is σ."""

    def __init__(
        self,
        network: nn.Sequential,
        task: Task,
        draw: Draw,
        generator: Generator,
        *,
        directions: PositiveInt,
        sigma: Positive,
    ) -> None:
        super().__init__(network, task, draw, generator, directions=directions)
        self.sigma = sigma

    def slopes(self, network: nn.Sequential, x: Tensor, y: Tensor, loss: Tensor) -> Callable[[Along], Tensor]:
        at = loss_elsewhere(network, x, y)
        return lambda along: (at(along, self.sigma) - loss) / self.sigma


class ForwardGradient(Directional):
    """Needs forward-mode differentiation of every operation in the network."""

    def slopes(self, network: nn.Sequential, x: Tensor, y: Tensor, loss: Tensor) -> Callable[[Along], Tensor]:
        names = [name for name, _ in network.named_parameters()]

        def slope(along: Along) -> Tensor:
            with forward_ad.dual_level(), warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch raises it about its own code at the first use
                state = {n: forward_ad.make_dual(p.detach(), v) for n, (p, v) in zip(names, along(), strict=True)}
                state |= {n: b.clone() for n, b in network.named_buffers()}
                tangent = forward_ad.unpack_dual(cross_entropy(functional_call(network, state, (x,)), y)).tangent
                assert tangent is not None
                return tangent

        return slope


def loss_elsewhere(network: nn.Sequential, x: Tensor, y: Tensor) -> Callable[[Along, float], Tensor]:
    """A function that gives the loss at θ + step v. It uses a copy, so the network and its statistics do not change."""
    member = copy.deepcopy(network).requires_grad_(
        False
    )  # autocast caches the casts of parameters that require a gradient

    def loss(along: Along, step: float) -> Tensor:
        for (p, v), q in zip(along(), member.parameters(), strict=True):
            torch.add(p, v, alpha=step, out=q)
        return cross_entropy(member(x), y)

    return loss
