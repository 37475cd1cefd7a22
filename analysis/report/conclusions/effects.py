"""What is said of the effects of factors: on the outcome, on other metrics, and where runs are equally far."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import pandas as pd

from creditlab.analysis.effects.shares import HOW, WHAT
from creditlab.analysis.names import BEHAVIOUR
from creditlab.analysis.report.conclusions import SHOWN, Conclusion, Frames, ahead, listed, outcome, says, sentence

SIDES = {WHAT: ("metric of behaviour", "metrics of behaviour"), HOW: ("internal metric", "internal metrics")}
INTERVAL = "({low} to {high})"


@says("posthoc", 10)
def _outcome(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    """Which levels are ahead by the outcome, which are not shown to differ, and what an average hides."""
    metric = outcome(frames)
    pairs = frames["posthoc"]
    pairs = pairs[pairs["metric"] == metric]
    if metric is None or pairs.empty:
        return
    noun, form, _ = words_of(metric, str(pairs["scale"].iloc[0]))
    for factor in factors:
        rows = pairs[(pairs["factor"] == factor) & (pairs["at"] == "")]
        if rows.empty:
            continue
        if rows["p"].isna().all():
            text = f"By {factor}, there is no verdict on {noun}: at least three seeds are needed."
            yield Conclusion("Accuracy", [text], claim=False)
            continue
        simple = pairs[(pairs["factor"] == factor) & (pairs["at"] != "")]
        others = [other for other in factors if other != factor and other in set(pairs["factor"])]
        over = f", averaged over {listed(others)}" if others else ""
        effect = frames["anova"].query("metric == @metric and term == @factor")
        if effect["found"].any():
            yield Conclusion("Accuracy", _ranked(factor, rows, over, noun, form, effect.index[0]))
        else:
            yield Conclusion("Accuracy", _not_shown(factor, rows, over, noun, form), claim=False)
        if len(simple):
            yield Conclusion("Accuracy", _within(factor, simple, noun, form))


def words_of(metric: str, scale: str) -> tuple[str, str, str]:
    """A metric in words, the form of its differences, and what the level with more of it is."""
    if metric.endswith("accuracy"):
        return metric.replace("/", " "), "points" if scale == "logit" else "number", "is more accurate than"
    return metric, "number", f"has a higher {metric} than"


def _not_shown(factor: str, rows: pd.DataFrame, over: str, noun: str, form: str) -> list[Any]:
    """That levels are not shown to differ, and by how much they may. No order is given."""
    at = int(rows["difference"].abs().to_numpy().argmax())
    text = f"By {factor}, {noun} is not shown to differ{over}. The largest difference is that of {{more}} over "
    text += "{less}: {by}, and anything from {low} to {high} fits the data."
    return ahead(rows.index[at], rows.iloc[at], text, form)


def _ranked(factor: str, rows: pd.DataFrame, over: str, noun: str, form: str, effect: Hashable) -> list[Any]:
    """Levels by their means: who is ahead, and who is not shown to be behind. `effect` is the row of the F test."""
    metric, shown = str(rows["metric"].iloc[0]), rows[rows["found"]]
    if shown.empty:
        text = (
            f"By {factor}, {noun} differs{over} (p {{p_adjusted:p}}), but no single pair of levels is shown to differ."
        )
        return sentence(text, "anova", effect)
    means: dict[str, float] = {}
    for line in rows.to_dict("records"):
        means |= {line["level_a"]: line["mean_a"], line["level_b"]: line["mean_b"]}
    best = max(means, key=lambda level: means[level])
    behind = {frozenset((line["level_a"], line["level_b"])) for line in shown.to_dict("records")}
    level_with = [level for level in means if level != best and frozenset((best, level)) not in behind]
    parts: list[Any] = [f"By {factor}, {noun} differs{over}: "]
    _, _, verb = words_of(metric, str(rows["scale"].iloc[0]))
    for i, (row, pair) in enumerate(shown.sort_values("p", kind="stable").head(SHOWN).iterrows()):
        parts += ["; "] * (i > 0)
        parts += ahead(row, pair, f"{{more}} {verb} {{less}} by {{by}} {INTERVAL}", form)
    parts.append(f"; and {len(shown) - SHOWN} more pairs differ." if len(shown) > SHOWN else ".")
    if level_with:
        parts.append(f" {best} has the highest mean; {listed(level_with)} {_is(level_with)} not shown to be behind it.")
    elif len(means) > 2:
        parts.append(f" {best} is ahead of every other level.")
    return parts


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def at_level(line: pd.Series) -> str:
    """The level of another factor at which a pair is compared, in words."""
    return str(line["at"]).replace("=", " ")


def _within(factor: str, simple: pd.DataFrame, noun: str, form: str) -> list[Any]:
    """How the effect of a factor depends on another one."""
    others = listed(sorted({str(at).partition("=")[0] for at in simple["at"]}))
    parts: list[Any] = [f"The average hides a difference: what {factor} does to {noun} depends on {others}"]
    shown = simple[simple["found"]].sort_values("p", kind="stable")
    _, _, verb = words_of(*map(str, simple[["metric", "scale"]].iloc[0]))
    for i, (row, line) in enumerate(shown.head(SHOWN).iterrows()):
        parts += [f"; with {at_level(line)}, " if i else f". With {at_level(line)}, "]
        parts += ahead(row, line, f"{{more}} {verb} {{less}} by {{by}} {INTERVAL}", form)
    if shown.empty:
        parts.append(", but within no single level is a pair of levels shown to differ")
    return [*parts, "."]


@says("what_how", 20)
def _what_how(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    effects = frames["what_how"]
    for side in dict.fromkeys(effects["of"]):
        rows = effects[effects["of"] == side].sort_values("n_found", ascending=False, kind="stable")
        shown = rows[rows["n_found"] > 0]
        parts: list[Any] = []
        metrics = SIDES[side][int(rows["n_metrics"].max() > 1)]
        for i, (row, term) in enumerate(shown["term"].head(SHOWN).items()):
            first = f"Of {{n_metrics:count}} {metrics}, {{n_found:count}} {{verb}} shown to depend on "
            text = ("; {n_found:count} on " if i else first) + effect_in_words(str(term))
            parts += sentence(text, "what_how", row, verb="is" if rows.loc[row, "n_found"] == 1 else "are")
        if shown.empty:
            text = f"Of {{n_metrics:count}} {metrics}, none is shown to depend on a factor"
            parts += sentence(text, "what_how", rows.index[0])
        yield Conclusion("What changes", [*parts, "."], claim=not shown.empty)


def effect_in_words(term: str) -> str:
    """A term as the object of a sentence."""
    names = term.split(":")
    return names[0] if len(names) == 1 else f"the combination of {listed(names)}"


@says("posthoc", 30)
def _internal(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    """The pairs of levels whose internal metrics differ most clearly."""
    pairs = frames["posthoc"]
    pairs = pairs[~pairs["metric"].str.startswith(BEHAVIOUR) & (pairs["at"] == "") & pairs["found"]]
    for factor in factors:
        rows = pairs[pairs["factor"] == factor].sort_values("p", kind="stable")
        parts: list[Any] = []
        for i, (row, line) in enumerate(rows.drop_duplicates("metric").head(SHOWN).iterrows()):
            text = f"{{metric}} is higher under {{more}} than under {{less}} by {{by}} {INTERVAL}"
            parts += ["; " if i else f"By {factor}, the clearest differences of internal metrics: "]
            parts += ahead(row, line, text, "number")
        if parts:
            yield Conclusion("Internal metrics", [*parts, "."])


@says("matched", 40)
def _matched(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    """Where runs are equally accurate: who needs more steps, and which internal metrics still differ."""
    table = frames["matched"]
    table = table[table["by"] == outcome(frames)]
    for factor in factors:
        rows = table[(table["factor"] == factor) & table["found"]].sort_values("p", kind="stable")
        steps = rows[rows["metric"] == "step"]
        internal = rows[~rows["metric"].str.startswith(BEHAVIOUR) & (rows["metric"] != "step")]
        for of_kind, text in (
            (steps, f"{{more}} needs {{by}} more steps than {{less}} {INTERVAL}"),
            (internal, f"{{metric}} is higher under {{more}} than under {{less}} by {{by}} {INTERVAL}"),
        ):
            parts: list[Any] = []
            for i, (row, line) in enumerate(of_kind.drop_duplicates("metric").head(SHOWN).iterrows()):
                start = sentence("Where every run has first reached {target:percent}, ", "matched", row)
                parts += ["; "] if i else start
                parts += ahead(row, line, text, "number", "matched")
            if parts:
                yield Conclusion("At equal accuracy", [*parts, "."])
