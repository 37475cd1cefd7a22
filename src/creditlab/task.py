"""What a data set asks of a network. Networks and algorithms know nothing else about the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Task:
    """Classify inputs of `input_shape` into `classes`.

    `input_shape` has no batch axis: it is (channels, height, width), (features,) or (context,). `low` and `high` are
    the smallest and the largest value of an input entry after normalisation; forward-forward writes labels with them.
    If `tokens` is given, the entries of an input are not quantities: they are integers below `tokens`, each of which
    names one kind of token.

    A sample has one label. If the sample consists of tokens, it is the label of the last token. With `targets: all`
    every token of a training sample has a label. The labels of a batch are then (batch · context,), sample by sample,
    and so are the scores of a network in training mode. In evaluation mode there is still one label per sample.
    """

    input_shape: tuple[int, ...]
    classes: int
    low: float
    high: float
    tokens: int | None = None
    targets: Literal["last", "all"] = "last"

    def blank(self, n: int) -> Tensor:
        """`n` inputs of zeros (n, *input_shape), for finding shapes."""
        return torch.zeros(n, *self.input_shape, dtype=torch.float32 if self.tokens is None else torch.int64)
