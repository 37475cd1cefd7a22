"""`python -m analysis DIR`: tables from the runs of a sweep, printed and written to DIR/report.

Writes runs.csv, anova.csv, concordance.csv and analysis.json (models, families, what was left out and why). Exit
status: 0, or 2 with one line on stderr where the folder or its runs cannot bear an analysis.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import AnalysisError
from creditlab.records import RecordError

if TYPE_CHECKING:
    import pandas as pd

    from analysis.anova import Kind
    from analysis.collect import Sweep


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m analysis",
        usage="%(prog)s DIR [--metrics GLOB [GLOB ...]] [--type {II,III}] [--strict] [-h]",
        description="What each factor of a sweep does to each metric (analysis of variance), and whether algorithms "
        "find the same test samples hard (Kendall's W). Prints the tables and writes them to DIR/report.",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="the folder of a sweep, e.g. multirun/<sweep>")
    parser.add_argument(
        "--metrics", nargs="+", default=["*"], metavar="GLOB", help="only the metrics that match, e.g. 'test/*'"
    )
    parser.add_argument(
        "--type",
        choices=["II", "III"],
        default="II",
        help="sums of squares of an unbalanced design (default: II, each effect given those that do not contain it)",
    )
    parser.add_argument(
        "--strict", action="store_true", help="an empty cell is an error (default: a smaller model, and it is said)"
    )
    return parser.parse_args(arguments)


def analyse(folder: Path, metrics: Sequence[str], kind: Kind, strict: bool) -> None:
    """Read, test, write, print. Raises RecordError, AnalysisError or OSError with a message for the user."""
    from rich.console import Console

    from analysis import report
    from analysis.anova import anova
    from analysis.collect import collect
    from analysis.concordance import concordance
    from creditlab.records import write_json, write_whole

    sweep = collect(folder)
    outcomes = [name for name in sweep.outcomes if any(fnmatchcase(name, glob) for glob in metrics)]
    console = Console(width=shutil.get_terminal_size((120, 24)).columns, highlight=False)
    out = folder / "report"
    try:
        out.mkdir(exist_ok=True)
    except OSError as error:
        raise AnalysisError(f"cannot write to {out}: {error.strerror}.") from None
    files = {name: out / name for name in ("runs.csv", "anova.csv", "concordance.csv", "analysis.json")}

    def write(name: str, table: pd.DataFrame) -> None:
        text = table.to_csv(index=False, lineterminator="\n")
        write_whole(files[name], lambda file: file.write(text.encode()))

    write("runs.csv", sweep.runs)
    if problem := _problem(sweep, outcomes, metrics):
        report.print_runs(console, sweep)
        raise AnalysisError(problem)
    tests = anova(sweep.usable, sweep.factors, outcomes, kind, strict)
    agreement = concordance(sweep)
    write("anova.csv", tests.table)
    write("concordance.csv", agreement.table)
    said = {
        "runs": dict(sweep.counts),
        "missing": sweep.missing,
        "repeats": sweep.repeats,
        "factors": sweep.factors,
        "aliased": sweep.aliased,
        "nested": sweep.nested,
        "models": [asdict(model) for model in tests.models],
        "families": tests.families,
        "untested": tests.untested,
        "concordance": agreement.notes,
    }
    write_json(files["analysis.json"], said)

    report.print_runs(console, sweep)
    report.print_anova(console, tests)
    report.print_concordance(console, agreement)
    report.print_files(console, files.values())


def _problem(sweep: Sweep, outcomes: Sequence[str], metrics: Sequence[str]) -> str:
    """Why there is nothing to analyse; empty if there is something."""
    if sweep.usable.empty:
        return f"none of the {len(sweep.records)} runs is finished: nothing to analyse."
    if not sweep.factors:
        return "nothing varies but the seed, if that: no effect to test. Sweep a setting, e.g. algorithm=bp,fa."
    if not outcomes:
        return f"no metric matches {' '.join(metrics)}. There are: {', '.join(sweep.outcomes) or 'none'}."
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _arguments(arguments)
    try:
        analyse(options.folder, options.metrics, options.type, options.strict)
    except (RecordError, AnalysisError) as error:
        print(f"analysis: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"analysis: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
