"""Some rows of a tensor, without a copy of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


class Rows:
    """The rows `indices` (n,) of `whole`, in this order. They are copied only when they are asked for, a batch at a
    time, so two parts of a data set take no more memory than the data set.
    """

    def __init__(self, whole: Tensor, indices: Tensor) -> None:
        self.whole, self.indices = whole, indices

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def device(self) -> torch.device:
        return self.whole.device

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """As of the tensor of these rows."""
        assert dim == 0
        return self.whole.index_select(0, self.indices.index_select(0, index))

    def split(self, size: int) -> Iterator[Tensor]:
        """The rows, `size` at a time."""
        return (self.whole.index_select(0, part) for part in self.indices.split(size))

    def copy(self) -> Tensor:
        """All rows as a tensor of their own."""
        return self.whole.index_select(0, self.indices)
