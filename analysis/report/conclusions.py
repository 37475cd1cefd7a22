"""What the tables say, in sentences, each number of which names the cell that it stands in.

A sentence is a list of words and of `Cell`s. A number is never written here: it is looked up when the sentence is
shown, so that text and table cannot disagree. What counts as shown: p < 0.05, adjusted over all that the sentence
chooses from; the table's interval stands beside it.

A function that `says` something of a table is called where the table has rows, in the order of their definition.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Literal

import numpy as np
import pandas as pd

from creditlab.analysis.catalogue import statistics
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.shares import HOW, WHAT
from creditlab.analysis.model.multiplicity import holm
from creditlab.analysis.names import ALPHA, BEHAVIOUR, SEED, labels, level_order, some
from creditlab.analysis.table import Table

TERMS = 4  # that a sentence names
ACCURACY = "test/accuracy"
PAIR = "{level_a} minus {level_b} {difference:number} ({ci_low:number} to {ci_high:number})"
CORRECTED = "after Holm's correction over all comparisons"
LARGEST = "the largest before correction is"
AT_ONCE = ("paired, all", "Games-Howell", "Tukey")  # methods of posthoc whose p is of all pairs, the best one first
SCORES = {"loss": "which samples are hard", "confusion": "which classes are confused with which"}
SIDES = {WHAT: "behaviour", HOW: "internal metrics"}

Form = Literal["count", "fraction", "percent", "number", "p", "text"]
Frames = Mapping[str, pd.DataFrame]  # of all tables by name; without a row where there is no such table


@dataclass(frozen=True)
class Cell:
    """A cell of a table by row number, and how it is shown."""

    table: str
    row: int
    column: str
    form: Form


@dataclass(frozen=True)
class Conclusion:
    topic: str
    parts: Sequence[str | Cell]


Say = Callable[[Frames, Sequence[str]], Iterator[Conclusion]]
SENTENCES: dict[str, Say] = {}  # by the table that they are about


def says(table: str) -> Callable[[Say], Say]:
    """Have a function say what is to be said of `table`."""

    def register(say: Say) -> Say:
        SENTENCES[table] = say
        return say

    return register


def conclusions(tables: Mapping[str, Table], sweep: Sweep) -> list[Conclusion]:
    """What is to be said first, from the `tables` there are.

    Levels of a factor of which some have a key of their own (σ of es, swept) are not compared: a mean over the values
    of that key is no property of the level.
    """
    factors = [factor for factor in sweep.factors if factor not in sweep.nested.values()]
    frames = {
        name: tables[name].frame.reset_index(drop=True) if name in tables else one.empty()
        for name, one in statistics().items()
    }
    sentences = [one for name, say in SENTENCES.items() if len(frames[name]) for one in say(frames, factors)]
    return [*_not_compared(sweep), *sentences]


def _not_compared(sweep: Sweep) -> Iterator[Conclusion]:
    for key, factor in sweep.nested.items():
        levels = sorted(set(labels(sweep.complete.loc[sweep.complete[key].notna(), [factor]])[factor]), key=level_order)
        text = (
            f"The levels of {factor} are not compared: {key} varies within {some(levels)} only, and a mean over its "
            f"values is no property of {some(levels)}. To compare, choose one value: --where {key}=VALUE,absent."
        )
        yield Conclusion("Not compared", [text])


def _say(text: str, table: str, row: Hashable, **words: object) -> list[str | Cell]:
    """`text` with `{column:form}` for a cell of the row, and `{name}` for one of the words."""
    parts: list[str | Cell] = []
    for literal, name, form, _ in Formatter().parse(text):
        parts.append(literal)
        if name is not None:
            parts.append(str(words[name]) if name in words else Cell(table, int(str(row)), name, form))  # type: ignore[arg-type]
    return [part for part in parts if part != ""]


@says("what_how")
def _shares(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    effects = frames["what_how"][frames["what_how"]["term"] != SEED]
    for side in dict.fromkeys(effects["of"]):
        rows = effects[effects["of"] == side].sort_values("median_eta_sq", ascending=False, kind="stable")
        text = "{median_eta_sq:fraction}, from {lowest:fraction} to {highest:fraction}; shown for {n_found:count} of "
        parts: list[str | Cell] = [f"For {SIDES[side]}, "]
        for i, (row, term) in enumerate(rows["term"].head(TERMS).items()):
            first = f"{term} accounts for most of the variation (median η² "
            parts.append(", " + "then " * (i == 1) + f"{term} (" if i else first)
            parts += _say(text + "{n_metrics:count} metrics)", "what_how", row)
        yield Conclusion("Share of variance", [*parts, "."])


@says("levels")
def _accuracy(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    accuracies = frames["levels"][frames["levels"]["metric"] == ACCURACY]
    for factor in factors:
        rows = accuracies[accuracies["factor"] == factor].dropna(subset=["mean"])
        if len(rows) < 2:
            continue
        ends = "with {level} (mean {mean:fraction}, SD {sd:fraction}, {n_runs:count} runs)"
        worst, *_, best = rows.sort_values("mean", kind="stable").index.tolist()
        parts = [
            f"By {factor}, test accuracy is highest ",
            *_say(ends, "levels", best, level=rows.loc[best, "level"]),
            " and lowest ",
            *_say(ends, "levels", worst, level=rows.loc[worst, "level"]),
            ".",
        ]
        yield Conclusion("Accuracy", parts)


def _clearest(
    table: str, rows: pd.DataFrame, p: np.ndarray | pd.Series, some: str, none: str, text: str
) -> list[str | Cell]:
    """`some` and, in the words of `text`, the first of the rows with p < ALPHA; `none` and the first row where none
    has that."""
    shown = rows[p < ALPHA]
    parts: list[str | Cell] = [some if len(shown) else none]
    for i, (row, line) in enumerate((shown if len(shown) else rows[:1]).head(TERMS).iterrows()):
        names = {str(key): value for key, value in line.items() if isinstance(value, str)}
        parts += [*["; "] * (i > 0), *_say(text, table, row, **names)]
    return [*parts, "; and others." if len(shown) > TERMS else "."]


@says("posthoc")
def _pairs(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    table = frames["posthoc"]
    method = next((name for name in AT_ONCE if name in set(table["method"])), None)
    table = table[(table["method"] == method) & table["p"].notna()].sort_values("p", kind="stable")
    for factor in factors:
        rows = table[table["factor"] == factor]
        accuracy, encoding = rows[rows["metric"] == ACCURACY], rows[~rows["metric"].str.startswith(BEHAVIOUR)]
        if len(accuracy):
            how = f"(method {method!r}, over all pairs at once)"
            some = f"By {factor}, test accuracy differs {how}: "
            none = f"By {factor}, test accuracy is not shown to differ {how}; the largest difference is "
            parts = _clearest("posthoc", accuracy, accuracy["p_adjusted"], some, none, PAIR)
            yield Conclusion("Pairs of levels", parts)
        if len(encoding):
            some = f"By {factor}, the internal metrics that differ most {CORRECTED}: "
            none = f"By {factor}, no internal metric is shown to differ {CORRECTED}; {LARGEST} "
            p = holm(encoding["p"].to_numpy())
            yield Conclusion("Pairs of levels", _clearest("posthoc", encoding, p, some, none, f"{{metric}}, {PAIR}"))


@says("dose")
def _trends(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    """Of test accuracy, and of encoding metrics with a trend; only where the ends of the curve have intervals."""
    for factor, rows in frames["dose"].groupby("factor", sort=False):
        encoding = rows[~rows["metric"].str.startswith(BEHAVIOUR)].sort_values("p", kind="stable")
        shown = encoding[encoding["p_adjusted"] <= ALPHA]
        for row, line in pd.concat([rows[rows["metric"] == ACCURACY], shown.head(TERMS)]).iterrows():
            curve = frames["curve"]
            points = curve[(curve["factor"] == factor) & (curve["metric"] == line["metric"])].sort_values("level")
            ends = points.iloc[[0, -1]] if len(points) else points
            if len(ends) and ends[["low", "high"]].notna().all(axis=None):
                yield Conclusion("Trends", _trend(row, line, list(ends.index)))


def _trend(row: Hashable, line: pd.Series, ends: Sequence[Hashable]) -> list[str | Cell]:
    """The trend in `row` of the table of trends, with the values at the `ends` of its curve."""
    way = "rises" if line["slope"] > 0 else "falls"
    way = way if line["p_adjusted"] <= ALPHA else "is not shown to rise or fall"
    text = (
        "With {factor}, {metric} {way} (by {slope:number} per {unit}, {slope_low:number} to {slope_high:number}; "
        "p {p_adjusted:p}): "
    )
    unit = "tenfold increase" if line["scale"] == "log10" else "unit"
    parts = _say(text, "dose", row, factor=line["factor"], metric=line["metric"], way=way, unit=unit)
    for i, end in enumerate(ends):
        parts += [", "] * i + _say("{mean:number} ({low:number} to {high:number}) at {level:number}", "curve", end)
    if line["p_change_adjusted"] <= ALPHA:
        text = (
            "; it steps by {change:number} between {change_after:number} and {change_before:number} (the step "
            "lies between {ci_low:number} and {ci_high:number}; p {p_change_adjusted:p})"
        )
        parts += _say(text, "dose", row)
    return [*parts, "."]


@says("association")
def _association(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    table = frames["association"]
    text = "{metric}, r {r:fraction} ({ci_low:fraction} to {ci_high:fraction})"
    rows = table[(table["scope"] == "within cells") & ~table["metric"].str.startswith(BEHAVIOUR)]
    rows = rows.dropna(subset=["p", "ci_low"]).sort_values("p", kind="stable")
    if len(rows):
        runs = f"Among runs with the same levels of {some(factors)}, the effects of seeds taken out"
        after = "after correction over all tests of the report"
        shown = f"{runs}, {rows['outcome'].iloc[0]} goes {after} with "
        nothing = f"{runs}, nothing is shown to go with {rows['outcome'].iloc[0]} {after}"
        p = rows["p_adjusted"].to_numpy()
        parts = _clearest("association", rows, p, shown, f"{nothing}; {LARGEST} ", text)
        yield Conclusion("What goes with accuracy", parts)


@says("matched")
def _matched(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    table = frames["matched"]
    table = table[(table["by"] == ACCURACY) & table["p"].notna()].sort_values("p", kind="stable")
    for factor in factors:
        rows = table[table["factor"] == factor]
        steps = rows[rows["metric"] == "step"]
        encoding = rows[~rows["metric"].str.startswith(BEHAVIOUR) & (rows["metric"] != "step")]
        for kind, of_kind, text in (("steps", steps, PAIR), ("internal metrics", encoding, f"{{metric}}, {PAIR}")):
            if len(of_kind):
                start = _say("Where accuracy is {target:percent}, ", "matched", of_kind.index[0])
                some = f"by {factor}, the {kind} that differ most {CORRECTED}: "
                none = f"no difference of {kind} is shown by {factor} {CORRECTED}; {LARGEST} "
                parts = _clearest("matched", of_kind, holm(of_kind["p"].to_numpy()), some, none, text)
                yield Conclusion("At equal accuracy", [*start, *parts])


@says("concordance")
def _concordance(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    table = frames["concordance"]
    for row, line in table[table["raters"] != SEED].iterrows():
        text = (
            "On {dataset}, the {n_raters:count} levels of {raters} {verb} on {score}: Kendall's W "
            "{W:fraction} ({ci_low:fraction} to {ci_high:fraction}); {floor:fraction} would be chance"
        )
        if pd.notna(line["noise_ceiling"]):
            below = line["ci_high"] < line["noise_ceiling"]
            text += ", and seeds alone set a limit of {noise_ceiling:fraction}: W is "
            text += "below it" if below else "not shown to be below it"
        words = {"dataset": line["dataset"], "raters": line["raters"], "score": SCORES[line.get("score", "loss")]}
        agree = line["p_permutation"] < ALPHA and line["ci_low"] > 1 / line["n_raters"]
        verb = "agree" if agree else "are not shown to agree"
        yield Conclusion("Concordance", _say(text + ".", "concordance", row, verb=verb, **words))


@says("similarity")
def _similarity(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    table = frames["similarity"]
    rows = table[(table["measure"] == "RDM") & (table["items"] == "classes") & table["p"].notna()]
    for row, line in rows.sort_values("factor", key=lambda f: f.map(list(factors).index), kind="stable").iterrows():
        text = (
            "On {dataset}, in {layer}, class representations {verb} within {factor} than between its levels: "
            "Spearman's ρ of RDMs {within:fraction} against {between:fraction} (difference {difference:fraction}, "
            "{ci_low:fraction} to {ci_high:fraction}; p {p:p})."
        )
        words = {key: line[key] for key in ("dataset", "layer", "factor")}
        alike = line["p"] < ALPHA and line["ci_low"] > 0  # of these runs, and of more classes than these
        verb = "are more alike" if alike else "are not shown to be more alike"
        yield Conclusion("Representation", _say(text, "similarity", row, verb=verb, **words))


@says("fingerprint")
def _fingerprint(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    for target, of_target in frames["fingerprint"].groupby("target", sort=False):
        columns = of_target[["metrics", "classifier", "held_out"]]
        rows = {(metrics, classifier, held): row for row, metrics, classifier, held in columns.itertuples()}
        parts: list[str | Cell] = []
        for (metrics, classifier, held), row in rows.items():
            if (metrics, classifier) != ("encoding", "linear"):
                continue
            new = f"a {SEED if held == SEED else f'level of {held}'} new to the classifier"
            parts.append("; with " if parts else f"From internal metrics, {target} is identified with ")
            parts += [new, *_say(" in {accuracy:percent} of runs", "fingerprint", row)]
            parts += _say(" (chance {chance:percent}, p {p:p}", "fingerprint", row)
            if ("initial", "linear", held) in rows:
                control = rows["initial", "linear", held]
                parts += _say("; before training {accuracy:percent}", "fingerprint", control)
            parts.append(")")
        if ("encoding", "single", SEED) in rows:
            single = rows["encoding", "single", SEED]
            text = ". {best} by itself identifies it in {accuracy:percent} (p {p:p}, for the best of all metrics)"
            parts += _say(text, "fingerprint", single, best=of_target.loc[single, "best_metric"])
        if parts:
            yield Conclusion("Fingerprint", [*parts, "."])
