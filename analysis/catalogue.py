"""Every table that the analysis can make, by name, in the order in which a report shows them.

A statistic is found because its module lies in one of ROOMS. A new one needs no entry anywhere.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from creditlab.analysis.table import STATISTICS, Statistic

ROOMS = ("data", "effects", "agreement")
OF_FOLDERS = (  # tables that read more of a run than its metrics: nothing is in them where there are no folders of runs
    *("concordance", "concordance_pairs", "seed_limit", "concordance_differences", "similarity", "similarity_pairs"),
    *("matched", "trajectories", "rdms"),
)


@cache
def statistics() -> dict[str, Statistic]:
    """{name: statistic}, in the order of their places."""
    for room in ROOMS:
        package = import_module(f"creditlab.analysis.{room}")
        for module in iter_modules(package.__path__):
            import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(STATISTICS.items(), key=lambda item: item[1].place))
