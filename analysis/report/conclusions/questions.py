"""What is said of the questions beside single metrics: trends, associations, geometry, equivalence, divergence."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import pandas as pd

from creditlab.analysis.names import ALPHA, BEHAVIOUR, OUTCOME
from creditlab.analysis.report.conclusions import SHOWN, Conclusion, Frames, listed, outcome, says, sentence
from creditlab.analysis.report.conclusions.effects import effect_in_words


@says("geometry", 25)
def _geometry(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    table = frames["geometry"]
    table = table[table["metrics"] == table["metrics"].iloc[0]]  # all internal metrics; their families follow
    shown = table[table["p_adjusted"] <= ALPHA]
    parts: list[Any] = []
    for i, (row, line) in enumerate(shown.iterrows()):
        start = "" if i else "Taken together, the {n_metrics:count} internal metrics depend on "
        text = start + f"{effect_in_words(line['term'])} (pseudo-F {{F:number}}, p {{p_adjusted:p}})"
        parts += ["; on "] * (i > 0) + sentence(text, "geometry", row)
    if shown.empty and table["p_adjusted"].notna().any():
        text = "Taken together, the {n_metrics:count} internal metrics are not shown to depend on any factor"
        parts += sentence(text, "geometry", table.index[0])
    if parts:
        yield Conclusion("What changes", [*parts, "."], claim=not shown.empty)


@says("dose", 34)
def _trends(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    """The trend of the outcome, and those of internal metrics that are shown; only where the curve has intervals."""
    for factor, rows in frames["dose"].groupby("factor", sort=False):
        internal = rows[~rows["metric"].str.startswith(BEHAVIOUR) & (rows["p_adjusted"] <= ALPHA)]
        internal = internal.sort_values("p", kind="stable").head(SHOWN)
        for row, line in pd.concat([rows[rows["metric"] == outcome(frames)], internal]).iterrows():
            curve = frames["curve"]
            points = curve[(curve["factor"] == factor) & (curve["metric"] == line["metric"])].sort_values("level")
            ends = points.iloc[[0, -1]] if len(points) else points
            if len(ends) and ends[["low", "high"]].notna().all(axis=None):
                shown = [line["p_adjusted"] <= ALPHA, line["p_change_adjusted"] <= ALPHA]
                yield Conclusion("Trends", _trend(row, line, list(ends.index)), claim=any(shown))


def _trend(row: Hashable, line: pd.Series, ends: Sequence[Hashable]) -> list[Any]:
    """The trend in `row` of the table of trends, with the values at the `ends` of its curve."""
    if line["p_adjusted"] <= ALPHA:
        cells = "{-slope:number} per {unit} ({-slope_high:number} to {-slope_low:number})"
        cells = cells if line["slope"] < 0 else "{slope:number} per {unit} ({slope_low:number} to {slope_high:number})"
        text = f"With {{factor}}, {{metric}} {'rises' if line['slope'] > 0 else 'falls'} by {cells}: "
    else:
        text = "With {factor}, {metric} is not shown to rise or fall: "
    unit = "tenfold increase" if line["scale"] == "log10" else "unit"
    parts = sentence(text, "dose", row, factor=line["factor"], metric=line["metric"], unit=unit)
    for i, end in enumerate(ends):
        text = "{mean:number} ({low:number} to {high:number}) at {level:number}"
        parts += [", "] * i + sentence(text, "curve", end)
    if line["p_change_adjusted"] <= ALPHA:
        text = (
            "; it steps by {change:number} between {change_after:number} and {change_before:number} (the step "
            "lies between {ci_low:number} and {ci_high:number})"
        )
        parts += sentence(text, "dose", row)
    return [*parts, "."]


@says("association", 36)
def _association(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    table = frames["association"]
    rows = table[(table["scope"] == "within cells") & ~table["metric"].str.startswith(BEHAVIOUR) & table["p"].notna()]
    if rows.empty:
        return
    goes = rows[rows["p_adjusted"] <= ALPHA].sort_values("p", kind="stable")
    runs = f"Among runs with the same levels of {listed(list(factors))}, once the effects of seeds are taken out,"
    name = str(rows["outcome"].iloc[0]).replace("/", " ")
    if goes.empty:
        yield Conclusion("What goes with accuracy", [f"{runs} no metric is shown to go with {name}."], claim=False)
        return
    parts: list[Any] = [f"{runs} {name} goes with "]
    for i, (row, line) in enumerate(goes.head(SHOWN).iterrows()):
        text = "{metric} (r {r:fraction}, {ci_low:fraction} to {ci_high:fraction})"
        parts += ["; "] * (i > 0) + sentence(text, "association", row, metric=line["metric"])
    yield Conclusion("What goes with accuracy", [*parts, ". That does not say which of them causes the other."])


@says("equivalence", 32)
def _equivalence(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    """Which levels are the same within the margin that was stated."""
    table = frames["equivalence"]
    same = table[table["outcome"].astype(str).str.startswith("equivalent")]
    for row, line in same.head(SHOWN).iterrows():
        text = (
            "{level_a} and {level_b} are equivalent in {metric}: the 90 % interval of their difference, {low:number} "
            "to {high:number}, lies within the stated margin of {margin:number}."
        )
        words = {key: line[key] for key in ("level_a", "level_b", "metric")}
        yield Conclusion("The same", sentence(text, "equivalence", row, **words))
    undecided = int((table["outcome"] == "undecided").sum())
    if undecided:
        some = (
            f"{undecided} of {len(table)} comparisons with a margin are undecided: neither a difference nor equivalence"
        )
        yield Conclusion("The same", [f"{some} within the margin is shown."], claim=False)


@says("divergence", 5)
def _diverged(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    """How many runs of each level diverged: comparisons are among those that finished."""
    table = frames["divergence"]
    for factor in factors:
        rows = table[(table["term"] == factor) & (table["diverged"] > 0)]
        parts: list[Any] = []
        for i, (row, line) in enumerate(rows.iterrows()):
            text = "{diverged:count} of {n:count} runs with {level} diverged ({low:percent} to {high:percent})"
            parts += ["; "] * (i > 0) + sentence(text, "divergence", row, level=line["level"])
        if parts:
            end = ". All comparisons below are among runs that finished."
            yield Conclusion("Runs that diverged", [f"By {factor}: ", *parts, end], claim=False)


@says("divergence_pairs", 6)
def _diverge_more(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    table = frames["divergence_pairs"]
    for row, line in table[table["p_adjusted"] <= ALPHA].iterrows():
        more, less = ("level_a", "level_b") if line["only_a"] > line["only_b"] else ("level_b", "level_a")
        counts = ("{only_a:count}", "{only_b:count}") if more == "level_a" else ("{only_b:count}", "{only_a:count}")
        text = f"{line[more]} diverges more often than {line[less]}: alone in {counts[0]} of {{n_pairs:count}} pairs, "
        text += f"against {counts[1]}."
        yield Conclusion("Runs that diverged", sentence(text, "divergence_pairs", row))


@says("datasets", 38)
def _datasets(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    """Over data sets as a random sample: the outcome only."""
    table = frames["datasets"]
    rows = table[table["metric"] == OUTCOME]
    for factor, pairs in rows.groupby("factor", sort=False):
        shown = pairs[(pairs["p_levels_adjusted"] <= ALPHA) & (pairs["p"] <= ALPHA)]
        for row, line in shown.iterrows():
            high, low = ("level_a", "level_b") if line["rank_a"] > line["rank_b"] else ("level_b", "level_a")
            ranks = (
                ("{rank_a:number}", "{rank_b:number}") if high == "level_a" else ("{rank_b:number}", "{rank_a:number}")
            )
            text = f"Over {{n_datasets:count}} data sets, {line[high]} ranks above {line[low]} by test accuracy "
            text += f"(mean ranks {ranks[0]} and {ranks[1]})."
            yield Conclusion("Over data sets", sentence(text, "datasets", row))
        if shown.empty:
            text = f"Over data sets, no two levels of {factor} are shown to differ in test accuracy."
            yield Conclusion("Over data sets", [text], claim=False)
