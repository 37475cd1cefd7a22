"""Which figures a sweep's tables give, each with its caption and the table that it draws.

    figures/variance_share.svg   figures/variance_share.png   …

A figure is made where its table has something to show. A new one is a function that `draws` a table, in a module here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from creditlab.analysis.catalogue import statistics
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.report.figures import agreement, effects, training
from creditlab.analysis.report.figures.figure import FIGURES, Figure, View
from creditlab.analysis.table import Table

__all__ = ["Figure", "agreement", "effects", "figures_of", "training"]


def figures_of(sweep: Sweep, tables: Mapping[str, Table]) -> Iterator[Figure]:
    """The figures of a sweep, from its `tables` by name, in the order of the tables."""
    view = View.of(sweep, tables)
    order = list(statistics())
    for table, draw in sorted(FIGURES, key=lambda item: order.index(item[0])):
        if table in tables and len(tables[table]):
            yield from draw(view)
