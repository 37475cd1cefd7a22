"""What a data set asks of a network: the one thing that networks and algorithms know about data."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Task:
    """Classify inputs of `input_shape` (without the batch axis: (channels, height, width) or (features,)) into
    `classes`. `low` and `high` are the least and greatest value that an input entry takes after normalisation: what
    forward-forward writes a label with. `tokens`: entries are no numbers but integers below this, each the name of one
    kind of token (`input_shape` is then (context,)).
    """

    input_shape: tuple[int, ...]
    classes: int
    low: float
    high: float
    tokens: int | None = None

    def blank(self, n: int) -> Tensor:
        """`n` inputs of zeros (n, *input_shape), to find shapes with."""
        return torch.zeros(n, *self.input_shape, dtype=torch.float32 if self.tokens is None else torch.int64)
