"""`creditlab-analyse DIR [DIR …]`: tables from the runs of sweeps, printed and written to DIR/report.
`creditlab-analyse results.csv --factors A B --seed S`: the same of a table from elsewhere, written to results-report.

Writes a file for each table and analysis.json (models, what was left out and why), and replaces what an
earlier analysis wrote there. Exit status: 0; 2 with one line on stderr where the folder or its runs cannot bear an
analysis; 3 where the tables are written and no effect could be tested.
"""

from __future__ import annotations

import argparse
import math
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from creditlab.analysis import fit, load
from creditlab.analysis.names import AnalysisError
from creditlab.hints import did_you_mean
from creditlab.records import RecordError

if TYPE_CHECKING:
    from creditlab.analysis.data.sweep import Sweep
    from creditlab.analysis.model.fits import Fits
    from creditlab.analysis.model.scales import Kind
    from creditlab.analysis.table import Table

FORMATS = ("csv", "parquet", "latex", "markdown")
REPORT = "report"  # beside the tables, what --only can ask for: all of them, the figures and the page


def main(arguments: Sequence[str] | None = None) -> int:
    options = _arguments(arguments)
    try:
        tested = analyse(options, _tables_of(options.only))
    except (RecordError, AnalysisError) as error:
        print(f"creditlab-analyse: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"creditlab-analyse: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    if not tested:
        print("creditlab-analyse: no effect could be tested; see the reasons above.", file=sys.stderr)
    return 0 if tested else 3


def analyse(options: argparse.Namespace, names: Sequence[str]) -> bool:
    """Read, test, write, print; whether an effect could be tested. `names` are the tables to make.

    Raises RecordError, AnalysisError or OSError with a message for the user.
    """
    from rich.console import Console

    from creditlab.analysis.catalogue import statistics
    from creditlab.analysis.report.folder import Folder, digest
    from creditlab.analysis.report.publish import publish
    from creditlab.analysis.report.terminal import print_analysis, print_runs

    columns = {"factors": options.factors, "seed": options.seed, "status": options.status}
    sweep = load(*options.paths, where=dict(options.where), metrics=options.metrics, **columns)
    sweep = replace(sweep, margins=dict(options.margin), random=options.random)
    names = _without_folders(sweep, names, options.only)
    console = Console(width=shutil.get_terminal_size((120, 24)).columns, highlight=False)
    whole = not options.only or REPORT in options.only
    chosen = {key: value for key, value in vars(options).items() if key not in ("only", "format", "out")}
    folder = Folder(options.out or _out(options.paths[0]), of=digest(sweep, chosen), whole=whole)
    if problem := _problem(sweep):
        if folder.is_new:  # a rejected analysis removes no earlier one
            folder.write_table("runs", sweep.runs, options.format)
        print_runs(console, sweep)
        raise AnalysisError(problem)
    fits = fit(sweep, strict=options.strict, order=options.order, scales=dict(options.scale))
    tables = _claims(sweep, fits, options.claims) | {name: statistics()[name](fits) for name in names}
    for name, table in tables.items():
        folder.write_table(name, table.frame, options.format)
    if whole:
        folder.add(publish(sweep, tables, folder.path))
    removed = folder.finish({"where": dict(options.where), **_design(sweep), **_notes(tables, fits)})
    print_analysis(console, sweep, tables, folder.written, removed)
    return "anova" not in tables or len(tables["anova"]) > 0


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="creditlab-analyse",
        usage="%(prog)s DIR [DIR ...] [options]\n       %(prog)s TABLE --factors COLUMN ... [--seed COLUMN] [options]",
        description="What each factor of a sweep does to each metric (analysis of variance and more), and whether "
        "algorithms find the same test samples hard (Kendall's W). Prints the main tables and writes all of them.",
    )
    add = parser.add_argument
    paths = "the folders of sweeps, taken as one: multirun/<sweep>; or one file of a table with one row per run"
    add("paths", nargs="+", metavar="DIR", type=Path, help=f"{paths} (CSV, TSV, Parquet, JSON lines)")
    add("--factors", nargs="+", metavar="COLUMN", help="of a table: its factors")
    add("--seed", metavar="COLUMN", help="of a table: its seeds (default: the column seed)")
    add("--status", metavar="COLUMN", help="of a table: whether a run finished (default: that of a known export)")
    add(
        *["--claims"],
        type=Path,
        metavar="FILE",
        help="a YAML of claims to judge (default: the claims that the sweep's plan recorded, if any)",
    )
    add("--metrics", nargs="+", default=["*"], metavar="GLOB", help="only metrics that match, e.g. 'test/*'")
    add(
        *["--where"],
        nargs="+",
        type=_where,
        default=[],
        metavar="KEY=LEVEL",
        help="only runs that have one of the levels: algorithm=bp,fa seed=0,1",
    )
    add("--only", nargs="+", metavar="TABLE", help="only these tables, e.g. anova concordance (default: the report)")
    add("--format", nargs="+", choices=FORMATS, default=["csv"], help="format of the tables (default: csv)")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="where the tables go (default: DIR/report of the first DIR; TABLE-report)",
    )
    add("--order", type=_order, default=2, metavar="N", help="factors in the largest interaction (default: 2)")
    add(
        *["--scale"],
        nargs="+",
        type=_scale,
        default=[],
        metavar="GLOB=KIND",
        help="compare metrics as they are (identity), by log or by logit: 'weights/*=log' (default: accuracy by logit, "
        "loss and error by log)",
    )
    add(
        *["--margin"],
        nargs="+",
        type=_margin,
        default=[],
        metavar="GLOB=SIZE",
        help="differences that do not matter, in the metric's unit, chosen before looking: 'test/accuracy=0.01'",
    )
    add("--random", default="", metavar="FACTOR", help="its levels stand for others that one could take: dataset")
    add("--strict", action="store_true", help="an empty cell is an error (default: a smaller model, and a note)")
    return parser.parse_args(arguments)


def _order(text: str) -> int:
    if not text.isdigit() or text == "0":
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _scale(text: str) -> tuple[str, Kind]:
    from creditlab.analysis.model.scales import KINDS

    pattern, equals, kind = text.rpartition("=")
    if not (pattern and equals and kind in KINDS):
        raise argparse.ArgumentTypeError(f"{text!r} is not GLOB=KIND, e.g. 'weights/*=log'; kinds: {', '.join(KINDS)}")
    return pattern, kind  # type: ignore[return-value]


def _margin(text: str) -> tuple[str, float]:
    pattern, _, size = text.rpartition("=")
    try:
        margin = float(size)
    except ValueError:
        margin = math.nan
    if not pattern or not 0 < margin < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not GLOB=SIZE with a size above 0, e.g. test/accuracy=0.01")
    return pattern, margin


def _where(text: str) -> tuple[str, list[str]]:
    key, equals, levels = text.partition("=")
    if not (key and equals and levels):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=LEVEL[,LEVEL…], e.g. algorithm=bp,fa")
    return key, re.split(r",(?![^\[{]*[\]}])", levels)  # not within the brackets of a list


def _tables_of(only: Sequence[str] | None) -> list[str]:
    """The tables to make for `--only`. Raises AnalysisError for a name that no table has."""
    from creditlab.analysis.catalogue import statistics

    names = [*statistics(), REPORT]
    if unknown := [name for name in only or () if name not in names]:
        hint = did_you_mean(unknown[0], names)
        raise AnalysisError(f"there is no table {unknown[0]!r}.{hint} There are: {', '.join(names)}.")
    return [name for name in statistics() if only is None or name in only or REPORT in only]


def _claims(sweep: Sweep, fits: Fits, path: Path | None) -> dict[str, Table]:
    """The table of verdicts by its name: of the claims in the file `path`, or of those that the plan of the only sweep
    recorded. {} where there are none. Raises RecordError or AnalysisError for a bad claim in a file; a recorded one is
    undecided.
    """
    from creditlab.analysis.catalogue import statistics
    from creditlab.analysis.claims.verdicts import judged, recorded_claims
    from creditlab.records import read_claims

    recorded = recorded_claims(sweep.folder) if sweep.named and len(sweep.folders) == 1 else None
    claims = read_claims(path) if path else recorded
    if claims is None:
        return {}
    return {"claims": judged(sweep, claims, lambda name: statistics()[name](fits).frame, strict=path is not None)}


def _out(path: Path) -> Path:
    """Where the tables go by default: into a folder of a sweep, or beside the file of a table."""
    return path / "report" if path.is_dir() else path.with_name(f"{path.stem}-report")


def _without_folders(sweep: Sweep, names: Sequence[str], only: Sequence[str] | None) -> list[str]:
    """The tables to make, without those that need the folders of runs where there are none; a note says so.

    Raises AnalysisError where `only` asks for one of these.
    """
    from creditlab.analysis.catalogue import OF_FOLDERS

    if sweep.named:
        return list(names)
    if asked := [name for name in only or () if name in OF_FOLDERS]:
        raise AnalysisError(f"{asked[0]} needs the folders of runs, and {sweep.folder} is a table.")
    left_out = [name for name in names if name in OF_FOLDERS]
    if left_out:
        sweep.problems.append(f"left out, because a table has no folders of runs: {', '.join(left_out)}")
    return [name for name in names if name not in OF_FOLDERS]


def _problem(sweep: Sweep) -> str:
    """Why there is nothing to analyse; empty if there is something."""
    if sweep.usable.empty:
        return f"none of the {len(sweep.runs)} runs is finished: nothing to analyse."
    if not sweep.factors:
        return "nothing varies but the seed, if that: no effect to test. Sweep a setting, e.g. algorithm=bp,fa."
    return "" if sweep.outcomes else "the runs recorded no metric: nothing to analyse."


def _design(sweep: Sweep) -> dict[str, Any]:
    """Which runs and factors the tables are of, for analysis.json."""
    return {
        "folders": [str(folder) for folder in sweep.folders],
        "runs": dict(sweep.counts),
        "missing": sweep.missing,
        "repeats": sweep.repeats,
        "factors": sweep.factors,
        "aliased": sweep.aliased,
        "nested": sweep.nested,
    }


def _notes(tables: Mapping[str, Table], fits: Fits) -> dict[str, Any]:
    """What was fitted, what was left out and why, for analysis.json."""
    notes: dict[str, Any] = {name: table.notes for name, table in tables.items() if table.notes and name != "anova"}
    if "anova" in tables:
        notes |= {"models": [asdict(fit.model) for fit in fits], "untested": fits.untested}
    return notes


if __name__ == "__main__":
    sys.exit(main())
