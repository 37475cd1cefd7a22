"""What a data set asks of a network: the one thing that networks and algorithms know about data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """Classify inputs of `input_shape` (without the batch axis: (channels, height, width) or (features,)) into
    `classes`. `low` and `high` are the least and greatest value that an input entry takes after normalisation: what
    forward-forward writes a label with.
    """

    input_shape: tuple[int, ...]
    classes: int
    low: float
    high: float
