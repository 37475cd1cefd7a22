"""report.html: one file to read and to hand on, offline, with no script from elsewhere.

It says first what was run, what is missing and what follows; then come figures and tables. Every number of a conclusion
links to its cell in a table, every row of a test to the runs behind it, every run to its folder. The template engine
escapes all text, and a content security policy lets nothing run but the page's own script.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from creditlab.analysis.data.sweep import Sweep, runs
from creditlab.analysis.names import BEHAVIOUR, SEED, many, some
from creditlab.analysis.report.conclusions import Cell, Conclusion
from creditlab.analysis.report.figures import Figure
from creditlab.analysis.report.terminal import STATUSES
from creditlab.analysis.report.words import in_words, levels_of
from creditlab.analysis.table import Table
from creditlab.files import visible

ROWS = 2000  # of a table, shown; the file has all
LONG = 48  # letters, above which a field may be cut on screen
OPEN = 40  # rows up to which a table is unfolded
PROBABILITIES = ("p", "p_adjusted")


def page(
    sweep: Sweep,
    command: str,
    tables: Iterable[Table],
    conclusions: Sequence[Conclusion],
    figures: Sequence[tuple[Figure, bytes]],
    out: Path,
) -> str:
    """The page, for the folder `out`. The `tables` appear in the order given; the conclusions cite them by name and
    row; each of `figures` comes with its SVG.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("creditlab.analysis.report", "page")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    style, script = (environment.loader.get_source(environment, name)[0] for name in ("style.css", "report.js"))  # type: ignore[union-attr]
    shown = [_runs_shown(sweep) if table.name == "runs" else table for table in tables]
    topics, cited = _topics(conclusions, {table.name: table.frame for table in shown})
    text = environment.get_template("report.html").render(
        sweep=sweep,
        name=sweep.name,
        command=command,
        what=_what(sweep),
        missing=_missing(sweep),
        topics=topics,
        figures=[(figure, base64.b64encode(svg).decode()) for figure, svg in figures],
        shown=[_shown(table, cited[table.name]) for table in shown],
        folders={name: _address(run.folder, out) for name, run in sweep.named.items()},
        style=style,
        script=script,
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}",
    )
    return visible(text)


def _topics(
    conclusions: Sequence[Conclusion], frames: Mapping[str, pd.DataFrame]
) -> tuple[dict[str, list], dict[str, set[int]]]:
    """The parts of the conclusions by topic, each number looked up in `frames`; and the rows cited, by table."""
    topics: dict[str, list] = {}
    cited: dict[str, set[int]] = defaultdict(set)
    for conclusion in conclusions:
        parts: list[Any] = []
        for part in conclusion.parts:
            if isinstance(part, Cell):
                cited[part.table].add(part.row)
                parts.append(_link(part, frames[part.table]))
            else:
                parts.append(part)
        topics.setdefault(conclusion.topic, []).append(parts)
    return topics, cited


def _link(cell: Cell, frame: pd.DataFrame) -> dict[str, str]:
    value = frame.iloc[cell.row][cell.column]
    return {
        "table": cell.table,
        "text": re.sub("^-", "−", in_words(-value if cell.negated else value, cell.form)),
        "href": f"#{cell.table}-{cell.row}",
        "where": f"{cell.table}, {cell.column}",
    }


def _shown(table: Table, cited: set[int]) -> dict[str, Any]:
    """What the template needs of a table."""
    columns = [
        {
            "name": str(name),
            "numeric": pd.api.types.is_numeric_dtype(table.frame[name]),
            "meaning": table.column(str(name)).meaning,
        }
        for name in table.frame
    ]
    return {
        "table": table,
        "columns": columns,
        "rows": _rows(table, cited),
        "first": min(ROWS, len(table)),
        "whole": len(table),
        "open": len(table) <= OPEN,
    }


def _field(column: str, value: Any) -> dict[str, Any]:
    """What the template needs of a field: its text, its key for sorting, its exact or full value."""
    numeric = not isinstance(value, str) and value is not None and not pd.isna(value)
    form = "p" if column in PROBABILITIES or column.startswith("p_") else "number"
    exact = repr(float(value)) if numeric and not float(value).is_integer() else ""
    exact = str(value) if isinstance(value, str) and len(value) > LONG else exact
    return {"text": in_words(value, form), "key": repr(float(value)) if numeric else "", "exact": exact}


def _behind(row: Mapping[str, Any]) -> str:
    """The filter of the table of runs that leaves those a row speaks of."""
    chosen = {"status": "complete"}
    if "dataset" in row:
        chosen["dataset"] = row["dataset"]
    if "factor" in row and "level" in row:
        chosen[row["factor"]] = row["level"]
    return " ".join(f"{key}={''.join(str(value).split())}" for key, value in chosen.items())


def _rows(shown: Table, cited: set[int]) -> list[dict[str, Any]]:
    """The first rows, and those that a conclusion cites."""
    columns = [str(column) for column in shown.frame.columns]
    rows, places = [], [*range(min(ROWS, len(shown))), *sorted(row for row in cited if row >= ROWS)]
    table = shown.frame.iloc[places].astype(object)
    for i, values in zip(places, table.itertuples(index=False, name=None), strict=True):
        fields = [_field(c, v) | {"column": c} for c, v in zip(columns, values, strict=True)]
        behind = _behind(dict(zip(columns, values, strict=True)))
        rows.append({"id": f"{shown.name}-{i}", "fields": fields, "behind": behind})
    return rows


def _runs_shown(sweep: Sweep) -> Table:
    """The runs with their settings and what they learned."""
    chosen = [c for c in sweep.runs.columns if c not in sweep.metrics and c != "identity"]
    chosen += [m for m in sweep.outcomes if m.startswith(BEHAVIOUR)]
    leads = "Its name leads to its folder, from where this report was written. " if sweep.named else ""
    row = f"One row per run. {leads}The file has all metrics."
    return replace(runs(sweep), row=row, frame=sweep.runs[chosen])


def _what(sweep: Sweep) -> dict[str, Any]:
    """What was run, from the runs and the plan."""
    counts = sweep.counts
    readable = sweep.runs.dropna(subset=[SEED]).convert_dtypes()  # the rest has no readable config
    records = [run.record for run in sweep.records if run.record]
    versions = sorted({f"{k} {v}" for r in records for k, v in _mapping(r, "versions").items()})
    commits = sorted({str(_mapping(r, "git").get("commit"))[:12] for r in records if _mapping(r, "git")})
    changed = any(_mapping(r, "git").get("changed") for r in records)
    hosts = sorted({str(r["host"]) for r in records if r.get("host")})
    return {
        "statuses": ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status]),
        "runs": many(len(sweep.runs), "run"),
        "planned": sweep.planned,
        "seeds": some(levels_of(readable[SEED])),
        "levels": {factor: some(levels_of(readable[factor]), 30) for factor in sweep.factors},
        "versions": versions,
        "source": ", ".join(commits) + (", with uncommitted changes" if changed else ""),
        "hosts": hosts,
    }


def _mapping(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping at `key`; an empty one if a stranger's record has something else there."""
    value = record.get(key)
    return value if isinstance(value, Mapping) else {}


def _missing(sweep: Sweep) -> list[str]:
    """What is missing or not as planned: runs by their status, keys that cannot be separated, and so on."""
    lines = []
    for name, status in sweep.runs.loc[sweep.runs["status"] != "complete", ["run", "status"]].itertuples(index=False):
        problem = sweep.named[name].problem if name in sweep.named else ""
        lines.append(f"{status}: {name}" + (f": {problem}" if problem else ""))
    lines += [f"never started: {name}" for name in sweep.missing]
    if removed := sum(run.weights_removed for run in sweep.records):
        lines.append(f"weights removed from {many(removed, 'finished run')}, analysed all the same")
    lines += [f"duplicate of another run, not used: {name}" for name in sweep.repeats]
    lines += [f"{key} cannot be separated from {source}" for key, source in sweep.aliased.items()]
    lines += sweep.tuned
    lines += [f"left out, not numbers: {name}" for name in sweep.not_numeric]
    return [*lines, *sweep.problems]


def _hash(text: str) -> str:
    """The source that a content security policy names a script or style by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _address(folder: Path, out: Path) -> str:
    """Where `folder` is, seen from `out`, as a link."""
    return quote(os.path.relpath(folder.resolve(), out.resolve())) + "/"
