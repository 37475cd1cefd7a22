"""What is said of agreement: on hard samples, of representations, and whether a level can be identified."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from creditlab.analysis.agreement import fingerprint, similarity
from creditlab.analysis.names import ALPHA, SEED
from creditlab.analysis.report.conclusions import Conclusion, Frames, is_shown, says, sentence

SCORES = {"loss": "which samples are hard", "confusion": "which classes are confused with which"}


@says("concordance", 50)
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
        yield Conclusion("Concordance", sentence(text + ".", "concordance", row, verb=verb, **words))


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
        yield Conclusion("Representation", sentence(text, "similarity", row, verb=verb, **words))


@says("fingerprint", 70)
def _fingerprint(frames: Frames, factors: Sequence[str]) -> Iterator[Conclusion]:
    for target, of_target in frames["fingerprint"].groupby("target", sort=False):
        columns = of_target[["metrics", "classifier", "held_out"]]
        rows = {(metrics, classifier, held): row for row, metrics, classifier, held in columns.itertuples()}
        parts: list[Any] = []
        for (metrics, classifier, held), row in rows.items():
            if (metrics, classifier) != ("encoding", "linear"):
                continue
            new = f"a {SEED if held == SEED else f'level of {held}'} new to the classifier"
            shown = is_shown(frames, *fingerprint.question_of(str(target), str(held), "linear"))
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
            yield Conclusion("Fingerprint", [*parts, "."])
