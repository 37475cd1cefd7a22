"""What the tables say, in sentences, each number of which names the cell that it stands in.

A sentence is a list of words and of `Cell`s. A number is never written here: it is looked up when the sentence is
shown, so that text and table cannot disagree. No sentence computes a p or decides what is shown: it looks the verdict
up in a table, where all verdicts come from one scheme (`model.questions`), and the interval beside it is of the same
level.

A function that `says` something of a table is called where the table has rows. Any module of this room may hold some.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from string import Formatter
from typing import Literal

import pandas as pd

from creditlab.analysis.catalogue import statistics
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.names import outcome_of
from creditlab.analysis.table import Table

SHOWN = 4  # results that a sentence names

Form = Literal["count", "fraction", "percent", "points", "points without unit", "number", "p", "text"]
Frames = Mapping[str, pd.DataFrame]  # of all tables by name; without a row where there is no such table


@dataclass(frozen=True)
class Cell:
    """A cell of a table by row number, and how it is shown; with the other sign if `negated`."""

    table: str
    row: int
    column: str
    form: Form
    negated: bool = False


@dataclass(frozen=True)
class Conclusion:
    """A sentence; `claim` where it says that something is shown, and not only that nothing is."""

    topic: str
    parts: Sequence[str | Cell]
    claim: bool = True


Say = Callable[[Frames, Sequence[str]], Iterator[Conclusion]]
SENTENCES: list[tuple[int, str, Say]] = []  # place, the table that they are about, and the function


def says(table: str, place: int) -> Callable[[Say], Say]:
    """Have a function say what is to be said of `table`. Sentences appear in the order of `place`."""

    def register(say: Say) -> Say:
        SENTENCES.append((place, table, say))
        return say

    return register


def conclusions(tables: Mapping[str, Table], sweep: Sweep) -> list[Conclusion]:
    """What is to be said first, from the `tables` there are."""
    _import_all()
    frames = {
        name: tables[name].frame.reset_index(drop=True) if name in tables else one.empty()
        for name, one in statistics().items()
    }
    ordered = sorted(SENTENCES, key=lambda entry: entry[0])
    sentences = [one for _, name, say in ordered if len(frames[name]) for one in say(frames, sweep.factors)]
    return [*(Conclusion("How options are compared", [f"{line}."], claim=False) for line in sweep.tuned), *sentences]


@cache
def _import_all() -> None:
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")


def sentence(text: str, table: str, row: Hashable, **words: object) -> list[str | Cell]:
    """`text` with `{column:form}` for a cell of the row, `{-column:form}` for it with the other sign, and `{name}` for
    one of the words."""
    parts: list[str | Cell] = []
    for literal, name, form, _ in Formatter().parse(text):
        parts.append(literal)
        if name is None:
            continue
        if name in words:
            parts.append(str(words[name]))
        else:
            parts.append(Cell(table, int(str(row)), name.removeprefix("-"), form, name.startswith("-")))  # type: ignore[arg-type]
    return [part for part in parts if part != ""]


def ahead(row: Hashable, line: pd.Series, text: str, form: str, table: str = "posthoc") -> list[str | Cell]:
    """`text` of a pair of levels with the greater one first: {more}, {less}, {by}, {low} and {high} stand in it."""
    more, less = line["level_a"], line["level_b"]
    end = "points without unit" if form == "points" else form  # the unit stands after the difference
    cells = {"by": f"{{difference:{form}}}", "low": f"{{ci_low:{end}}}", "high": f"{{ci_high:{end}}}"}
    if line["difference"] < 0:
        more, less = less, more
        cells = {"by": f"{{-difference:{form}}}", "low": f"{{-ci_high:{end}}}", "high": f"{{-ci_low:{end}}}"}
    for name, cell in cells.items():
        text = text.replace(f"{{{name}}}", cell)
    words = {str(key): value for key, value in line.items() if isinstance(value, str)}
    return sentence(text, table, row, **(words | {"more": more, "less": less}))


def listed(items: Sequence[str]) -> str:
    """Names as a sentence lists them: a, b and c."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def outcome(frames: Frames) -> str | None:
    """The outcome of the sweep: the metric that has questions of its own."""
    tests = frames["multiplicity"]
    alone = [m for q, m in zip(tests["question"], tests["metric"], strict=True) if str(q).endswith(f": {m}")]
    return next(iter(alone), None) or outcome_of(list(dict.fromkeys(frames["posthoc"]["metric"])))  # two seeds: no test


def is_shown(frames: Frames, question: str, metric: str) -> bool:
    """Whether a test of the report is shown."""
    tests = frames["multiplicity"]
    rows = tests[(tests["question"] == question) & (tests["metric"] == metric)]
    return bool(rows["found"].any())
