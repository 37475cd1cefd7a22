"""What tests of the report share: tables from frames, and all tables of a sweep."""

from __future__ import annotations

import pandas as pd

from creditlab.analysis import fit
from creditlab.analysis.catalogue import statistics
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.table import Table


def table_of(name: str, frame: pd.DataFrame) -> Table:
    """`frame` as the table `name` of the catalogue."""
    made = statistics()[name]
    return Table(name, made.title, made.row, made.columns, frame)


def all_tables(sweep: Sweep) -> dict[str, Table]:
    """Every table of the catalogue by name."""
    fits = fit(sweep)
    return {name: made(fits) for name, made in statistics().items()}
