"""Backpropagation on forward-forward's objective: the same losses, the exact gradient of their sum.

    L = Σ_l ½ ⟨softplus(θ − g_l⁺)⟩ + ½ ⟨softplus(g_l⁻ − θ)⟩,   ∂L/∂W_l with the terms of all blocks from l up

Labels, negatives, goodness, division by the length, extras and read-out are those of `ff` with the same keys. The only
difference is that a block also learns for the blocks above it. This separates objective and credit assignment: ff and
bp differ in both, ff and this rule only in credit assignment, this rule and bp only in the objective. A
straight-through ReLU would change the gradient that comes from above, so the option has `straight_through: false`.

Source: forward-forward as in `ff` (Hinton, arXiv 2212.13345); the question from Tosato et al., arXiv 2305.18353, who
also train a goodness objective by backpropagation (with another goodness and other keys).
"""

from __future__ import annotations

from typing import Any

from torch import Generator, nn

from creditlab.algorithms.base import Draw
from creditlab.algorithms.ff import ForwardForward
from creditlab.task import Task


class BackpropagationOfGoodness(ForwardForward):
    """The keys are those of forward-forward. ValueError: as forward-forward, and for `layers: sequential`."""

    crosses = True

    def __init__(self, network: nn.Sequential, task: Task, draw: Draw, generator: Generator, **keys: Any) -> None:
        if keys["layers"] != "simultaneous":
            raise ValueError(
                f"layers={keys['layers']} trains one block at a time, but backpropagation uses the losses of all "
                "blocks; use layers=simultaneous"
            )
        super().__init__(network, task, draw, generator, **keys)
