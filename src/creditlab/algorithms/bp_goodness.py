"""Backpropagation on forward-forward's objective: the same losses, the exact gradient of their sum.

    L = Σ_l ½ ⟨softplus(θ − g_l⁺)⟩ + ½ ⟨softplus(g_l⁻ − θ)⟩,   ∂L/∂W_l with the terms of all blocks from l up

Labels, negatives, goodness, division by the length, extras and read-out are those of `ff` with the same keys; all that
differs is that a block learns for those above it too. It tells objective from credit assignment: ff and bp differ in
both, ff and this in credit assignment alone, this and bp in the objective alone. A straight-through ReLU would bend the
gradient that comes from above, so the option has `straight_through: false`.

Source: forward-forward as in `ff` (Hinton, arXiv 2212.13345); the question from Tosato et al., arXiv 2305.18353, who
train a goodness objective by backpropagation too (with a goodness and keys of their own).
"""

from __future__ import annotations

from typing import Any

from torch import Generator, nn

from creditlab.algorithms.base import Draw
from creditlab.algorithms.ff import ForwardForward
from creditlab.task import Task


class BackpropagationOfGoodness(ForwardForward):
    """The keys are those of forward-forward. ValueError, beside its own: `layers: sequential`."""

    crosses = True

    def __init__(self, network: nn.Sequential, task: Task, draw: Draw, generator: Generator, **keys: Any) -> None:
        if keys["layers"] != "simultaneous":
            raise ValueError(
                f"layers={keys['layers']} trains one block at a time, and backpropagation is of all blocks' losses; "
                "use layers=simultaneous"
            )
        super().__init__(network, task, draw, generator, **keys)
