"""The kinds of value that a config key can take, as annotations of the parameters that receive them.

A range is part of a parameter's type (`sigma: Positive`). One statement then serves the reader, the type checker and
`config.checked_config`, which refuses a wrong value before the first run of a sweep starts.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Literal


@dataclass(frozen=True)
class Range:
    """The interval from `low` to `high`. Each end belongs to it unless that end is open."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'more than' if self.open_low else 'at least'} {self.low:g}"
        if self.low == -math.inf:
            return f"{'less than' if self.open_high else 'at most'} {self.high:g}"
        return f"in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}"


@dataclass(frozen=True)
class Words:
    """Text that a regular expression matches as a whole. `description` says to the user which texts those are."""

    pattern: str
    description: str

    def __contains__(self, value: str) -> bool:
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return self.description


Positive = Annotated[float, Range(0, open_low=True)]
NonNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]  # 0 and 1 included
Decay = Annotated[float, Range(0, 1, open_high=True)]  # the weight of the past in a running mean
Count = Annotated[int, Range(0)]
PositiveInt = Annotated[int, Range(1)]
FOLDER_NAME = r"\w[\w.+=-]*(/\w[\w.+=-]*)*"
Folder = Annotated[str, Words(FOLDER_NAME, "of letters, digits and ._+=- (/ between folders)")]

# Names that several architectures share. See `architectures.block.ACTIVATIONS` and `architectures.initialise`.
Activation = Literal["relu", "leaky_relu", "tanh", "sigmoid", "gelu", "identity"]
Initialisation = Literal[
    "default",
    "kaiming_normal",
    "kaiming_uniform",
    "xavier_normal",
    "xavier_uniform",
    "lecun_normal",
    "orthogonal",
    "normal_fan_out",
    "gpt2",
]
