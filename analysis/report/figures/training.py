"""Figures of metrics during training, by layer and against numeric factors."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.model.intervals import band
from creditlab.analysis.names import SEED, labels, natural
from creditlab.analysis.report.figures import drawing
from creditlab.analysis.report.figures.figure import SHOWN, Figure, View, draws, over_seeds, plain
from creditlab.analysis.report.words import levels_of

RANKS = ("stable_rank", "effective_rank", "participation_ratio")


@draws("trajectories")
def _trajectories(view: View) -> Iterator[Figure]:
    table, factor = view.frames["trajectories"], view.factor
    metrics = _telling(view)
    rows = table[(table["factor"] == factor) & table["metric"].isin(metrics)]
    if rows["step"].nunique() < 3:
        return
    rows = rows.sort_values("step", kind="stable").rename(columns={"level": factor})
    rows = rows.sort_values("metric", key=lambda names: names.map(metrics.index), kind="stable")
    yield Figure(
        "trajectories",
        "Learning curves",
        f"{over_seeds(factor)} Accuracy and loss, then the metrics of encoding on which {factor} has most effect.",
        "trajectories",
        drawing.curves(rows, "step", panel="metric", series=factor, label="step", log=True),
    )


@draws("runs")
def _ranks(view: View) -> Iterator[Figure]:
    """Rank by layer; by depth too where the sweep varies it, else by the factor beside the first."""
    sweep, factor, complete = view.sweep, view.factor, view.sweep.complete
    depth = next((f for f in sweep.factors if f in ("architecture.depth", "architecture.widths")), None)
    split = depth or _beside(sweep, {factor})
    rows = []
    for kind, layers in list(_layered(sweep).items())[:SHOWN]:
        for layer, metric in sorted(layers, key=lambda item: layer_order(item[0])):
            words = labels(complete[[factor, SEED, *[split] * bool(split)]])
            panel = kind + (words[split].map(lambda level: f"\n{split} {level}") if split else "")
            rows.append(words[[factor, SEED]].assign(panel=panel, layer=layer, value=complete[metric]))
    if not rows:
        return
    table = band(pd.concat(rows, ignore_index=True), ["panel", "layer", factor], "value")
    order = levels_of(complete[split]) if split else [""]
    panels = [kind + (f"\n{split} {level}" if split else "") for kind in _layered(sweep) for level in order]
    panels = [panel for panel in panels if panel in set(table["panel"])][: 2 * SHOWN]
    table = table[table["panel"].isin(panels)]
    table = table.sort_values("panel", key=lambda names: names.map(panels.index), kind="stable")
    if table.empty:
        return
    yield Figure(
        "rank_by_layer",
        "Rank by layer" + (" and depth" if depth else ""),
        over_seeds(factor),
        "runs",
        drawing.curves(table, "layer", panel="panel", series=factor, label="layer", log=False),
    )


@draws("runs")
def _doses(view: View) -> Iterator[Figure]:
    """Accuracy and ranks against each numeric factor: depth, noise, c, K."""
    sweep, factor, complete = view.sweep, view.factor, view.sweep.complete
    for dose in sweep.factors:
        levels = complete[dose].dropna()
        if dose == factor or not pd.api.types.is_numeric_dtype(levels) or levels.nunique() < 3:
            continue
        metrics = _main(sweep) + [layers[0][1] for layers in _layered(sweep).values()]
        beside = _beside(sweep, {dose, factor})
        groups = [(f"\n{beside} {level}", runs) for level, runs in complete.groupby(beside)] if beside else []
        rows = [
            labels(runs[[factor, SEED]]).assign(metric=metric + suffix, dose=runs[dose], value=runs[metric])
            for metric in metrics[: SHOWN // max(len(groups), 1) or 1]
            for suffix, runs in groups or [("", complete)]
        ]
        table = band(pd.concat(rows, ignore_index=True).dropna(), ["metric", factor, "dose"], "value")
        panels = [row["metric"].iloc[0] for row in rows if len(row)]
        table = table.sort_values("dose", kind="stable")
        table = table.sort_values("metric", key=lambda names: names.map(panels.index), kind="stable")
        log = bool(levels.min() >= 0 and levels.max() > 10 * levels[levels > 0].min())
        yield Figure(
            f"curve_{plain(dose)}",
            f"By {dose}",
            over_seeds(factor),
            "runs",
            drawing.curves(table, "dose", panel="metric", series=factor, label=dose, log=log),
        )


def _telling(view: View) -> list[str]:
    """Test accuracy and loss, then the encoding metrics on which the factor has most effect, one per kind of metric."""
    chosen = _main(view.sweep)
    if "anova" in view.frames:
        anova = view.frames["anova"]
        rows = anova[(anova["term"] == view.factor) & ~anova["metric"].isin(chosen)]
        rows = rows[~rows["metric"].str.startswith("train/")]
        kinds = set()
        for metric in rows.sort_values("omega_sq", ascending=False, kind="stable")["metric"]:
            if metric.split("/")[-1] not in kinds:
                kinds.add(metric.split("/")[-1])
                chosen.append(metric)
    return chosen[:SHOWN]


def _main(sweep: Sweep) -> list[str]:
    return [m for m in sweep.outcomes if m in ("test/accuracy", "test/loss")]


def _layered(sweep: Sweep) -> dict[str, list[tuple[str, str]]]:
    """{`weights/·/stable_rank`: [(layer, metric), …]} of the ranks, layers in their order; effective ranks and those of
    learning signals first.
    """
    kinds: dict[str, list[tuple[str, str]]] = {}
    for metric in sweep.outcomes:
        parts = metric.split("/")
        if len(parts) == 3 and any(parts[2].endswith(rank) for rank in RANKS):
            kinds.setdefault(f"{parts[0]}/·/{parts[2]}", []).append((parts[1], metric))
    several = [(kind, layers) for kind, layers in kinds.items() if len(layers) > 1]
    several.sort(key=lambda kind: (not kind[0].endswith("effective_rank"), not kind[0].startswith("signals")))
    return dict(several)


def layer_order(name: str) -> tuple:
    return name in ("readout", "fc", "head"), natural(name)


def _beside(sweep: Sweep, drawn: set[str]) -> str | None:
    """The first factor that is not `drawn` yet and has few enough levels for a panel each."""
    complete = sweep.complete
    few = (f for f in sweep.factors if f not in drawn and complete[f].notna().all() and complete[f].nunique() <= SHOWN)
    return next(few, None)
