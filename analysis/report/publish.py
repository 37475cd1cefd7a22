"""From the tables of a sweep to what one reads: figures/<name>.{svg,png} and report.html."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.report.claimed import of_claims
from creditlab.analysis.report.conclusions import conclusions
from creditlab.analysis.report.figures import drawing, figures_of
from creditlab.analysis.report.html import page
from creditlab.analysis.table import Table
from creditlab.records import RecordError, read_plan, write_whole


def publish(sweep: Sweep, tables: Mapping[str, Table], out: Path) -> list[Path]:
    """Write the figures and the report of `tables` into `out`; the paths. The report links each table to
    `out`/<name>.csv, which is not written here.
    """
    figures = list(figures_of(sweep, tables))
    drawn = {f"{f.name}.{kind}": drawing.to_bytes(f.figure, kind) for f in figures for kind in ("svg", "png")}
    try:
        plan = read_plan(sweep.folder) if sweep.named else None
    except RecordError:  # named among the sweep's problems
        plan = None
    command = str(plan.get("command", "")) if plan else ""
    pictures = [(figure, drawn[f"{figure.name}.svg"]) for figure in figures]
    sentences = [*of_claims(tables), *conclusions(tables, sweep)]
    html = page(sweep, command, tables.values(), sentences, pictures, out)

    files = {f"figures/{name}": content for name, content in drawn.items()} | {"report.html": html.encode()}
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_whole(out / name, lambda file, content=content: file.write(content))  # type: ignore[misc]
    return [out / name for name in files]
