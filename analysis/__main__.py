"""`python -m analysis DIR [DIR …]`: tables from the runs of sweeps, printed and written to DIR/report.

Writes a file for each table and analysis.json (models, families, what was left out and why), in the place of what an
earlier analysis wrote there. Exit status: 0; 2 with one line on stderr where the folder or its runs cannot bear an
analysis; 3 where the tables are written and no effect could be tested.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from creditlab.analysis.names import AnalysisError
from creditlab.hints import did_you_mean
from creditlab.records import RecordError

if TYPE_CHECKING:
    import pandas as pd

    from creditlab.analysis.data.collect import Sweep

FORMATS = ("csv", "parquet", "latex", "markdown")
DESCRIBING = (
    *("what_how", "levels", "similarity", "similarity_pairs", "rdms", "fingerprint", "fingerprint_confusion"),
)  # tables of `report.publish.further`
FOR_READING = ("anova", "shares", "posthoc", "concordance")  # what LaTeX and Markdown are written of


def _order(text: str) -> int:
    if not text.isdigit() or text == "0":
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number at least 1")
    return int(text)


def _where(text: str) -> tuple[str, list[str]]:
    key, equals, levels = text.partition("=")
    if not (key and equals and levels):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=LEVEL[,LEVEL…], e.g. algorithm=bp,fa")
    return key, levels.split(",")


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m analysis",
        usage="%(prog)s DIR [DIR ...] [options]",
        description="What each factor of a sweep does to each metric (analysis of variance and more), and whether "
        "algorithms find the same test samples hard (Kendall's W). Prints the main tables, writes all.",
    )
    add = parser.add_argument
    add("folders", nargs="+", metavar="DIR", type=Path, help="the folders of sweeps, taken as one: multirun/<sweep>")
    add("--metrics", nargs="+", default=["*"], metavar="GLOB", help="only metrics that match, e.g. 'test/*'")
    add(
        *["--where"],
        nargs="+",
        type=_where,
        default=[],
        metavar="KEY=LEVEL",
        help="only runs that have one of the levels: algorithm=bp,fa seed=0,1",
    )
    add("--only", nargs="+", metavar="TABLE", help="only these tables, e.g. anova concordance (default: all)")
    add(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=["csv"],
        help=f"of the tables (default: csv); LaTeX and Markdown of {', '.join(FOR_READING)}",
    )
    add("--out", type=Path, metavar="DIR", help="where the tables go (default: DIR/report of the first DIR)")
    add(
        "--type",
        choices=["I", "II", "III"],
        default="II",
        help="sums of squares of an unbalanced design (default: II, each effect given those that do not contain it)",
    )
    add("--order", type=_order, default=2, metavar="N", help="factors in the largest interaction (default: 2)")
    add("--strict", action="store_true", help="an empty cell is an error (default: a smaller model, and it is said)")
    return parser.parse_args(arguments)


def _check_tables(only: Sequence[str]) -> None:
    from creditlab.analysis.tables import NAMES

    names = (*NAMES, *DESCRIBING, "report")
    if unknown := [name for name in only if name not in names]:
        hint = did_you_mean(unknown[0], names)
        raise AnalysisError(f"there is no table {unknown[0]!r}.{hint} There are: {', '.join(names)}.")


def _outcomes(sweep: Sweep, metrics: Sequence[str]) -> list[str]:
    """The metrics of the runs that match. Raises AnalysisError where one of `metrics` matches none."""
    matching = {glob: [name for name in sweep.outcomes if fnmatchcase(name, glob)] for glob in metrics}
    if sweep.outcomes and (idle := [glob for glob, found in matching.items() if not found]):
        hint = did_you_mean(idle[0], sweep.outcomes)
        raise AnalysisError(f"no metric matches {idle[0]}.{hint} There are: {', '.join(sweep.outcomes)}.")
    return [name for name in sweep.outcomes if any(name in found for found in matching.values())]


def analyse(options: argparse.Namespace) -> bool:
    """Read, test, write, print; whether an effect could be tested. Raises RecordError, AnalysisError or OSError with a
    message for the user."""
    from rich.console import Console

    from creditlab.analysis.data.collect import collect
    from creditlab.analysis.report import terminal as report
    from creditlab.analysis.report.export import FORMATS as SUFFIXES
    from creditlab.analysis.report.export import as_bytes
    from creditlab.analysis.report.folder import NOTES, digest, supersede
    from creditlab.analysis.tables import NAMES, tables
    from creditlab.records import write_json, write_whole

    only = options.only or (*NAMES, *DESCRIBING, "report")
    sweep = collect(*options.folders, where=dict(options.where))
    outcomes = _outcomes(sweep, options.metrics)
    console = Console(width=shutil.get_terminal_size((120, 24)).columns, highlight=False)
    out = options.out or options.folders[0] / "report"
    try:
        out.mkdir(exist_ok=True, parents=True)
    except OSError as error:
        raise AnalysisError(f"cannot write to {out}: {error.strerror}.") from None
    written = []

    def write(name: str, table: pd.DataFrame) -> None:
        for form in options.format:
            if form in ("csv", "parquet") or name in FOR_READING:
                written.append(out / f"{name}.{SUFFIXES[form]}")
                write_whole(written[-1], lambda file, form=form: file.write(as_bytes(table, form)))  # type: ignore[misc]

    if problem := _problem(sweep, outcomes):
        if not (out / NOTES).exists():  # what is refused takes no analysis away
            write("runs", sweep.runs)
        report.print_runs(console, sweep)
        raise AnalysisError(problem)
    made = tables(sweep, outcomes, only, options.type, options.strict, options.order)
    notes: dict[str, list[str]] = {}
    if made.anova and {"report", *DESCRIBING} & set(only):
        from creditlab.analysis.report.publish import further

        described, notes = further(sweep, outcomes, made.anova.table)
        made.frames.update({name: table for name, table in described.items() if {"report", name} & set(only)})
    for name, table in made.frames.items():
        write(name, table)
    if "report" in only:
        from creditlab.analysis.report.publish import publish

        said_of = {"anova": report.anova_notes(made.anova)} if made.anova else {}
        said_of |= {"concordance": made.concordance.notes} if made.concordance else {}
        written += publish(sweep, made.frames, {**said_of, **notes}, out)
    chosen = {key: value for key, value in vars(options).items() if key not in ("only", "format", "out")}
    of = digest(sweep, chosen)
    files, gone = supersede(out, written, of, page="report" in only)
    said = {"of": of, "files": files, "where": dict(options.where), **_design(sweep), **made.notes}
    written.append(out / NOTES)
    write_json(written[-1], said)

    report.print_runs(console, sweep)
    if made.anova:
        report.print_anova(console, made.anova)
    report.print_checks(console, made.frames)
    if made.concordance:
        report.print_concordance(console, made.concordance)
    report.print_files(console, written, gone)
    return made.anova is None or not made.anova.table.empty


def _design(sweep: Sweep) -> dict[str, Any]:
    """Of what runs and factors the tables are, for analysis.json."""
    return {
        "folders": [str(folder) for folder in sweep.folders],
        "runs": dict(sweep.counts),
        "missing": sweep.missing,
        "repeats": sweep.repeats,
        "factors": sweep.factors,
        "aliased": sweep.aliased,
        "nested": sweep.nested,
    }


def _problem(sweep: Sweep, outcomes: Sequence[str]) -> str:
    """Why there is nothing to analyse; empty if there is something."""
    if sweep.usable.empty:
        return f"none of the {len(sweep.records)} runs is finished: nothing to analyse."
    if not sweep.factors:
        return "nothing varies but the seed, if that: no effect to test. Sweep a setting, e.g. algorithm=bp,fa."
    return "" if outcomes else "the runs recorded no metric: nothing to analyse."


def main(arguments: Sequence[str] | None = None) -> int:
    options = _arguments(arguments)
    try:
        _check_tables(options.only or ())
        tested = analyse(options)
    except (RecordError, AnalysisError) as error:
        print(f"analysis: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"analysis: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    if not tested:
        print("analysis: no effect could be tested; the reasons stand above.", file=sys.stderr)
    return 0 if tested else 3


if __name__ == "__main__":
    sys.exit(main())
