"""What a figure is, and what those that draw one are given."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import matplotlib.figure
import pandas as pd

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.table import Table

SHOWN = 6  # panels


@dataclass(frozen=True)
class Figure:
    """A figure, what it shows in a sentence or two, and the name of the table behind it."""

    name: str
    title: str
    caption: str
    table: str
    figure: matplotlib.figure.Figure


@dataclass(frozen=True)
class View:
    """What figures are drawn from. `factor` is what they compare: algorithm, optimiser, or the first factor."""

    sweep: Sweep
    frames: Mapping[str, pd.DataFrame]  # of the tables, by name
    factor: str

    @classmethod
    def of(cls, sweep: Sweep, tables: Mapping[str, Table]) -> View:
        chosen = next((f for f in sweep.factors if f in ("algorithm", "optimiser")), sweep.factors[0])
        return cls(sweep, {name: table.frame for name, table in tables.items()}, chosen)


Draw = Callable[[View], Iterator[Figure]]
FIGURES: list[tuple[str, Draw]] = []  # the table that each draws, in the order of their definition


def draws(table: str) -> Callable[[Draw], Draw]:
    """Have a function draw the rows of `table`."""

    def register(draw: Draw) -> Draw:
        FIGURES.append((table, draw))
        return draw

    return register


def over_seeds(factor: str) -> str:
    return f"Means over seeds by {factor}, with Student's interval of 95 % (a seed counts by the mean of its runs)."


def plain(name: str) -> str:
    """A name that can be part of a file's."""
    return re.sub(r"\W+", "_", name)
