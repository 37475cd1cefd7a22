"""What the tables say, on the terminal: what was run, the analysis of variance, the concordance, where the files are.

Readable from 80 columns up (terms that do not fit side by side go into a further table), and plain text where the
output is no terminal. Names and messages are printed as they are, never read as markup.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from creditlab.analysis.agreement.concordance import DRAWS, Concordance
from creditlab.analysis.data.collect import Sweep
from creditlab.analysis.effects.anova import Anova, Model
from creditlab.analysis.names import BEHAVIOUR, LEVEL, RESIDUAL, SEED, labels
from creditlab.records import Run

SHOWN = 8  # entries of a long list
STATUSES = ("complete", "diverged", "failed", "corrupt", "unfinished")


def plain(text: object) -> Text:
    """`text` without markup, and without the control characters that a run's error message may hold."""
    return Text(re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", str(text)))


def number(value: float) -> str:
    """Three significant digits, whole numbers in full, in at most seven characters."""
    if not math.isfinite(value):
        return "–"
    if abs(value) < 1e-9:  # rounding
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.1e}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def probability(p: float) -> str:
    return "–" if math.isnan(p) else "<.001" if p < 0.001 else fraction(p, 3)


def fraction(value: float, digits: int = 2) -> str:
    """A number in [−1, 1] without the leading zero."""
    return "–" if math.isnan(value) else re.sub(r"^(-?)0\.", r"\1.", f"{value:.{digits}f}")


def some(items: Sequence[str], shown: int = SHOWN) -> str:
    """A list in words, cut where it gets long."""
    return ", ".join(items[:shown]) + (f" and {len(items) - shown} more" if len(items) > shown else "")


def many(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _say(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(plain(line))


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, "bold"))


def _listed(console: Console, found: dict[str, Run]) -> None:
    for name, run in list(found.items())[:SHOWN]:
        text = f"  {run.status}: {name}" + (f": {run.problem}" if run.problem else "")
        console.print(plain(text), soft_wrap=True)
    if len(found) > SHOWN:
        _say(console, f"  … and {len(found) - SHOWN} more")


def levels_of(column: pd.Series) -> list[str]:
    """The levels of a factor in words: numbers in their order, then names in theirs."""
    there = column.drop_duplicates().to_frame()
    words = labels(there).iloc[:, 0]
    return words.iloc[np.lexsort((words, pd.to_numeric(there.iloc[:, 0], errors="coerce")))].tolist()


def print_runs(console: Console, sweep: Sweep) -> None:
    """What was found, what is missing, and the factors."""
    counts = sweep.counts
    census = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    planned = f", {sweep.planned} planned" if sweep.planned is not None else ""
    _heading(console, f"Runs in {' and '.join(map(str, sweep.folders))}")
    _say(console, f"{many(len(sweep.records), 'run')} found{planned}: {census}")
    for status in STATUSES[1:]:
        _listed(console, {name: run for name, run in sweep.named.items() if run.status == status})
    if sweep.missing:
        _say(console, f"  never started: {some(sweep.missing)}")
    if sweep.repeats:
        _say(console, f"  left out, the same experiment as another run here: {some(sweep.repeats)}")
    factors = [f"{factor} ({some(levels_of(sweep.runs[factor]))})" for factor in sweep.factors]
    seeds = many(sweep.runs["seed"].nunique(), "seed")
    _say(console, f"Factors: {' × '.join(factors) or 'none'}; {seeds}")
    for key, by in sweep.aliased.items():
        _say(console, f"  {key} is aliased: {by} tells its value, so their effects cannot be told apart")
    for key, host in sweep.nested.items():
        _say(console, f"  {key} is nested in {host} and not tested: each of its values occurs with one {host} only")
    if sweep.not_numeric:
        _say(console, f"  left out, not numbers: {some(sweep.not_numeric)}")
    _say(console, *(f"  {problem}" for problem in sweep.problems))


def _model(model: Model, alone: bool) -> str:
    """A model in a sentence or two."""
    metrics = "" if alone else f" for {many(len(model.metrics), 'metric')} ({some(model.metrics, 3)})"
    out = ", ".join(f"{n} {status}" for status, n in model.left_out.items())
    squares = "balanced, so that the sums of squares of types I, II and III agree"
    return (
        f"Model{metrics}: {' + '.join(map(_term, model.terms))}; n = {many(model.n, 'run')}"
        f"{f' (left out, diverged or no finite value: {out})' if out else ''}; residual df {model.residual_df}; "
        f"the seed is a {model.seed}; "
        f"{squares if model.balanced else f'unbalanced, sums of squares of type {model.kind}'} ({model.method})."
    )


def _term(name: str) -> str:
    return f"{name} (block)" if name == SEED else name


def print_anova(console: Console, anova: Anova) -> None:
    """A row a metric, behaviour before encoding; for each term F, adjusted p, η²."""
    _heading(console, "Analysis of variance: F, p (Holm), η²")
    tests = anova.table[anova.table["term"] != RESIDUAL]
    metrics = list(dict.fromkeys(tests["metric"]))
    if metrics:
        cells = {
            (metric, term): f"{number(f):>7} {probability(p):>5} {fraction(eta):>4}"
            for metric, term, f, p, eta in tests[["metric", "term", "F", "p_adjusted", "eta_sq"]].itertuples(
                index=False
            )
        }
        width = max(map(len, metrics))
        a_table = max(1, (console.width - width - 2) // 21)
        terms = sorted(anova.families, key=lambda term: (term == SEED, ":" in term))
        for start in range(0, len(terms), a_table):
            table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
            table.add_column("metric", overflow="fold")
            for term in terms[start : start + a_table]:
                table.add_column(plain(_term(term)), overflow="fold", justify="right", min_width=18)
            table.add_row("", *["      F     p   η²"] * len(table.columns[1:]))
            for behaviour in (True, False):
                for metric in metrics:
                    if metric.startswith(BEHAVIOUR) == behaviour:
                        row = (cells.get((metric, term), "–") for term in terms[start : start + a_table])
                        table.add_row(plain(metric), *row)
                table.add_section()
            console.print(table)
            console.print()
    else:
        _say(console, "Nothing can be tested.")
    _say(console, *anova_notes(anova))


def anova_notes(anova: Anova) -> list[str]:
    """What was fitted, what was left out and why."""
    lines = []
    for model in anova.models[:SHOWN]:
        lines += [_model(model, alone=len(anova.models) == 1), *(f"  {note}" for note in model.notes)]
    if len(anova.models) > SHOWN:
        lines.append(f"… and {len(anova.models) - SHOWN} models more, in analysis.json")
    if anova.families:
        families = ", ".join(f"{term} {size}" for term, size in anova.families.items())
        lines.append(
            f"p: F test, Holm's adjustment over all tests of one term ({families}). η²: share of the total SS."
        )
    reasons = defaultdict(list)
    for metric, reason in anova.untested.items():
        reasons[reason].append(metric)
    return lines + [f"Not tested, {reason}: {some(names)}" for reason, names in reasons.items()]


def print_checks(console: Console, frames: Mapping[str, pd.DataFrame]) -> None:
    """Refuted assumptions, where tests that do without them say otherwise, how many metrics are independent."""
    if "assumptions" in frames:
        found = frames["assumptions"]
        for name in ("normality", "spread"):
            refuted = list(found.loc[found["fails"].str.contains(name), "metric"])
            what = {"normality": "normal residuals", "spread": "equal spread between cells"}[name]
            if refuted:
                _say(
                    console,
                    f"Refuted at .05, {what}: {len(refuted)} of {many(len(found), 'metric')} ({some(refuted, 3)})",
                )
    if {"anova", "robust"} <= frames.keys():
        both = frames["robust"].merge(
            frames["anova"][["metric", "term", "p"]], on=["metric", "term"], suffixes=("", "_f")
        )
        other = both[(both["p"] < 0.05) != (both["p_f"] < 0.05)]
        rows = [
            f"{row['metric']}, {row['term']}: F {probability(row['p_f'])}, {row['test']} {probability(row['p'])}"
            for row in other.to_dict("records")
        ]
        if rows:
            _say(console, "Another verdict at .05 (unadjusted p) by tests that assume less, in robust:")
            _say(console, *(f"  {row}" for row in rows[:SHOWN]))
            _say(console, *([f"  … and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []))
    if "multiplicity" in frames and len(frames["multiplicity"]):
        families = frames["multiplicity"].groupby("family", sort=False)
        sizes = [
            f"{name} {each['metric'].nunique()} ({number(each['effective_li_ji'].iloc[0])})" for name, each in families
        ]
        _say(console, f"Metrics by family (of them independent, after Li & Ji): {', '.join(sizes)}.")


def print_concordance(console: Console, concordance: Concordance) -> None:
    """A row a data set and factor: W with its interval between its floor and the noise ceiling."""
    _heading(console, "Concordance: Kendall's W")
    if len(concordance.table):
        table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True, show_edge=False)
        for column in ("dataset", "raters", "score"):
            table.add_column(column, overflow="fold", min_width=7)
        for column in ("m×n", "W", f"{LEVEL:.0%} CI", "floor", "ceiling", "ρ", "p"):
            table.add_column(column, justify="right", no_wrap=True)
        for row in concordance.table.to_dict("records"):
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
            "m raters rank n test samples by loss, or pairs of classes by how often the one is taken for the other, "
            "averaged over the runs of each seed, then over seeds. "
            f"CI: {DRAWS} bootstrap draws over samples. Floor: 1/m, the expected W of unrelated raters. Ceiling: the W "
            "to expect if raters differed by their seeds alone. ρ: mean Spearman correlation of pairs of raters. "
            "p: by permutation; with thousands of items it says nothing, read W between floor and ceiling.",
        )
    else:
        _say(console, "Nothing can be compared.")
    _say(console, *concordance.notes)


def print_files(console: Console, files: Iterable[Path], gone: Sequence[str] = ()) -> None:
    """What was written, a line a folder and a kind of file; the report by its name. And what is `gone`."""
    _heading(console, "Written")
    alike: dict[tuple[Path, str], list[str]] = {}
    for path in files:
        alike.setdefault((path.parent, path.suffix), []).append(path.stem)
    for (folder, suffix), names in alike.items():
        told = f"{folder / names[0]}{suffix}" if len(names) == 1 else f"{folder}/*{suffix}: {', '.join(names)}"
        console.print(plain(told), soft_wrap=True)
    if gone:
        _say(console, f"Taken away, files of an earlier analysis: {some(gone)}")
