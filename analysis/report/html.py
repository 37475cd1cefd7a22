"""report.html: one file to read and to hand on, offline, with no script from elsewhere.

It says first what was run, what is missing and what follows; then come figures and tables. Every number of a conclusion
links to the cell that it stands in, every row of a test to the runs behind it, every run to its folder. All text is
escaped by the template engine, and a content security policy lets nothing run but the page's own script.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from creditlab.analysis.data.collect import Sweep
from creditlab.analysis.names import BEHAVIOUR
from creditlab.analysis.report.conclusions import Cell, Conclusion
from creditlab.analysis.report.gallery import Plate
from creditlab.analysis.report.terminal import STATUSES, levels_of, many, number, probability, some

ROWS = 2000  # of a table, shown; the file has all
LONG = 48  # letters, above which a field may be cut on screen
OPEN = 40  # rows up to which a table is unfolded
PROBABILITIES = ("p", "p_adjusted")


@dataclass(frozen=True)
class Shown:
    """A table as the report shows it: `about` says what a row is, `notes` what was left out and why."""

    name: str
    title: str
    about: str
    table: pd.DataFrame
    notes: Sequence[str] = field(default_factory=list)

    @property
    def file(self) -> str:
        return f"{self.name}.csv"


def written(value: Any, form: str) -> str:
    """A value in words: a conclusion's number, or a field of a table by the kind of its column."""
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return "–"
    if form == "p":
        return probability(float(value))
    if form == "percent":
        return f"{100 * float(value):.0f} %"
    if form == "fraction":
        return f"{float(value):.2f}".replace("-0.00", "0.00").replace("-", "−")
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e6 else number(float(value))


def _field(column: str, value: Any) -> dict[str, Any]:
    """What the template needs of a field: its text, its key for sorting, its exact or full value."""
    numeric = not isinstance(value, str) and value is not None and not pd.isna(value)
    form = "p" if column in PROBABILITIES or column.startswith("p_") else "number"
    exact = repr(float(value)) if numeric and not float(value).is_integer() else ""
    exact = str(value) if isinstance(value, str) and len(value) > LONG else exact
    return {"text": written(value, form), "key": repr(float(value)) if numeric else "", "exact": exact}


def _behind(row: Mapping[str, Any]) -> str:
    """The filter of the table of runs that leaves those a row speaks of."""
    chosen = {"status": "complete"}
    if "dataset" in row:
        chosen["dataset"] = row["dataset"]
    if "factor" in row and "level" in row:
        chosen[row["factor"]] = row["level"]
    return " ".join(f"{key}={''.join(str(value).split())}" for key, value in chosen.items())


def _rows(shown: Shown, cited: set[int]) -> list[dict[str, Any]]:
    """The first rows, and those that a conclusion cites."""
    columns = [str(column) for column in shown.table.columns]
    rows, places = [], [*range(min(ROWS, len(shown.table))), *sorted(row for row in cited if row >= ROWS)]
    table = shown.table.iloc[places].astype(object)
    for i, values in zip(places, table.itertuples(index=False, name=None), strict=True):
        fields = [_field(c, v) | {"column": c} for c, v in zip(columns, values, strict=True)]
        behind = _behind(dict(zip(columns, values, strict=True)))
        rows.append({"id": f"{shown.name}-{i}", "fields": fields, "behind": behind})
    return rows


def _numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column)


def runs_table(sweep: Sweep) -> Shown:
    """The runs with their settings and what they learned."""
    chosen = [c for c in sweep.runs.columns if c not in sweep.metrics and c != "identity"]
    chosen += [m for m in sweep.outcomes if m.startswith(BEHAVIOUR)]
    about = "A row a run; its name leads to its folder, from where this report was written. The file has all metrics."
    return Shown("runs", "Runs", about, sweep.runs[chosen])


def _what(sweep: Sweep) -> dict[str, Any]:
    """What was run, from the runs and the plan."""
    counts = sweep.counts
    known = sweep.runs.dropna(subset=["seed"]).convert_dtypes()  # the rest has no readable config
    records = [run.record for run in sweep.records if run.record]
    versions = sorted({f"{k} {v}" for r in records for k, v in (r.get("versions") or {}).items()})
    commits = sorted({str((r.get("git") or {}).get("commit"))[:12] for r in records if r.get("git")})
    changed = any((r.get("git") or {}).get("changed") for r in records)
    hosts = sorted({str(r["host"]) for r in records if r.get("host")})
    return {
        "census": ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status]),
        "runs": many(len(sweep.records), "run"),
        "planned": sweep.planned,
        "seeds": some(levels_of(known["seed"])),
        "levels": {factor: some(levels_of(known[factor]), 30) for factor in sweep.factors},
        "versions": versions,
        "source": ", ".join(commits) + (", with uncommitted changes" if changed else ""),
        "hosts": hosts,
    }


def _missing(sweep: Sweep) -> list[str]:
    """What is not there, or not as planned: runs by their status, keys that cannot be told apart, and so on."""
    said = []
    for run in sweep.records:
        if run.status != "complete":
            said.append(f"{run.status}: {run.name}" + (f": {run.problem}" if run.problem else ""))
    said += [f"never started: {name}" for name in sweep.missing]
    said += [f"left out, the same experiment as another run here: {name}" for name in sweep.repeats]
    said += [f"{key} is aliased: {by} tells its value, so their effects are one" for key, by in sweep.aliased.items()]
    said += [f"{key} is nested in {host}, and not tested" for key, host in sweep.nested.items()]
    said += [f"left out, not numbers: {name}" for name in sweep.not_numeric]
    return [*said, *sweep.problems]


def _hash(text: str) -> str:
    """The source that a content security policy names a script or style by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _address(folder: Path, out: Path) -> str:
    """Where `folder` is, seen from `out`, as a link."""
    return quote(os.path.relpath(folder.resolve(), out.resolve())) + "/"


def report(
    sweep: Sweep,
    command: str,
    shown: Sequence[Shown],
    conclusions: Sequence[Conclusion],
    plates: Sequence[tuple[Plate, bytes]],
    out: Path,
) -> str:
    """The page, for the folder `out`. `shown` are the tables in the order they appear; the conclusions cite them by
    name and row; each of `plates` comes with its SVG.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("creditlab.analysis.report", "page")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    style, script = (environment.loader.get_source(environment, name)[0] for name in ("style.css", "report.js"))  # type: ignore[union-attr]
    tables: Mapping[str, pd.DataFrame] = {one.name: one.table for one in shown}

    def cell(at: Cell) -> dict[str, str]:
        text = written(tables[at.table].iloc[at.row][at.column], at.form)
        return {
            "table": at.table,
            "text": re.sub("^-", "−", text),
            "href": f"#{at.table}-{at.row}",
            "where": f"{at.table}, {at.column}",
        }

    topics: dict[str, list] = {}
    cited: dict[str, set[int]] = defaultdict(set)
    for one in conclusions:
        for at in one.parts:
            if isinstance(at, Cell):
                cited[at.table].add(at.row)
        topics.setdefault(one.topic, []).append([p if isinstance(p, str) else cell(p) for p in one.parts])

    return environment.get_template("report.html").render(
        sweep=sweep,
        name=sweep.folder.resolve().name,
        command=command,
        what=_what(sweep),
        missing=_missing(sweep),
        topics=topics,
        plates=[(plate, base64.b64encode(svg).decode()) for plate, svg in plates],
        shown=[
            {
                "one": one,
                "columns": [(str(c), _numeric(one.table[c])) for c in one.table.columns],
                "rows": _rows(one, cited[one.name]),
                "first": min(ROWS, len(one.table)),
                "whole": len(one.table),
                "open": len(one.table) <= OPEN,
            }
            for one in shown
        ],
        folders={name: _address(run.folder, out) for name, run in sweep.named.items()},
        style=style,
        script=script,
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}",
    )
