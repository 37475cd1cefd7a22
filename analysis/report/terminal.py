"""What the tables say, on the terminal: what was run, the analysis of variance, the concordance, where the files are.

Readable from 80 columns up (terms that do not fit side by side go into a further table), and plain text where the
output is no terminal. Names and messages are printed as they are, never read as markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import rich.table
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.text import Text

from creditlab.analysis.agreement.kendall import DRAWS
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.assumptions import TOO_FEW
from creditlab.analysis.names import BEHAVIOUR, LEVEL, SEED, many, some
from creditlab.analysis.report.claimed import sentences, shown
from creditlab.analysis.report.words import fraction, levels_of, number, probability
from creditlab.analysis.table import Table

SHOWN = 8  # entries of a long list
STATUSES = ("complete", "diverged", "failed", "corrupt", "unfinished")
ASSUMPTION = {"normality": "Normality", "spread": "Equal spread between cells"}


def plain(text: object) -> Text:
    """`text` without markup, and without the control characters that a run's error message may hold."""
    return Text(re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", str(text)))


def print_analysis(
    console: Console, sweep: Sweep, tables: Mapping[str, Table], files: Iterable[Path], removed: Sequence[str]
) -> None:
    """The runs, the main ones of the `tables` by name, the files that were written and those that were removed."""
    print_runs(console, sweep)
    if "claims" in tables:
        _print_claims(console, tables["claims"])
    if "anova" in tables:
        _print_anova(console, tables["anova"])
    _print_checks(console, {name: table.frame for name, table in tables.items()})
    if "concordance" in tables:
        _print_concordance(console, tables["concordance"])
    _print_files(console, files, removed)


def print_runs(console: Console, sweep: Sweep) -> None:
    """Which runs there are, what is missing, and the factors."""
    counts = sweep.counts
    statuses = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    planned = f", {sweep.planned} planned" if sweep.planned is not None else ""
    _heading(console, f"Runs in {' and '.join(map(str, sweep.folders))}")
    _say(console, f"{many(len(sweep.runs), 'run')} found{planned}: {statuses}")
    for status in STATUSES[1:]:
        _list_runs(console, sweep, status)
    if sweep.missing:
        _say(console, f"  never started: {some(sweep.missing)}")
    if removed := sum(run.weights_removed for run in sweep.records):
        _say(console, f"  weights removed from {many(removed, 'finished run')}, which are analysed all the same")
    if sweep.repeats:
        _say(console, f"  duplicate of another run, not used: {some(sweep.repeats)}")
    factors = [f"{factor} ({some(levels_of(sweep.runs[factor]))})" for factor in sweep.factors]
    seeds = many(sweep.runs[SEED].nunique(), "seed")
    _say(console, f"Factors: {' × '.join(factors) or 'none'}; {seeds}")
    for key, source in sweep.aliased.items():
        _say(console, f"  {key} cannot be separated from {source}, which determines its value")
    _say(console, *(f"  {line}" for line in sweep.tuned))
    if sweep.not_numeric:
        _say(console, f"  left out, not numbers: {some(sweep.not_numeric)}")
    _say(console, *(f"  {problem}" for problem in sweep.problems))


def _list_runs(console: Console, sweep: Sweep, status: str) -> None:
    names = list(sweep.runs.loc[sweep.runs["status"] == status, "run"])
    for name in names[:SHOWN]:
        problem = sweep.named[name].problem if name in sweep.named else ""
        console.print(plain(f"  {status}: {name}" + (f": {problem}" if problem else "")), soft_wrap=True)
    if len(names) > SHOWN:
        _say(console, f"  … and {len(names) - SHOWN} more")


def _print_claims(console: Console, claims: Table) -> None:
    """One line per claim: its verdict, the estimate with its interval, and what is still needed."""
    _heading(console, claims.title)
    for parts in sentences(claims.frame):
        _say(console, "".join(part if isinstance(part, str) else shown(part, claims.frame) for part in parts))


def _print_anova(console: Console, anova: Table) -> None:
    """One row per metric, behaviour before encoding; for each term F, adjusted p, ω²."""
    _heading(console, "Analysis of variance: F, p (over all tests of the report), partial ω²")
    tests = anova.frame
    if tests.empty:
        _say(console, "Nothing can be tested.")
    else:
        columns = tests[["metric", "term", "F", "p_adjusted", "omega_sq"]]
        cells = {
            (metric, term): f"{number(f):>7} {probability(p):>5} {fraction(max(omega, 0.0)):>4}"
            for metric, term, f, p, omega in columns.itertuples(index=False)
        }
        metrics = list(dict.fromkeys(tests["metric"]))
        side_by_side = max(1, (console.width - max(map(len, metrics)) - 2) // 21)
        terms = sorted(dict.fromkeys(tests["term"]), key=lambda term: ":" in term)
        for start in range(0, len(terms), side_by_side):
            console.print(_anova_table(metrics, terms[start : start + side_by_side], cells))
            console.print()
    _say(console, *anova.notes)


def _anova_table(
    metrics: Sequence[str], terms: Sequence[str], cells: Mapping[tuple[str, str], str]
) -> rich.table.Table:
    table = rich.table.Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column("metric", overflow="fold")
    for term in terms:
        table.add_column(plain(term), overflow="fold", justify="right", min_width=18)
    table.add_row("", *["      F     p   ω²"] * len(terms))
    for behaviour in (True, False):
        for metric in metrics:
            if metric.startswith(BEHAVIOUR) == behaviour:
                table.add_row(plain(metric), *(cells.get((metric, term), "–") for term in terms))
        table.add_section()
    return table


def _print_checks(console: Console, frames: Mapping[str, pd.DataFrame]) -> None:
    """Which assumptions are rejected, and how many tests of each question are shown."""
    if "assumptions" in frames:
        tested = frames["assumptions"]
        if few := list(tested.loc[tested["normality_test"] == TOO_FEW, "metric"]):
            _say(console, f"Normality: {TOO_FEW} ({some(few, 3)})")
        for name, assumption in ASSUMPTION.items():
            rejected = list(tested.loc[tested["fails"].str.contains(name), "metric"])
            if rejected:
                share = f"{len(rejected)} of {many(len(tested), 'metric')} ({some(rejected, 3)})"
                _say(console, f"{assumption} rejected (.05): {share}")
    if "multiplicity" in frames and len(frames["multiplicity"]):
        tests = frames["multiplicity"]
        shown = tests.groupby("question", sort=False)["found"].agg(["sum", "size"])
        counts = [f"{name} {some} of {size}" for name, some, size in shown.itertuples() if some]
        _say(console, f"Shown, by question: {'; '.join(counts) or 'nothing'}.")


def _print_concordance(console: Console, concordance: Table) -> None:
    """One row per data set and factor: W with its interval between its floor and the noise ceiling."""
    _heading(console, "Concordance: Kendall's W")
    if len(concordance):
        table = rich.table.Table(
            box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, show_edge=False
        )
        for column in ("dataset", "raters", "score"):
            table.add_column(column, overflow="fold", min_width=7)
        for column in ("m×n", "W", f"{LEVEL:.0%} CI", "floor", "ceiling", "ρ", "p"):
            table.add_column(column, justify="right", no_wrap=True)
        for row in concordance.frame.to_dict("records"):
            table.add_row(
                plain(row["dataset"]),
                plain(row["raters"]),
                row["score"],
                f"{row['n_raters']}×{row['n_items']}",
                fraction(row["W"], 3),
                f"{fraction(row['ci_low'], 3)} {fraction(row['ci_high'], 3)}",
                fraction(1 / row["n_raters"], 3),
                fraction(row["noise_ceiling"], 3),
                fraction(row["mean_spearman"], 3),
                probability(row["p_permutation"]),
            )
        console.print(table)
        console.print()
        _say(
            console,
            "The m raters (the levels compared) rank n items: test samples by loss, or pairs of classes by how often "
            "one is confused with the other, averaged over the runs of each seed, then over seeds. "
            f"CI: {DRAWS} bootstrap draws over samples; for confusion, the jackknife over classes. "
            "Floor: 1/m, the chance level. Ceiling: the W to expect if raters differed by their seeds alone. "
            "ρ: mean Spearman correlation of pairs of raters. "
            "p: by permutation; with thousands of items it is not informative, so read W between floor and ceiling.",
        )
    else:
        _say(console, "Nothing can be compared.")
    _say(console, *concordance.notes)


def _print_files(console: Console, files: Iterable[Path], removed: Sequence[str]) -> None:
    """What was written: one line per folder and kind of file, the report by its name. And what was removed."""
    _heading(console, "Written")
    alike: dict[tuple[Path, str], list[str]] = {}
    for path in files:
        alike.setdefault((path.parent, path.suffix), []).append(path.stem)
    for (folder, suffix), names in alike.items():
        line = f"{folder / names[0]}{suffix}" if len(names) == 1 else f"{folder}/*{suffix}: {', '.join(names)}"
        console.print(plain(line), soft_wrap=True)
    if removed:
        _say(console, f"Removed files of an earlier analysis: {some(removed)}")


def _say(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(plain(line))


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, "bold"))
