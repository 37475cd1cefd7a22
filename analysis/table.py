"""One shape for every result: a table that says what it is, what one row is and what each column means.

A statistic is a function of a sweep (or of the fits of its metrics) that returns a frame, or a frame and notes:

    @statistic("Pairwise comparisons", "One row per metric and pair of levels.", {"metric": "…", …}, place=80)
    def posthoc(fits: Fits) -> pd.DataFrame: …

`posthoc(fits)` is then a `Table`, computed once for each `fits` however often it is asked for. A new table needs
nothing but the decorator: the command line, the files, the report and the docs find it by themselves (`catalogue`).
"""

from __future__ import annotations

import html
import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import update_wrapper, wraps
from typing import Any, NamedTuple, Protocol, TypeVar

import pandas as pd

FURTHER = "…"  # the name under which a table describes all columns that it does not name
SHOWN = 20  # rows that a notebook shows


class Column(NamedTuple):
    """What a column holds. `unit` is empty for names, counts, shares and other pure numbers."""

    meaning: str
    unit: str = ""


@dataclass(frozen=True, repr=False)
class Table:
    """`row` says in a sentence what one row is; `notes` say what was left out, and why."""

    name: str
    title: str
    row: str
    columns: Mapping[str, Column]
    frame: pd.DataFrame
    notes: Sequence[str] = ()

    def column(self, name: str) -> Column:
        """What the column `name` of the frame holds."""
        return self.columns.get(name) or self.columns[FURTHER]

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        return f"<Table {self.name}: {len(self)} rows × {self.frame.shape[1]} columns. {self.row}>"

    def _repr_html_(self) -> str:
        """How Jupyter shows the table: title, what a row is, the first rows, notes."""
        more = f"<p>… and {len(self) - SHOWN} more rows in <code>.frame</code></p>" if len(self) > SHOWN else ""
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        rows = self.frame.head(SHOWN).to_html(index=False, float_format="{:.4g}".format, na_rep="–")
        return (
            f"<h4>{html.escape(self.title)}</h4><p>{html.escape(self.row)}</p>"
            f"{rows}{more}{f'<ul>{notes}</ul>' if notes else ''}"
        )


class Source(Protocol):
    """What a statistic is computed from: a sweep, or the fits of its metrics."""

    @property
    def made(self) -> dict[Hashable, Any]: ...  # what has been computed from it

    @property
    def sweep(self) -> Any: ...


Result = TypeVar("Result")


def once(compute: Callable[..., Result]) -> Callable[..., Result]:
    """Have `compute(source, **options)` compute once for each source and choice of options."""

    signature = inspect.signature(compute)

    @wraps(compute)
    def remembered(source: Source, *options: Any, **named: Any) -> Result:
        given = signature.bind(source, *options, **named)
        given.apply_defaults()
        _, *arguments = given.arguments.items()
        key = (compute.__module__, compute.__qualname__, repr(arguments))
        if key not in source.made:
            source.made[key] = compute(source, *options, **named)
        return source.made[key]

    return remembered


class Statistic:
    """A function that makes a table, with all that is to be said of the table before there is one.

    It takes what its first parameter is named after, `sweep` or `fits`. One that takes a sweep takes fits as well, and
    uses their sweep. Further arguments are those of the function.
    """

    def __init__(
        self, compute: Callable[..., Any], title: str, row: str, columns: Mapping[str, Column], place: int
    ) -> None:
        self.name, self.title, self.row, self.columns, self.place = compute.__name__, title, row, columns, place
        self.of_fits = next(iter(inspect.signature(compute).parameters)) == "fits"
        self.compute = once(compute)
        update_wrapper(self, compute)

    def __call__(self, source: Source, *options: Any, **named: Any) -> Table:
        computed = self.compute(source if self.of_fits else source.sweep, *options, **named)
        frame, notes = computed if isinstance(computed, tuple) else (computed, ())
        assert FURTHER in self.columns or list(frame) == list(self.columns), f"{self.name}: {list(frame)}"
        return Table(self.name, self.title, self.row, self.columns, frame, notes)

    def empty(self) -> pd.DataFrame:
        """The frame of a table without a row."""
        return pd.DataFrame(columns=list(self.columns))

    def __repr__(self) -> str:
        return f"<Statistic {self.name}({'fits' if self.of_fits else 'sweep'}): {self.row}>"


STATISTICS: dict[str, Statistic] = {}  # by name; `catalogue.statistics` sees that all modules have been imported


def statistic(
    title: str, row: str, columns: Mapping[str, str | tuple[str, str]], *, place: int
) -> Callable[[Callable[..., Any]], Statistic]:
    """Make a function a `Statistic`, known by the function's name.

    `columns` gives the meaning of each column in the frame's order, or a pair of meaning and unit. Tables appear in the
    order of `place`.
    """

    def register(compute: Callable[..., Any]) -> Statistic:
        described = {name: Column(text) if isinstance(text, str) else Column(*text) for name, text in columns.items()}
        made = Statistic(compute, title, row, described, place)
        assert made.name not in STATISTICS, f"two statistics are named {made.name}"
        STATISTICS[made.name] = made
        return made

    return register


def stacked(frames: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """The rows of all `frames` that have any, with `columns` in their order."""
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True)[list(columns)] if filled else pd.DataFrame(columns=list(columns))
