"""From a sweep's folder to tables that hold: what each factor does to what a network learns and how it encodes it.

    creditlab-analyse multirun/<sweep>

In a notebook every statistic is a function of the sweep, or of the fits of its metrics, and gives a `Table`:

    from creditlab.analysis import anova, concordance, fit, load, posthoc

    sweep = load("multirun/<sweep>")
    fits = fit(sweep)
    anova(fits), posthoc(fits), concordance(sweep)

The analysis reads run records through `creditlab.records` and knows nothing else of creditlab. pandas, scipy and
statsmodels are imported only when there is something to compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from creditlab.analysis.data.sweep import Sweep
    from creditlab.analysis.model.fits import Fits
    from creditlab.analysis.model.scales import Kind


def load(
    *paths: str | Path,
    where: Mapping[str, Sequence[str]] | None = None,
    metrics: Sequence[str] = ("*",),
    factors: Sequence[str] | None = None,
    seed: str | None = None,
    status: str | None = None,
) -> Sweep:
    """The runs of the sweeps in the folders `paths` as one `Sweep`: a tidy frame (`.runs`), its factors, its metrics.

    `where` keeps the runs that have, of each key, one of the levels: {"algorithm": ["bp", "fa"]}. `metrics` are
    patterns of the metrics to test: ["test/*", "weights/*/stable_rank"]. Instead of folders, one file of a table with
    one row per run can be given (CSV, TSV, Parquet, JSON lines); `factors`, `seed` and `status` name its columns.

    Raises creditlab.records.RecordError where there is no folder or no run in it, AnalysisError where no run fits
    `where`, no metric a pattern, or a table is not what it should be.
    """
    from creditlab.analysis.data.any_table import from_table
    from creditlab.analysis.data.collect import collect
    from creditlab.analysis.data.table_file import is_table
    from creditlab.analysis.names import AnalysisError

    folders = list(map(Path, paths))
    if tables := [path for path in folders if is_table(path)]:
        if len(folders) > 1:
            others = "a file among several paths. Give one table alone, or folders of sweeps only."
            raise AnalysisError(f"{tables[0]} is {others}")
        return from_table(folders[0], factors or [], seed, metrics, status, where)
    if factors or seed or status:
        raise AnalysisError("factors, seed and status name the columns of a table; a sweep's folder tells its own.")
    return collect(*folders, where=where, metrics=metrics)


def fit(sweep: Sweep, *, strict: bool = False, order: int = 2, scales: Mapping[str, Kind] | None = None) -> Fits:
    """Fit each metric that `sweep` wants tested, with interactions of up to `order` factors; see `model.fits`.

    `scales` chooses the scale of metrics by pattern of their names. Raises AnalysisError for a pattern that no metric
    matches.
    """
    from creditlab.analysis.model.fits import fit as fit_metrics
    from creditlab.analysis.model.scales import check_patterns

    check_patterns(scales or {}, sweep.outcomes)
    return fit_metrics(sweep, strict=strict, order=order, scales=scales)


def __getattr__(name: str) -> Any:
    """Every statistic by its name, once it is asked for."""
    if not name.startswith("_"):
        from creditlab.analysis.catalogue import statistics

        if name in statistics():
            return statistics()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What an editor and a notebook offer: the two functions above and every statistic."""
    from creditlab.analysis.catalogue import statistics

    return sorted({*globals(), *statistics()})
