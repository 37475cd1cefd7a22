"""A table as a file: CSV and Parquet to compute with, LaTeX (booktabs) and Markdown to put into a text.

What is for reading has three significant digits, and names escaped, so that no metric or option can break the page.
"""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pandas as pd

from creditlab.files import visible

SUFFIXES = {"csv": "csv", "parquet": "parquet", "latex": "tex", "markdown": "md"}  # name → suffix
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
FORMULA = ("=", "+", "-", "@", "\t", "＝", "＋", "－", "＠")  # what a formula begins with, in full width too
SYMBOLS = {"η": r"$\eta$", "ω": r"$\omega$", "²": r"$^2$", "ρ": r"$\rho$", "×": r"$\times$", "–": "--"}


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "–" if np.isnan(value) else f"{value:.3g}"
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", str(value))


def _latex(text: str) -> str:
    return "".join(LATEX.get(c) or SYMBOLS.get(c) or (f"\\{c}" if c in "&%$#_{}" else c) for c in text)


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|~&])", r"\\\1", text)


def latex(table: pd.DataFrame) -> str:
    """A `tabular` with the rules of booktabs: names to the left, numbers to the right."""
    kinds = "".join("r" if pd.api.types.is_numeric_dtype(table[column]) else "l" for column in table)
    rows = [" & ".join(_latex(_cell(value)) for value in row) + r" \\" for row in table.itertuples(index=False)]
    head = " & ".join(_latex(str(column)) for column in table) + r" \\"
    lines = [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def markdown(table: pd.DataFrame) -> str:
    """A table in GitHub's Markdown."""
    rule = ["--:" if pd.api.types.is_numeric_dtype(table[column]) else ":--" for column in table]
    rows = [[_markdown(str(column)) for column in table], rule]
    rows += [[_markdown(_cell(value)) for value in row] for row in table.itertuples(index=False)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def as_bytes(table: pd.DataFrame, form: str) -> bytes:
    """`table` in one of the formats of SUFFIXES."""
    if form == "parquet":
        buffer = io.BytesIO()
        words = table.copy()
        for column in (name for name in map(str, table) if _mixed(table[name])):
            words[column] = table[column].map(str, na_action="ignore")
        words.to_parquet(buffer, index=False)
        return buffer.getvalue()
    return {"latex": latex, "markdown": markdown, "csv": csv}[form](table).encode()


def csv(table: pd.DataFrame) -> str:
    """The table as CSV, in which a spreadsheet computes nothing: text that it would take for a formula gets an
    apostrophe before it, and text that is a number stays as it is.
    """
    text = [column for column in table if not pd.api.types.is_numeric_dtype(table[column])]
    safe = table.assign(**{str(column): table[column].map(_defused, na_action="ignore") for column in text})
    return safe.rename(columns=_defused).to_csv(index=False, lineterminator="\n")


def _defused(value: Any) -> Any:
    """`value`, without control characters and not as a formula if it is text."""
    if not isinstance(value, str):
        return value
    text = visible(value)
    if not text.startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _mixed(column: pd.Series) -> bool:
    """Whether a column holds levels of several kinds (numbers and names), which Parquet has no type for."""
    return column.dtype == object and len(set(column.dropna().map(type))) > 1
