"""Backpropagation with noise on its gradient: how good does credit assignment have to be?

For the gradient g of each tensor (d entries) and z ~ N(0, I), by `measure` and its `amount` m:

    snr              g + ‖g‖ z / √(m d)                     E‖noise‖² = ‖g‖²/m          expected angle near arctan m^−½
    relative_norm    g + m ‖g‖ z/‖z‖                        ‖noise‖ = m ‖g‖
    angle            ‖g‖ (cos m · g/‖g‖ + sin m · z⊥/‖z⊥‖)  at m degrees, as long as g; z⊥ = z minus its part along g

`angle` keeps the length of the gradient; the others multiply it by about √(1 + 1/m) and √(1 + m²). A tensor with one
entry has no other direction, so `angle` does not change it.

Source: the gradient noise sweep that the study "geometry of credit assignment" announces, without naming its measure.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from creditlab.algorithms.base import Batch, Draw, Readings, standard_normal
from creditlab.algorithms.bp import Backpropagation
from creditlab.keys import NonNegative
from creditlab.task import Task


class NoisyBackpropagation(Backpropagation):
    """ValueError: an `amount` that is not possible with the `measure`."""

    def __init__(
        self,
        network: nn.Sequential,
        task: Task,
        draw: Draw,
        generator: Generator,
        *,
        measure: Literal["snr", "relative_norm", "angle"],
        amount: NonNegative,
    ) -> None:
        super().__init__(network, task, draw, generator)
        if measure == "snr" and amount == 0:
            raise ValueError("measure=snr, amount=0: a ratio of 0 leaves no signal; give more than 0")
        if measure == "angle" and amount > 180:
            raise ValueError(f"measure=angle, amount={amount:g}: must be in [0, 180], in degrees")
        self.measure, self.amount = measure, amount

    def assign(self, network: nn.Sequential, batch: Batch) -> Readings:
        """`errors` are those without noise."""
        readings = super().assign(network, batch)
        with torch.autocast(batch.x.device.type, enabled=False):
            for p in network.parameters():
                if p.grad is not None:
                    p.grad = self.noisy(p.grad, standard_normal(p, batch.generator))
        return readings

    def noisy(self, g: Tensor, z: Tensor) -> Tensor:
        """`g` with noise made from `z`, which has the shape of `g`."""
        norm = g.norm()
        if self.measure == "snr":
            return g + norm / math.sqrt(self.amount * g.numel()) * z
        if self.measure == "relative_norm":
            return g + self.amount * norm * z / z.norm()
        if g.numel() == 1 or norm == 0:
            return g
        unit = g / norm
        for _ in range(2):  # the second pass removes what rounding left
            z = z - (z * unit).sum() * unit
        angle = math.radians(self.amount)
        return norm * (math.cos(angle) * unit + math.sin(angle) * z / z.norm())
