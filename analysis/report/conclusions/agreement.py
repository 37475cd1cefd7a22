"""What is said of agreement: on hard samples, of representations, and whether a level can be identified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from creditlab.analysis.agreement import concordance, fingerprint, similarity
from creditlab.analysis.names import SEED
from creditlab.analysis.report.conclusions import Conclusion, Frames, is_shown, says, sentence

DROP = "two seeds of one level agree better by {difference:fraction} in ρ ({ci_low:fraction} to {ci_high:fraction})"
LIMITS = {  # by the verdict of the table
    concordance.LESS: f"They agree less than seeds leave: {DROP}",
    f"{concordance.LESS}, by less than the margin": f"They agree a little less than seeds leave: {DROP}",
    concordance.EQUIVALENT: "They agree as well as two seeds of one level do, within {margin:fraction} in ρ",
    concordance.NOT_SHOWN: "They are not shown to agree less than seeds leave: that two seeds of one level agree "
    "better by {difference:fraction} in ρ may be chance",
}
SCORES = {"loss": "which samples are hard", "confusion": "which classes are confused with which"}


@says("concordance", 50)
def _concordance(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    """How far raters agree, and whether as well as two seeds of one rater do."""
    table, limits = frames["concordance"], frames["seed_limit"]
    for row, line in table[table["raters"] != SEED].iterrows():
        text = (
            "On {dataset}, the {n_raters:count} levels of {raters} {verb} on {score}: Kendall's W "
            "{W:fraction} ({ci_low:fraction} to {ci_high:fraction}); {floor:fraction} would be chance"
        )
        words = {"dataset": line["dataset"], "raters": line["raters"], "score": SCORES[line.get("score", "loss")]}
        above = is_shown(frames, *concordance.above_chance(line["dataset"], line["score"], line["raters"]))
        verb = "agree" if above else "are not shown to agree"
        parts: list[Any] = sentence(text, "concordance", row, verb=verb, **words)
        keys = ["dataset", "score", "raters"]
        limit = limits[(limits[keys] == line[keys].to_numpy()).all(axis=1)]
        for at, of_seeds in limit[limit["verdict"] != ""].iterrows():
            parts += sentence(f". {LIMITS[str(of_seeds['verdict'])]}", "seed_limit", at)
        yield Conclusion("Concordance", [*parts, "."], claim=above)


@says("similarity", 60)
def _similarity(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    table = frames["similarity"]
    rows = table[(table["measure"] == "RDM") & (table["items"] == "classes") & table["p"].notna()]
    rows = rows[rows["factor"].isin(factors)]
    for row, line in rows.sort_values("factor", key=lambda f: f.map(list(factors).index), kind="stable").iterrows():
        text = (
            "On {dataset}, in {layer}, class representations {verb} within {factor} than between its levels: "
            "Spearman's ρ of RDMs {within:fraction} against {between:fraction} (difference {difference:fraction}, "
            "{ci_low:fraction} to {ci_high:fraction})."
        )
        words = {key: line[key] for key in ("dataset", "layer", "factor")}
        shown = is_shown(frames, *similarity.question_of(*map(str, line[["dataset", "layer", "factor"]])))
        alike = shown and line["ci_low"] > 0  # of these runs, and of more classes than these
        verb = "are more alike" if alike else "are not shown to be more alike"
        yield Conclusion("Representation", sentence(text, "similarity", row, verb=verb, **words), claim=alike)


@says("fingerprint", 70)
def _fingerprint(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    for target, of_target in frames["fingerprint"].groupby("target", sort=False):
        columns = of_target[["metrics", "classifier", "held_out"]]
        rows = {(metrics, classifier, held): row for row, metrics, classifier, held in columns.itertuples()}
        parts: list[Any] = []
        identified = []
        for (metrics, classifier, held), row in rows.items():
            if (metrics, classifier) != ("encoding", "linear"):
                continue
            new = f"a {SEED if held == SEED else f'level of {held}'} new to the classifier"
            shown = is_shown(frames, *fingerprint.question_of(str(target), str(held), "linear"))
            identified.append(shown)
            verb = "is identified" if shown else "is not shown to be identified"
            parts.append("; " if parts else f"From internal metrics, {target} ")
            parts.append(f"{verb} with ")
            parts += [new, *sentence(" in {accuracy:percent} of runs", "fingerprint", row)]
            parts += sentence(" (chance {chance:percent}", "fingerprint", row)
            if ("initial", "linear", held) in rows:
                control = rows["initial", "linear", held]
                parts += sentence("; before training {accuracy:percent}", "fingerprint", control)
            parts.append(")")
        by_one = is_shown(frames, *fingerprint.question_of(str(target), SEED, "single"))
        if ("encoding", "single", SEED) in rows and by_one:
            single = rows["encoding", "single", SEED]
            text = ". {best} by itself identifies it in {accuracy:percent}"
            parts += sentence(text, "fingerprint", single, best=of_target.loc[single, "best_metric"])
        if parts:
            yield Conclusion("Fingerprint", [*parts, "."], claim=any(identified))
