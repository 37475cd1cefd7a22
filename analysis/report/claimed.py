"""The verdicts on claims in sentences, for the page and the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import pandas as pd

from creditlab.analysis.report.conclusions import Cell, Conclusion
from creditlab.analysis.report.words import in_words
from creditlab.analysis.table import Table

ESTIMATES = {"equivalence": "difference", "cell": "mean", "table": "value"}  # what is estimated, by kind of claim
Parts = list[str | Cell]
STATED = {
    "before the runs": "Stated before the runs.",
    "changed since": "Changed since it was stated.",
    "afterwards": "Written afterwards.",
    "not recorded": "When it was stated is not recorded.",
}


def of_claims(tables: Mapping[str, Table]) -> list[Conclusion]:
    """One conclusion per claim; none where no claims were judged."""
    return [Conclusion("Claims", parts) for parts in sentences(tables["claims"].frame)] if "claims" in tables else []


def sentences(claims: pd.DataFrame) -> Iterator[Parts]:
    """A sentence on each row of the table of claims."""
    for row, line in enumerate(claims.to_dict("records")):

        def cell(column: str, row: int = row) -> Cell:
            return Cell("claims", row, column, "number")

        parts: Parts = [f"{line['claim']}: {line['verdict']}"]
        parts += [f" ({line['why']})"] if line["why"] else []
        if not math.isnan(line["estimate"]):
            parts += [f". The {ESTIMATES.get(line['kind'], line['kind'])} is ", cell("estimate")]
        if not math.isnan(line["ci_low"]):
            parts += [f" ({line['level']:.0%} interval ".replace("%", " %"), cell("ci_low"), " to ", cell("ci_high")]
            parts += ["; ", cell("n_seeds"), " seeds)"]
        parts.append(f". The claim holds if this is {line['holds_if']}. ")
        if not pd.isna(line["seeds_needed"]):
            parts += [
                "About ",
                cell("seeds_needed"),
                " seeds would decide it, if estimate and spread stay as they are. ",
            ]
        parts.append(STATED[str(line["stated"])])
        yield parts


def shown(cell: Cell, claims: pd.DataFrame) -> str:
    return in_words(claims.iloc[cell.row][cell.column], cell.form)
