"""From a sweep's folder to tables that hold: what each factor does to what a network learns and how it encodes it.

    python -m analysis multirun/<sweep>        # or, in a notebook: load("multirun/<sweep>").runs

It reads run records through `creditlab.records` and nothing else of creditlab. pandas, scipy and statsmodels are
imported only when there is something to compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from creditlab.analysis.data.collect import Sweep


def load(*folders: str | Path, where: Mapping[str, Sequence[str]] | None = None) -> Sweep:
    """The runs of the sweeps in `folders` as a tidy frame (`.runs`), their factors and their metrics.

    `where` keeps the runs that have, of each key, one of the levels: {"algorithm": ["bp", "fa"]}. Raises
    creditlab.records.RecordError where there is no folder or no run in it, AnalysisError where no run fits `where`.
    """
    from creditlab.analysis.data.collect import collect

    return collect(*map(Path, folders), where=where)
