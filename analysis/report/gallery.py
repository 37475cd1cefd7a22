"""Which figures a sweep's tables give, each with its caption and the table that it draws.

    figures/variance_share.svg   figures/variance_share.png   …

A figure is there if its table is and has something to show.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from creditlab.analysis.data.collect import Sweep
from creditlab.analysis.names import SEED, labels, natural
from creditlab.analysis.report import figures
from creditlab.analysis.report.terminal import levels_of

MANY = 60  # metrics: above this the picture of shares shows means over layers
SHOWN = 6  # panels
RANKS = ("stable_rank", "effective_rank", "participation_ratio")


@dataclass(frozen=True)
class Plate:
    """A figure, what it shows in a sentence or two, and the name of the table behind it."""

    name: str
    title: str
    caption: str
    table: str
    figure: Figure


def gallery(sweep: Sweep, tables: Mapping[str, pd.DataFrame]) -> Iterator[Plate]:
    """The figures of a sweep, from its `tables` by name (anova, concordance, similarity_pairs, rdms, …)."""
    first = next((f for f in sweep.factors if f in ("algorithm", "optimiser")), next(iter(sweep.factors), None))
    yield from _shares(tables.get("anova"))
    yield from _concordance(tables.get("concordance"))
    yield from _agreement(tables.get("agreement"))
    if first:
        complete = sweep.usable[sweep.usable["status"] == "complete"]
        yield from _effects(tables.get("anova"), first)
        yield from _trajectories(sweep, first, tables)
        yield from _ranks(complete, first, sweep)
        yield from _doses(complete, first, sweep)
        yield from _similarity(tables.get("similarity_pairs"), first)
        yield from _rdms(tables.get("rdms"), first)
    yield from _confusion(tables.get("fingerprint_confusion"))


def _over_seeds(factor: str) -> str:
    return f"Means over seeds by {factor}, with Student's interval of 95 % (a seed counts by the mean of its runs)."


def _plain(name: str) -> str:
    """A name that can be part of a file's."""
    return re.sub(r"\W+", "_", name)


def _shares(anova: pd.DataFrame | None) -> Iterator[Plate]:
    if anova is None or anova.empty:
        return
    shares = anova if len(set(anova["metric"])) <= MANY else figures.over_layers(anova)
    yield Plate(
        "variance_share",
        "What and how: the share of variance by factor",
        "η² of each term of the analysis of variance. Above, metrics of what is learned; below, of how it is encoded.",
        "anova",
        figures.variance_share(shares),
    )


def _effects(anova: pd.DataFrame | None, factor: str) -> Iterator[Plate]:
    if anova is None or "eta_sq_low" not in anova:
        return
    own = anova[anova["term"] == factor].head(MANY)
    if own.empty:
        return
    columns = {"metric": "label", "eta_sq": "estimate", "eta_sq_low": "low", "eta_sq_high": "high", "omega_sq": "ω²"}
    yield Plate(
        "effects",
        f"How much {factor} explains",
        f"η² of {factor} for each metric, with its interval of 95 %, and ω², which chance does not lift.",
        "anova",
        figures.intervals(own[list(columns)].rename(columns=columns), "share of variance, η²", (0, 1), None),
    )


def _agreement(pairs: pd.DataFrame | None) -> Iterator[Plate]:
    """The concordance matrix: Spearman's ρ of each two raters."""
    if pairs is None or pairs.empty:
        return
    for raters in (r for r in dict.fromkeys(pairs["raters"]) if r != SEED):
        own = pairs[pairs["raters"] == raters].rename(columns={"rater_a": "a", "rater_b": "b"})
        if len({*own["a"], *own["b"]}) < 3:
            continue  # one number, and it stands in the table
        panel = own["dataset"] + ": " + own["score"]
        both = pd.concat([own, own.rename(columns={"a": "b", "b": "a"})]).assign(panel=pd.concat([panel, panel]))
        yield Plate(
            f"agreement_{_plain(raters)}",
            f"Agreement of each two: {raters}",
            "Spearman's ρ of per-sample loss, and of the confusion of classes, between raters.",
            "agreement",
            figures.matrices(
                both,
                *("a", "b", "spearman"),
                panel="panel",
                what="Spearman's ρ",
                span=(min(0.0, float(both["spearman"].min())), 1.0),
                form=".2f",
            ),
        )


def _concordance(table: pd.DataFrame | None) -> Iterator[Plate]:
    if table is None or table.empty:
        return
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
    yield Plate(
        "concordance",
        "Do raters agree?",
        "Kendall's W with its interval, between the floor of unrelated raters and the ceiling that seeds set.",
        "concordance",
        figures.intervals(rows, "Kendall's W", span=(0, 1), reference=None),
    )


def _raters(row: dict[Hashable, Any]) -> str:
    score = f", {row['score']}" if "score" in row else ""
    return f"{row['dataset']}{score}: {row['raters']} (m = {row['n_raters']})"


def _main(sweep: Sweep) -> list[str]:
    return [m for m in sweep.outcomes if m in ("test/accuracy", "test/loss")]


def _telling(sweep: Sweep, factor: str, anova: pd.DataFrame | None) -> list[str]:
    """Test accuracy, then the encoding metrics on which the factor tells most, one a kind of metric."""
    chosen = _main(sweep)
    if anova is not None:
        own = anova[(anova["term"] == factor) & ~anova["metric"].isin(chosen)]
        own = own[~own["metric"].str.startswith("train/")]
        seen = set()
        for metric in own.sort_values("eta_sq", ascending=False, kind="stable")["metric"]:
            if metric.split("/")[-1] not in seen:
                seen.add(metric.split("/")[-1])
                chosen.append(metric)
    return chosen[:SHOWN]


def _trajectories(sweep: Sweep, factor: str, tables: Mapping[str, pd.DataFrame]) -> Iterator[Plate]:
    table = tables.get("trajectories")
    if table is None or table.empty:
        return
    metrics = _telling(sweep, factor, tables.get("anova"))
    own = table[(table["factor"] == factor) & table["metric"].isin(metrics)]
    if own["step"].nunique() < 3:
        return
    own = own.sort_values("step", kind="stable").rename(columns={"level": factor})
    own = own.sort_values("metric", key=lambda names: names.map(metrics.index), kind="stable")
    yield Plate(
        "trajectories",
        "Along training",
        f"{_over_seeds(factor)} Accuracy and loss, then the metrics of encoding whose variance {factor} explains most.",
        "trajectories",
        figures.curves(own, "step", panel="metric", series=factor, label="step", log=True),
    )


def _layered(sweep: Sweep) -> dict[str, list[tuple[str, str]]]:
    """{`weights/·/stable_rank`: [(layer, metric), …]} of the ranks, layers in their order; effective ranks and those of
    learning signals first.
    """
    kinds: dict[str, list[tuple[str, str]]] = {}
    for metric in sweep.outcomes:
        parts = metric.split("/")
        if len(parts) == 3 and any(parts[2].endswith(rank) for rank in RANKS):
            kinds.setdefault(f"{parts[0]}/·/{parts[2]}", []).append((parts[1], metric))
    found = [(kind, layers) for kind, layers in kinds.items() if len(layers) > 1]
    first = sorted(found, key=lambda kind: (not kind[0].endswith("effective_rank"), not kind[0].startswith("signals")))
    return dict(first)


def _layer_order(name: str) -> tuple:
    return name in ("readout", "fc", "head"), natural(name)


def _ranks(complete: pd.DataFrame, factor: str, sweep: Sweep) -> Iterator[Plate]:
    """Rank by layer; by depth too where the sweep varies it, else by the factor beside the first."""
    depth = next((f for f in sweep.factors if f in ("architecture.depth", "architecture.widths")), None)
    split = depth or _beside(complete, sweep, {factor})
    rows = []
    for kind, layers in list(_layered(sweep).items())[:SHOWN]:
        for layer, metric in sorted(layers, key=lambda item: _layer_order(item[0])):
            here = labels(complete[[factor, SEED, *[split] * bool(split)]])
            panel = kind + (here[split].map(lambda level: f"\n{split} {level}") if split else "")
            rows.append(here[[factor, SEED]].assign(panel=panel, layer=layer, value=complete[metric]))
    if not rows:
        return
    table = figures.band(pd.concat(rows, ignore_index=True), ["panel", "layer", factor], "value")
    order = levels_of(complete[split]) if split else [""]
    panels = [kind + (f"\n{split} {level}" if split else "") for kind in _layered(sweep) for level in order]
    panels = [panel for panel in panels if panel in set(table["panel"])][: 2 * SHOWN]
    table = table[table["panel"].isin(panels)]
    table = table.sort_values("panel", key=lambda names: names.map(panels.index), kind="stable")
    if table.empty:
        return
    yield Plate(
        "rank_by_layer",
        "Rank by layer" + (" and depth" if depth else ""),
        _over_seeds(factor),
        "runs",
        figures.curves(table, "layer", panel="panel", series=factor, label="layer", log=False),
    )


def _doses(complete: pd.DataFrame, factor: str, sweep: Sweep) -> Iterator[Plate]:
    """Accuracy and ranks against each numeric factor: depth, noise, c, K."""
    for dose in sweep.factors:
        levels = complete[dose].dropna()
        if dose == factor or not pd.api.types.is_numeric_dtype(levels) or levels.nunique() < 3:
            continue
        metrics = _main(sweep) + [layers[0][1] for layers in _layered(sweep).values()]
        beside = _beside(complete, sweep, {dose, factor})
        groups = [(f"\n{beside} {level}", runs) for level, runs in complete.groupby(beside)] if beside else []
        rows = [
            labels(runs[[factor, SEED]]).assign(metric=metric + told, dose=runs[dose], value=runs[metric])
            for metric in metrics[: SHOWN // max(len(groups), 1) or 1]
            for told, runs in groups or [("", complete)]
        ]
        table = figures.band(pd.concat(rows, ignore_index=True).dropna(), ["metric", factor, "dose"], "value")
        panels = [row["metric"].iloc[0] for row in rows if len(row)]
        table = table.sort_values("dose", kind="stable")
        table = table.sort_values("metric", key=lambda names: names.map(panels.index), kind="stable")
        log = bool(levels.min() >= 0 and levels.max() > 10 * levels[levels > 0].min())
        yield Plate(
            f"curve_{_plain(dose)}",
            f"By {dose}",
            _over_seeds(factor),
            "runs",
            figures.curves(table, "dose", panel="metric", series=factor, label=dose, log=log),
        )


def _beside(complete: pd.DataFrame, sweep: Sweep, drawn: set[str]) -> str | None:
    """The first factor that is not `drawn` yet and has few enough levels for a panel each."""
    few = (f for f in sweep.factors if f not in drawn and complete[f].notna().all() and complete[f].nunique() <= SHOWN)
    return next(few, None)


def _similarity(pairs: pd.DataFrame | None, factor: str) -> Iterator[Plate]:
    if pairs is None or pairs.empty:
        return
    chosen = pairs[(pairs["factor"] == factor) & (pairs["items"] == "classes")]
    if chosen.empty:
        return
    mirrored = chosen[chosen["a"] != chosen["b"]].rename(columns={"a": "b", "b": "a"})
    both = pd.concat([chosen, mirrored], ignore_index=True)
    both["panel"] = both["dataset"] + ", " + both["layer"] + ": " + both["measure"]
    panels = sorted(dict.fromkeys(both["panel"]), key=natural)[: 2 * SHOWN]
    low = min(0.0, float(both["similarity"].min()))
    yield Plate(
        "similarity",
        "How alike are the representations?",
        f"Mean similarity of two runs of different seeds by {factor}, by layer: Spearman's ρ of RDMs over classes, and "
        "debiased CKA. On the diagonal two runs of one level.",
        "similarity_pairs",
        figures.matrices(
            both[both["panel"].isin(panels)],
            *("a", "b", "similarity"),
            panel="panel",
            what="similarity",
            span=(low, 1.0),
            form=".2f",
        ),
    )


def _rdms(table: pd.DataFrame | None, factor: str) -> Iterator[Plate]:
    if table is None or table.empty:
        return
    own = table[table["factor"] == factor]
    for dataset in sorted(set(own["dataset"])):
        here = own[own["dataset"] == dataset]
        if here.empty:
            continue
        layer = max(here["layer"], key=_layer_order)
        yield Plate(
            f"rdms_{_plain(dataset)}",
            f"Dissimilarity of classes: {dataset}, {layer}",
            f"Mean {here['distance'].iloc[0]} distance of class means, in the last layer recorded, over the runs of "
            f"each {factor}.",
            "rdms",
            figures.rdms(here[here["layer"] == layer]),
        )


def _confusion(table: pd.DataFrame | None) -> Iterator[Plate]:
    if table is None or table.empty:
        return
    chosen = table[(table["classifier"] == "linear") & (table["metrics"] == "encoding")]
    for target in dict.fromkeys(chosen["target"]):
        own = chosen[chosen["target"] == target]
        splits, levels = dict.fromkeys(own["held_out"]), sorted({*own["true"], *own["identified_as"]})
        every = pd.MultiIndex.from_product([splits, levels, levels], names=["held_out", "true", "identified_as"])
        counts = own.groupby(every.names)["n_runs"].sum().reindex(every, fill_value=0).reset_index()
        top = counts.groupby(["held_out", "true"])["n_runs"].sum().max()
        yield Plate(
            f"fingerprint_{target}",
            f"Told from its encoding: {target}",
            "Runs by true level (rows) and level identified by the linear classifier (columns), with one seed, or one "
            "level of another factor, held out.",
            "fingerprint_confusion",
            figures.matrices(
                counts.assign(held_out="held out: " + counts["held_out"]),
                *("true", "identified_as", "n_runs"),
                panel="held_out",
                what="runs",
                span=(0.0, float(np.maximum(top, 1))),
                form=".0f",
            ),
        )
