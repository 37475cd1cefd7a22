"""Figures of how far runs agree: concordance, similarity of representations, which rule a run was identified as."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from creditlab.analysis.names import SEED, natural
from creditlab.analysis.report.figures import drawing
from creditlab.analysis.report.figures.figure import SHOWN, Figure, View, draws, plain
from creditlab.analysis.report.figures.training import layer_order


@draws("concordance")
def _concordance(view: View) -> Iterator[Figure]:
    table = view.frames["concordance"]
    rows = pd.DataFrame(
        {
            "label": [_raters(row) for row in table.to_dict("records")],
            "estimate": table["W"],
            "low": table["ci_low"],
            "high": table["ci_high"],
            "floor 1/m": 1 / table["n_raters"].astype(float),
            "noise ceiling": table["noise_ceiling"],
        }
    )
    yield Figure(
        "concordance",
        "Do raters agree?",
        "Kendall's W with its interval, between the floor of unrelated raters and the ceiling that seeds set.",
        "concordance",
        drawing.intervals(rows, "Kendall's W", span=(0, 1), reference=None),
    )


@draws("concordance_pairs")
def _agreement(view: View) -> Iterator[Figure]:
    """The concordance matrix: Spearman's ρ of each two raters."""
    pairs = view.frames["concordance_pairs"]
    for raters in (r for r in dict.fromkeys(pairs["raters"]) if r != SEED):
        rows = pairs[pairs["raters"] == raters].rename(columns={"rater_a": "a", "rater_b": "b"})
        if len({*rows["a"], *rows["b"]}) < 3:
            continue  # one number, and it stands in the table
        panel = rows["dataset"] + ": " + rows["score"]
        both = pd.concat([rows, rows.rename(columns={"a": "b", "b": "a"})]).assign(panel=pd.concat([panel, panel]))
        yield Figure(
            f"agreement_{plain(raters)}",
            f"Agreement of each two: {raters}",
            "Spearman's ρ of per-sample loss, and of the confusion of classes, between raters.",
            "concordance_pairs",
            drawing.matrices(
                both,
                *("a", "b", "spearman"),
                panel="panel",
                what="Spearman's ρ",
                span=(min(0.0, float(both["spearman"].min())), 1.0),
                form=".2f",
            ),
        )


@draws("similarity_pairs")
def _similarity(view: View) -> Iterator[Figure]:
    pairs, factor = view.frames["similarity_pairs"], view.factor
    chosen = pairs[(pairs["factor"] == factor) & (pairs["items"] == "classes")]
    if chosen.empty:
        return
    mirrored = chosen[chosen["a"] != chosen["b"]].rename(columns={"a": "b", "b": "a"})
    both = pd.concat([chosen, mirrored], ignore_index=True)
    both["panel"] = both["dataset"] + ", " + both["layer"] + ": " + both["measure"]
    panels = sorted(dict.fromkeys(both["panel"]), key=natural)[: 2 * SHOWN]
    low = min(0.0, float(both["similarity"].min()))
    yield Figure(
        "similarity",
        "How alike are the representations?",
        f"Mean similarity of two runs of different seeds by {factor}, by layer: Spearman's ρ of RDMs over classes, and "
        "debiased CKA. On the diagonal two runs of one level.",
        "similarity_pairs",
        drawing.matrices(
            both[both["panel"].isin(panels)],
            *("a", "b", "similarity"),
            panel="panel",
            what="similarity",
            span=(low, 1.0),
            form=".2f",
        ),
    )


@draws("rdms")
def _rdms(view: View) -> Iterator[Figure]:
    table, factor = view.frames["rdms"], view.factor
    rows = table[table["factor"] == factor]
    for dataset in sorted(set(rows["dataset"])):
        of_dataset = rows[rows["dataset"] == dataset]
        layer = max(of_dataset["layer"], key=layer_order)
        yield Figure(
            f"rdms_{plain(dataset)}",
            f"Dissimilarity of classes: {dataset}, {layer}",
            f"Mean {of_dataset['distance'].iloc[0]} distance of class means, in the last layer recorded, over the runs "
            f"of each {factor}.",
            "rdms",
            drawing.rdms(of_dataset[of_dataset["layer"] == layer]),
        )


@draws("fingerprint_confusion")
def _confusion(view: View) -> Iterator[Figure]:
    table = view.frames["fingerprint_confusion"]
    chosen = table[(table["classifier"] == "linear") & (table["metrics"] == "encoding")]
    for target in dict.fromkeys(chosen["target"]):
        rows = chosen[chosen["target"] == target]
        splits, levels = dict.fromkeys(rows["held_out"]), sorted({*rows["true"], *rows["identified_as"]})
        every = pd.MultiIndex.from_product([splits, levels, levels], names=["held_out", "true", "identified_as"])
        counts = rows.groupby(every.names)["n_runs"].sum().reindex(every, fill_value=0).reset_index()
        top = counts.groupby(["held_out", "true"])["n_runs"].sum().max()
        yield Figure(
            f"fingerprint_{target}",
            f"Identified from internal metrics: {target}",
            "Runs by true level (rows) and level identified by the linear classifier (columns), with one seed, or one "
            "level of another factor, held out.",
            "fingerprint_confusion",
            drawing.matrices(
                counts.assign(held_out="held out: " + counts["held_out"]),
                *("true", "identified_as", "n_runs"),
                panel="held_out",
                what="runs",
                span=(0.0, float(np.maximum(top, 1))),
                form=".0f",
            ),
        )


def _raters(row: dict[Hashable, Any]) -> str:
    score = f", {row['score']}" if "score" in row else ""
    return f"{row['dataset']}{score}: {row['raters']} (m = {row['n_raters']})"
