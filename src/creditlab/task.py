"""What a data set asks of a network: the one thing that networks and algorithms know about data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Task:
    """Classify inputs of `input_shape` (without the batch axis: (channels, height, width) or (features,)) into
    `classes`. `low` and `high` are the least and greatest value that an input entry takes after normalisation: what
    forward-forward writes a label with. `tokens`: entries are no numbers but integers below this, each the name of one
    kind of token (`input_shape` is then (context,)).

    A sample has one label, for its last token where it is of tokens. With `targets: all` each token of a training
    sample has one: labels of a batch are then (batch · context,), sample by sample, and so are the scores of a network
    in training mode. In evaluation mode it is one a sample as ever.
    """

    input_shape: tuple[int, ...]
    classes: int
    low: float
    high: float
    tokens: int | None = None
    targets: Literal["last", "all"] = "last"

    def blank(self, n: int) -> Tensor:
        """`n` inputs of zeros (n, *input_shape), to find shapes with."""
        return torch.zeros(n, *self.input_shape, dtype=torch.float32 if self.tokens is None else torch.int64)
