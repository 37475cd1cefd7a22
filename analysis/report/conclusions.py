"""What the tables say, in sentences, each number of which names the cell that it stands in.

A sentence is a list of words and of `Cell`s. A number is never written here: it is looked up when the sentence is
shown, so that text and table cannot disagree. What counts as found: p < 0.05, adjusted over all that the sentence
chooses from; the table's interval stands beside it.

Two tables are made for reading: `what_how` sums η² up over metrics of either side, `levels` describes each metric at
each level of each factor.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from string import Formatter
from typing import Literal

import numpy as np
import pandas as pd

from creditlab.analysis.effects.dose_response import CURVE
from creditlab.analysis.model.multiplicity import benjamini_hochberg, holm
from creditlab.analysis.names import BEHAVIOUR, RESIDUAL, SEED, labels

WHAT_HOW = ["of", "term", "n_metrics", "n_found", "median_eta_sq", "lowest", "highest", "highest_metric"]
LEVELS = ["metric", "factor", "level", "n_runs", "mean", "sd", "lowest", "highest"]
FOUND = 0.05
TERMS = 4  # that a sentence names
ACCURACY = "test/accuracy"
PAIR = "{level_a} less {level_b} {difference:number} ({ci_low:number} to {ci_high:number})"
OVER = "after Holm's correction over all that is compared"
AT_ONCE = ("paired, all", "Games-Howell", "Tukey")  # methods of posthoc whose p is of all pairs, the best one first
SCORES = {"loss": "which samples are hard", "confusion": "which classes are taken for which"}
WHAT, HOW = "what is learned", "how it is encoded"

Form = Literal["count", "fraction", "percent", "number", "p", "text"]


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


def what_how(anova: pd.DataFrame) -> pd.DataFrame:
    """η² of each term over the metrics of behaviour, and of encoding; n_found: metrics with Holm's p < 0.05."""
    tests = anova[anova["term"] != RESIDUAL]
    behaviour = tests["metric"].str.startswith(BEHAVIOUR)
    rows = []
    for of, part in ((WHAT, tests[behaviour]), (HOW, tests[~behaviour])):
        for term, own in part.groupby("term", sort=False):
            top = own.iloc[int(own["eta_sq"].argmax())]
            found = int((own["p_adjusted"] < FOUND).sum())
            middle, low = own["eta_sq"].median(), own["eta_sq"].min()
            rows.append((of, term, len(own), found, middle, low, top["eta_sq"], top["metric"]))
    return pd.DataFrame(rows, columns=WHAT_HOW)


def levels(runs: pd.DataFrame, factors: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Each metric at each level of each factor, over the complete runs that have a finite value."""
    complete = runs[runs["status"] == "complete"]
    parts = []
    for factor in factors:
        groups = complete[list(metrics)].groupby(labels(complete[[factor]])[factor])
        stacked = {
            "n_runs": groups.count(),
            "mean": groups.mean(),
            "sd": groups.std(),
            "lowest": groups.min(),
            "highest": groups.max(),
        }
        long = (frame.melt(ignore_index=False, var_name="metric", value_name=k) for k, frame in stacked.items())
        keyed = [table.rename_axis("level").set_index("metric", append=True) for table in long]
        parts.append(pd.concat(keyed, axis=1).reset_index().assign(factor=factor))
    if not parts:
        return pd.DataFrame(columns=LEVELS)
    table = pd.concat(parts, ignore_index=True)[LEVELS]
    place = {metric: i for i, metric in enumerate(metrics)}
    return table.sort_values("metric", key=lambda m: m.map(place), kind="stable", ignore_index=True)


def conclusions(tables: Mapping[str, pd.DataFrame], factors: Sequence[str]) -> list[Conclusion]:
    """What is to be said first, from the tables there are: what_how, levels, posthoc, dose (with curve), association,
    matched, concordance, similarity, fingerprint."""
    makers: dict[str, Callable[[pd.DataFrame, Sequence[str]], Iterator[Conclusion]]] = {
        "what_how": _shares,
        "levels": _accuracy,
        "posthoc": _pairs,
        "dose": partial(_trends, tables.get("curve", pd.DataFrame(columns=CURVE)).reset_index(drop=True)),
        "association": _association,
        "matched": _matched,
        "concordance": _concordance,
        "similarity": _similarity,
        "fingerprint": _fingerprint,
    }
    there = {name: tables[name].reset_index(drop=True) for name in makers if name in tables and len(tables[name])}
    return [conclusion for name, table in there.items() for conclusion in makers[name](table, factors)]


def _say(text: str, table: str, row: Hashable, **words: object) -> list[str | Cell]:
    """`text` with `{column:form}` for a cell of the row, and `{name}` for one of the words."""
    parts: list[str | Cell] = []
    for literal, name, form, _ in Formatter().parse(text):
        parts.append(literal)
        if name is not None:
            parts.append(str(words[name]) if name in words else Cell(table, int(str(row)), name, form))  # type: ignore[arg-type]
    return [part for part in parts if part != ""]


def _shares(table: pd.DataFrame, factors: Sequence[str]) -> Iterator[Conclusion]:
    effects = table[table["term"] != SEED]
    for of in dict.fromkeys(effects["of"]):
        own = effects[effects["of"] == of].sort_values("median_eta_sq", ascending=False, kind="stable")
        text = "{median_eta_sq:fraction}, from {lowest:fraction} to {highest:fraction}; found for {n_found:count} of "
        parts: list[str | Cell] = [f"Of {of}, "]
        for i, (row, term) in enumerate(own["term"].head(TERMS).items()):
            parts.append(", " + "then " * (i == 1) + f"{term} (" if i else f"{term} explains most (median η² ")
            parts += _say(text + "{n_metrics:count} metrics)", "what_how", row)
        yield Conclusion("Share of variance", [*parts, "."])


def _accuracy(table: pd.DataFrame, factors: Sequence[str]) -> Iterator[Conclusion]:
    for factor in factors:
        own = table[(table["metric"] == "test/accuracy") & (table["factor"] == factor)].dropna(subset=["mean"])
        if len(own) < 2:
            continue
        ends = "with {level} (mean {mean:fraction}, SD {sd:fraction}, {n_runs:count} runs)"
        worst, *_, best = own.sort_values("mean", kind="stable").index.tolist()
        parts = [
            f"By {factor}, test accuracy is highest ",
            *_say(ends, "levels", best, level=own.loc[best, "level"]),
            " and lowest ",
            *_say(ends, "levels", worst, level=own.loc[worst, "level"]),
            ".",
        ]
        yield Conclusion("Accuracy", parts)


def _clearest(
    table: str, rows: pd.DataFrame, p: np.ndarray | pd.Series, found: str, none: str, text: str
) -> list[str | Cell]:
    """`found` and, in the words of `text`, the first of the rows with p < FOUND; `none` and the first of all where no
    row has that."""
    those = rows[p < FOUND]
    parts: list[str | Cell] = [found if len(those) else none]
    for i, (row, line) in enumerate((those if len(those) else rows[:1]).head(TERMS).iterrows()):
        names = {str(key): value for key, value in line.items() if isinstance(value, str)}
        parts += [*["; "] * (i > 0), *_say(text, table, row, **names)]
    return [*parts, "; and others." if len(those) > TERMS else "."]


def _pairs(table: pd.DataFrame, factors: Sequence[str]) -> Iterator[Conclusion]:
    method = next((each for each in AT_ONCE if each in set(table["method"])), None)
    table = table[(table["method"] == method) & table["p"].notna()].sort_values("p", kind="stable")
    for factor in factors:
        own = table[table["factor"] == factor]
        accuracy, encoding = own[own["metric"] == ACCURACY], own[~own["metric"].str.startswith(BEHAVIOUR)]
        if len(accuracy):
            by = f"(method {method!r}, of all pairs at once)"
            found = f"By {factor}, test accuracy differs {by}: "
            none = f"By {factor}, test accuracy is not shown to differ {by}; clearest is "
            parts = _clearest("posthoc", accuracy, accuracy["p_adjusted"], found, none, PAIR)
            yield Conclusion("Pairs of levels", parts)
        if len(encoding):
            found = f"By {factor}, of {HOW}, most clearly differ, {OVER}: "
            none = f"By {factor}, of {HOW}, nothing is shown to differ {OVER}; clearest, alone, is "
            p = holm(encoding["p"].to_numpy())
            yield Conclusion("Pairs of levels", _clearest("posthoc", encoding, p, found, none, f"{{metric}}, {PAIR}"))


def _trends(curve: pd.DataFrame, table: pd.DataFrame, factors: Sequence[str]) -> Iterator[Conclusion]:
    """Of test accuracy, and of metrics of encoding whose trend is found; only where the curve's ends have intervals."""
    for factor, own in table.groupby("factor", sort=False):
        encoding = own[~own["metric"].str.startswith(BEHAVIOUR)].sort_values("p_trend", kind="stable")
        found = encoding[benjamini_hochberg(encoding["p_trend"].to_numpy()) < FOUND] if len(encoding) else encoding
        for row, line in pd.concat([own[own["metric"] == ACCURACY], found.head(TERMS)]).iterrows():
            points = curve[(curve["factor"] == factor) & (curve["metric"] == line["metric"])].sort_values("level")
            ends = points.iloc[[0, -1]] if len(points) else points
            if ends.empty or ends[["low", "high"]].isna().any(axis=None):
                continue
            way = "rises" if line["tau"] > 0 else "falls"
            way = way if line["p_trend"] < FOUND else "is not shown to rise or fall"
            text = "With {factor}, {metric} {way} (Kendall's τ {tau:fraction}, p {p_trend:p}): "
            parts = _say(text, "dose", row, factor=factor, metric=line["metric"], way=way)
            for i, end in enumerate(ends.index):
                text = "{mean:number} ({low:number} to {high:number}) at {level:number}"
                parts += [", "] * i + _say(text, "curve", end)
            if line["p_change"] < FOUND:
                text = (
                    "; it steps by {change:number} between {change_after:number} and {change_before:number} (the step "
                    "lies between {ci_low:number} and {ci_high:number}; p {p_change:p})"
                )
                parts += _say(text, "dose", row)
            yield Conclusion("Trends", [*parts, "."])


def _association(table: pd.DataFrame, factors: Sequence[str]) -> Iterator[Conclusion]:
    text = "{metric}, r {r:fraction} ({ci_low:fraction} to {ci_high:fraction})"
    for factor in factors:
        own = table[(table["scope"] == f"within {factor}") & ~table["metric"].str.startswith(BEHAVIOUR)]
        own = own.dropna(subset=["p", "ci_low"]).sort_values("p", kind="stable")
        if len(own):
            found = f"Within the levels of {factor}, {OVER}, test accuracy goes with "
            none = (
                f"Within the levels of {factor}, nothing is shown to go with test accuracy {OVER}; clearest, alone, is "
            )
            parts = _clearest("association", own, holm(own["p"].to_numpy()), found, none, text)
            yield Conclusion("What goes with accuracy", parts)


def _matched(table: pd.DataFrame, factors: Sequence[str]) -> Iterator[Conclusion]:
    table = table[(table["by"] == ACCURACY) & table["p"].notna()].sort_values("p", kind="stable")
    for factor in factors:
        own = table[table["factor"] == factor]
        encoding = own[~own["metric"].str.startswith(BEHAVIOUR) & (own["metric"] != "step")]
        for of, rows, text in (
            ("the steps to it", own[own["metric"] == "step"], PAIR),
            (HOW, encoding, f"{{metric}}, {PAIR}"),
        ):
            if len(rows):
                start = _say(f"Where accuracy is {{target:percent}}, of {of}, ", "matched", rows.index[0])
                found = f"by {factor}, most clearly differ, {OVER}: "
                none = f"nothing is shown to differ by {factor} {OVER}; clearest, alone, is "
                parts = _clearest("matched", rows, holm(rows["p"].to_numpy()), found, none, text)
                yield Conclusion("At equal accuracy", [*start, *parts])


def _concordance(table: pd.DataFrame, factors: Sequence[str]) -> Iterator[Conclusion]:
    for row, line in table[table["raters"] != SEED].iterrows():
        found = line["p_permutation"] < FOUND and line["ci_low"] > 1 / line["n_raters"]
        text = (
            "On {dataset}, the {n_raters:count} levels of {raters} {verb} on {score}: Kendall's W "
            "{W:fraction} ({ci_low:fraction} to {ci_high:fraction}), where unrelated raters have 1/{n_raters:count}"
        )
        if pd.notna(line["noise_ceiling"]):
            text += " and raters that differ by their seeds alone {noise_ceiling:fraction}: "
            text += "less than" if line["ci_high"] < line["noise_ceiling"] else "no less than"
            text += " seeds alone would leave"
        words = {"dataset": line["dataset"], "raters": line["raters"], "score": SCORES[line.get("score", "loss")]}
        verb = "agree" if found else "are not shown to agree"
        yield Conclusion("Concordance", _say(text + ".", "concordance", row, verb=verb, **words))


def _similarity(table: pd.DataFrame, factors: Sequence[str]) -> Iterator[Conclusion]:
    own = table[(table["measure"] == "RDM") & (table["items"] == "classes") & table["p"].notna()]
    for row, line in own.sort_values("factor", key=lambda f: f.map(list(factors).index), kind="stable").iterrows():
        text = (
            "On {dataset}, in {layer}, the class representations of two runs of one {factor} {verb} than those of two: "
            "Spearman's ρ of RDMs {within:fraction} against {between:fraction} (difference {difference:fraction}, "
            "{ci_low:fraction} to {ci_high:fraction}; p {p:p})."
        )
        words = {key: line[key] for key in ("dataset", "layer", "factor")}
        found = line["p"] < FOUND and line["ci_low"] > 0  # of these runs, and of more classes than these
        verb = "are more alike" if found else "are not shown to be more alike"
        yield Conclusion("Representation", _say(text, "similarity", row, verb=verb, **words))


def _fingerprint(table: pd.DataFrame, factors: Sequence[str]) -> Iterator[Conclusion]:
    for target, own in table.groupby("target", sort=False):
        rows = {(m, c, h): row for row, m, c, h in own[["metrics", "classifier", "held_out"]].itertuples()}
        parts: list[str | Cell] = []
        for (metrics, classifier, held), row in rows.items():
            if (metrics, classifier) != ("encoding", "linear"):
                continue
            which = "a seed" if held == SEED else f"a level of {held}"
            before = "; with " if parts else f"From its encoding, {target} is told with "
            parts += [before, which, *_say(" never seen in {accuracy:percent} of runs", "fingerprint", row)]
            parts += _say(" (chance {chance:percent}, p {p:p}", "fingerprint", row)
            if ("initial", "linear", held) in rows:
                control = rows["initial", "linear", held]
                parts += _say("; before training {accuracy:percent}", "fingerprint", control)
            parts.append(")")
        if ("encoding", "single", SEED) in rows:
            single = rows["encoding", "single", SEED]
            text = ". {best} alone tells it in {accuracy:percent} (p {p:p}, for the best of all metrics)"
            parts += _say(text, "fingerprint", single, best=own.loc[single, "best_metric"])
        if parts:
            yield Conclusion("Fingerprint", [*parts, "."])
