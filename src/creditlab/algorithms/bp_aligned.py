"""Backpropagation with a penalty on the angles between a layer's units: can an objective bring about alignment?

    L = CE + weight · Σ_l ⟨(cos(w_i, w_j) − cos)²⟩_{i≠j}           w_i the rows of W_l as (out, rest)

The sum is over the weights of the hidden layers. It leaves out the read-out, and embeddings, whose rows are not units.
cos = 1 pulls all units of a layer into one direction; cos = 0 pulls them to be orthogonal, as "ff with orthogonality"
does (there the mean includes the diagonal, which is 0).

Source: the control of the study "geometry of credit assignment", which forces backpropagation's units together "with a
penalty term" and reports angles of 89.9° before and 89.7° after. The study does not give the form, weight, target and
layers of the penalty.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import normalize

from creditlab.algorithms.base import Batch, Draw, Readings
from creditlab.algorithms.bp import Backpropagation
from creditlab.architectures.block import embeddings, readout, weights
from creditlab.keys import NonNegative, Range
from creditlab.task import Task


class AlignedBackpropagation(Backpropagation):
    """`weight` is that of the penalty, `cosine` its target. ValueError: a network without hidden layers."""

    def __init__(
        self,
        network: nn.Sequential,
        task: Task,
        draw: Draw,
        generator: Generator,
        *,
        weight: NonNegative,
        cosine: Annotated[float, Range(-1, 1)],
    ) -> None:
        super().__init__(network, task, draw, generator)
        if not hidden(network):
            raise ValueError("the penalty acts on hidden layers, and the network has none; give it at least one")
        self.weight, self.cosine = weight, cosine

    def assign(self, network: nn.Sequential, batch: Batch) -> Readings:
        """`loss` includes the penalty; `errors` are those of the cross-entropy only."""
        readings = super().assign(network, batch)
        with torch.autocast(batch.x.device.type, enabled=False):
            pull = self.weight * torch.stack([misalignment(w, self.cosine) for w in hidden(network)]).sum()
            pull.backward()  # adds to the gradients
        readings.loss = readings.loss + pull.detach()
        return readings


def hidden(network: nn.Sequential) -> list[Tensor]:
    """The weights whose rows are hidden units."""
    free = {*embeddings(network), readout(network).weight}
    return [w for w in weights(network).values() if w not in free]


def misalignment(weight: Tensor, cosine: float) -> Tensor:
    """⟨(cos(w_i, w_j) − cosine)²⟩ over pairs of different rows of `weight` (out, …); 0 if there is only one row."""
    rows = normalize(weight.flatten(1), dim=1)
    n = len(rows)
    squares = (rows @ rows.T - cosine).square()
    return (squares.sum() - squares.diagonal().sum()) / max(n * (n - 1), 1)
