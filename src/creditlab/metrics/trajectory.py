"""The last gradients of a run, layer by layer: the dimensionality of its trajectory is computed from them.

A gradient with more entries than `projection` is kept as a count sketch (each entry is added, with a
random sign, to a random one of `projection` bins; both depend only on the layer's shape). The sketch is linear, so the
sketch of a trajectory has no higher rank than the trajectory. An inner product of two sketches is unbiased and has a
standard deviation of at most
√(2/projection) ‖g‖‖g'‖.

Source: Charikar, Chen, Farach-Colton, "Finding frequent items in data streams", 2002; Weinberger et al., "Feature
hashing", ICML 2009 (the inner product's variance).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from creditlab import seeding


class Trajectory:
    """`length` gradients, one every `spacing` steps; older ones are dropped."""

    def __init__(self, length: int, spacing: int, projection: int | None) -> None:
        self.length, self.spacing, self.projection = length, spacing, projection
        self.kept: dict[str, list[Tensor]] = {}
        self.bins: dict[torch.Size, tuple[Tensor, Tensor]] = {}

    def due(self, step: int) -> bool:
        """Whether the gradient of `step` (from 1) is one to keep."""
        return step % self.spacing == 0

    def add(self, gradients: Mapping[str, Tensor]) -> None:
        for layer, gradient in gradients.items():
            row = self.kept.setdefault(layer, [])
            row.append(self._sketch(gradient))
            del row[: -self.length]

    def seen(self) -> dict[str, Tensor]:
        """(gradients so far, entries) by layer."""
        return {layer: torch.stack(row) for layer, row in self.kept.items()}

    def restore(self, seen: Mapping[str, Tensor]) -> None:
        self.kept = {layer: list(rows.unbind()) for layer, rows in seen.items()}

    def _sketch(self, gradient: Tensor) -> Tensor:
        flat = gradient.flatten()
        if self.projection is None or len(flat) <= self.projection:
            return flat.clone()
        if gradient.shape not in self.bins:
            generator = seeding.generator(0, "trajectory", len(flat))
            place = torch.randint(self.projection, flat.shape, generator=generator)
            sign = torch.randint(2, flat.shape, generator=generator) * 2 - 1
            self.bins[gradient.shape] = place.to(flat.device), sign.to(flat)
        place, sign = self.bins[gradient.shape]
        return flat.new_zeros(self.projection).index_add_(0, place, sign * flat)
