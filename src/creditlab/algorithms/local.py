"""Local losses: each hidden block learns from a head of its own, by itself or in addition to a teacher's gradient.

    L_l = (1 − β) CE(V_l h_l, y) + β ⟨(S(U_l h_l) − S(Y))²⟩          gradient := teacher's + weight · ∂L_l/∂θ_l

β = `similarity`: 0 is the layer-local cross-entropy (*pred*), 1 *sim*, 0.99 *predsim*. S(X) holds the cosines between
the samples' vectors, each minus its own mean. Y are the one-hot labels. θ_l are the parameters of block l; the local
loss has no derivative by the inputs of the block. U_l and V_l are heads, which are trained too.

`teacher`: with `none`, no gradient crosses a block, and the read-out learns by its cross-entropy. With `bp` and `fa`
the cross-entropy of the whole network is added, through the true weights or through random feedback weights as in
`fa`; inside a block of several layers the local loss then uses the same weights.

h_l is the activation of a block. Before V_l a feature map is averaged over parts, as many as give at most `features`
numbers. U_l is a 3 × 3 convolution of the map, and S uses the standard deviation of each channel over positions. A
sequence of tokens is a map of one row.

Source: Nøkland, Eidnes, "Training neural networks with local error signals", ICML 2019 (arXiv 1901.06656); the form of
the heads on feature maps from their code, which starts V_l at zero. The local loss that Boeshertz, Pascanu, Clopath
(arXiv 2606.11123, Fig. 5) add to feedback alignment's gradient is not published, nor its weight.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, mse_loss, normalize, one_hot

from creditlab.algorithms.base import Algorithm, Batch, Draw, Readings, clear_gradients, require_one_target
from creditlab.algorithms.fa import FeedbackAlignment, FeedbackMode
from creditlab.architectures.block import hidden_blocks, readout, teaching
from creditlab.architectures.initialise import initialise
from creditlab.keys import Fraction, NonNegative, PositiveInt
from creditlab.task import Task


class Head(nn.Module):
    """V (`classify`) and U (`compare`, used if `similarity` > 0) for activations like `h` (batch, units, …)."""

    def __init__(self, h: Tensor, classes: int, features: int, similarity: float) -> None:
        super().__init__()
        self.classes, self.similarity = classes, similarity
        self.parts: tuple[int, int] | None = None
        h = as_map(h)
        units, entries = h.shape[1], h[0].numel()
        if h.ndim == 4:
            rows, columns = h.shape[2:]
            side = max(1, features // units if rows == 1 else math.isqrt(features // units))
            if side < max(rows, columns):
                self.parts = (1 if rows == 1 else side, side)
                entries = units * math.prod(self.parts)
        if similarity < 1:
            self.classify = nn.Linear(entries, classes)
        if similarity > 0:
            maps = h.ndim == 4
            self.compare: nn.Module = (
                nn.Conv2d(units, units, 3, padding=1, bias=False) if maps else nn.Linear(entries, entries, bias=False)
            )

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        """The loss of activations `h` for labels `y`."""
        loss, h = h.new_zeros(()), as_map(h)
        if self.similarity < 1:
            seen = h if self.parts is None else adaptive_avg_pool2d(h, self.parts)
            loss = loss + (1 - self.similarity) * cross_entropy(self.classify(seen.flatten(1)), y)
        if self.similarity > 0:
            shown = self.compare(h if h.ndim == 4 else h.flatten(1))
            if shown.ndim == 4:
                shown = shown.flatten(2).std(2) if shown[0, 0].numel() > 1 else shown.flatten(1)
            labels = one_hot(y, self.classes).to(shown.dtype)
            loss = loss + self.similarity * mse_loss(similarities(shown), similarities(labels))
        return loss


def as_map(h: Tensor) -> Tensor:
    """(batch, units, tokens) as (batch, units, 1, tokens); other shapes are unchanged."""
    return h[:, :, None] if h.ndim == 3 else h


def similarities(x: Tensor) -> Tensor:
    """Cosines (samples, samples) between the rows of `x`, each minus its mean."""
    rows = normalize(x - x.mean(1, keepdim=True), dim=1, eps=1e-8)
    return rows @ rows.T


class Local(Algorithm):
    """The keys are explained in conf/algorithm/local.yaml. ValueError: a network without hidden blocks, or
    targets at every token.
    """

    def __init__(
        self,
        network: nn.Sequential,
        task: Task,
        draw: Draw,
        generator: Generator,
        *,
        teacher: Literal["none", "bp", "fa"],
        weight: NonNegative,
        similarity: Fraction,
        features: PositiveInt,
    ) -> None:
        super().__init__(network, task, draw, generator)
        if len(network) < 2:
            raise ValueError("local losses train hidden blocks, and the network has none; give it at least one")
        require_one_target(task, "a block's head predicts one label for each sample")
        self.teacher, self.weight = teacher, weight
        if teacher == "fa":  # drawn before the heads, so its feedback is that of `fa` with this seed
            self.random = FeedbackAlignment(network, task, draw, generator, scale=1.0)
        training = network.training
        network.eval()  # only shapes are needed: running statistics must not change
        with torch.no_grad():
            shapes = self.represent(network, task.blank(2))
        network.train(training)
        with torch.device("meta"):
            heads = nn.Sequential(
                OrderedDict((n, Head(h.to("meta"), task.classes, features, similarity)) for n, h in shapes.items())
            )
        self.heads = initialise(heads, "default", generator)

    def verify(self, network: nn.Sequential, x: Tensor) -> None:
        if self.teacher == "fa":
            self.random.verify(network, x)

    def feedback(self, network: nn.Sequential) -> dict[str, Tensor]:
        return self.random.feedback(network) if self.teacher == "fa" else {}

    def assign(self, network: nn.Sequential, batch: Batch) -> Readings:
        """`loss` is the loss of the read-out plus the weighted local losses; `errors` come from both."""
        x, y = batch.x, batch.y
        clear_gradients(network, self)
        forward_weights, feedback = teaching(network), self.feedback(network)
        partners: dict[Tensor, Tensor] = {forward_weights[layer]: b for layer, b in feedback.items()}
        local, preactivations = {}, {}
        with FeedbackMode(partners) if partners else nullcontext():
            for name, block in hidden_blocks(network):
                a = preactivations[name] = block.body(x)
                h = block.activation(a)
                local[name] = self.weight * self.heads.get_submodule(name)(h, y)
                x = block.tail(h.detach() if self.teacher == "none" else h)
            last = next(reversed(network._modules))
            scores = preactivations[last] = readout(network)(x)
        loss = cross_entropy(scores, y)
        if batch.probe:
            for a in preactivations.values():
                a.retain_grad()
        for name, block in hidden_blocks(network):
            learning: list[Tensor] = [*block.parameters(), *self.heads.get_submodule(name).parameters()]
            torch.autograd.backward(local[name], inputs=learning, retain_graph=self.teacher != "none")
        loss.backward()
        errors = {name: a.grad for name, a in preactivations.items() if batch.probe and a.grad is not None}
        return Readings(loss.detach() + sum(v.detach() for v in local.values()), scores.detach(), errors)
