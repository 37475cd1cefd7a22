"""Numbers, levels and lists in words, for the terminal and the page alike."""

from __future__ import annotations

import math
import re
from typing import Any

import pandas as pd

from creditlab.analysis.names import labels, level_order


def number(value: float) -> str:
    """Three significant digits, whole numbers in full, in at most seven characters."""
    if not math.isfinite(value):
        return "–"
    if abs(value) < 1e-9:  # rounding
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.1e}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def probability(p: float) -> str:
    return "–" if math.isnan(p) else "<.001" if p < 0.001 else fraction(p, 3)


def fraction(value: float, digits: int = 2) -> str:
    """A number in [−1, 1] without the leading zero."""
    return "–" if math.isnan(value) else re.sub(r"^(-?)0\.", r"\1.", f"{value:.{digits}f}")


def levels_of(column: pd.Series) -> list[str]:
    """The levels of a factor in words: numbers in their order, then names in theirs."""
    distinct = column.drop_duplicates().to_frame()
    return sorted(labels(distinct).iloc[:, 0], key=level_order)


def in_words(value: Any, form: str) -> str:
    """A value in words: a number of a conclusion, or a field of a table by the kind of its column."""
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return "–"
    if pd.api.types.is_bool(value):
        return "yes" if value else "no"
    if form == "p":
        return probability(float(value))
    if form == "percent":
        return f"{100 * float(value):.0f} %"
    if form.startswith("points"):
        unit = "" if form == "points without unit" else " points"
        return f"{100 * float(value):.1f}{unit}".replace("-", "−")
    if form == "fraction":
        return f"{float(value):.2f}".replace("-0.00", "0.00").replace("-", "−")
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e6 else number(float(value))
