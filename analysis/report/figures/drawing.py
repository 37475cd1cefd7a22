"""Figures, from a table to a matplotlib `Figure` each: one style for all, on screen and in print.

Colours are those of Okabe and Ito (2008), which the colour-blind can tell apart; lines also differ by marker and dash,
bars by hatching, so that a grey print reads too. Text stays text in SVG, and the same table gives the same bytes. What
is drawn from a row carries that row's name as the id of its SVG element.

    variance_share   the what-how picture: the share of each metric's variance by factor
    intervals        estimates with their intervals: effects, concordance
    matrices         heat maps with their numbers: agreement of raters, similarity, confusion
    curves           means with a band over seeds: trajectories, depth curves, rank by layer
    rdms             representational dissimilarity matrices side by side
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from creditlab.analysis.names import BEHAVIOUR, SEED, level_order

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
MARKERS = "os^Dv>P<"
DASHES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (3, 3)), (0, (6, 2)), (0, (1, 3)))
HATCHES = ("", "////", "....", "xxxx")
GREYS = {SEED: "#8a8a8a", f"{SEED}:": "#b9b9b9", "residual": "#e4e4e4"}  # what is not an effect
WIDTH = 7.0  # inches: the text of a page
STYLE: dict[str, Any] = {
    **{"font.family": "DejaVu Sans", "font.size": 8, "axes.titlesize": 7, "axes.labelsize": 8, "legend.fontsize": 8},
    **{"xtick.labelsize": 7, "ytick.labelsize": 7, "text.parse_math": False, "axes.axisbelow": True},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "lines.linewidth": 1.3},
    **{"xtick.major.width": 0.6, "ytick.major.width": 0.6, "grid.color": "#dddddd", "grid.linewidth": 0.5},
    **{"hatch.linewidth": 0.5, "legend.frameon": False, "lines.markersize": 4, "figure.dpi": 100},
    **{"svg.fonttype": "none", "svg.hashsalt": "creditlab", "savefig.dpi": 200},
}

P = ParamSpec("P")


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(STYLE):  # type: ignore[arg-type]
            return draw(*args, **kwargs)

    return inside


def to_bytes(figure: Figure, kind: str) -> bytes:
    """The figure as `svg` or `png`: the same bytes each time, with neither date nor version in them. Names may be in a
    script that our font lacks: an SVG shows them all the same, a PNG shows a box for each such character.
    """
    file = io.BytesIO()
    nothing = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[kind]
    with mpl.rc_context(STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        figure.savefig(file, format=kind, metadata=nothing)
    return file.getvalue()


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _panels(n: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with n panels of `width` and `height`, in rows as even as a page allows."""
    most = max(1, min(n, int(WIDTH / width)))
    rows = -(-n // most)
    columns = -(-n // rows)
    figure = _figure(width * columns, height * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[n:]:
        ax.remove()
    return figure, list(axes[:n])


def short(name: object, letters: int = 44) -> str:
    """A name that leaves room for what it names: of a long one the two ends, of each line."""
    half = letters // 2
    lines = str(name).split("\n")
    return "\n".join(line if len(line) <= letters else f"{line[:half]}…{line[-half + 1 :]}" for line in lines)


def _in_order(names: pd.Series) -> list:
    """The distinct values: numbers in their order, names in their natural order."""
    values = list(dict.fromkeys(names))
    numeric = pd.api.types.is_numeric_dtype(names)
    return sorted(values) if numeric else sorted(values, key=lambda name: level_order(str(name)))


def over_layers(table: pd.DataFrame) -> pd.DataFrame:
    """A table of shares with the mean over the layers of a metric: `weights/·/stable_rank (3 layers)`."""
    parts = table["metric"].str.split("/")
    name = parts.map(lambda p: f"{p[0]}/·/{p[-1]}" if len(p) == 3 else "/".join(p))
    counts = table.groupby(name)["metric"].agg(lambda metrics: len(set(metrics)))
    named = name.map(lambda n: f"{n} ({counts[n]} layers)" if counts[n] > 1 else n)
    return table.assign(metric=named).groupby(["metric", "term"], sort=False)["share"].mean().reset_index()


def _grey(term: str) -> str | None:
    """The colour of what is not an effect; None of an effect."""
    return GREYS.get(term) or (GREYS[f"{SEED}:"] if term.startswith(f"{SEED}:") else None)


@_styled
def variance_share(shares: pd.DataFrame) -> Figure:
    """Stacked bars of shares of variance (columns metric, term, share), behaviour above encoding."""
    metrics = list(dict.fromkeys(shares["metric"]))
    metrics.sort(key=lambda metric: not metric.startswith(BEHAVIOUR))
    behaviour = sum(metric.startswith(BEHAVIOUR) for metric in metrics)
    headings = {0: "what is learned"} if behaviour else {}
    headings |= {behaviour: "how it is encoded"} if behaviour < len(metrics) else {}
    place = {metric: i + sum(i >= first for first in headings) for i, metric in enumerate(metrics)}
    terms = sorted(dict.fromkeys(shares["term"]), key=lambda t: (t == "residual", t.startswith(SEED), ":" in t))
    figure = _figure(WIDTH, 0.9 + 0.17 * (len(metrics) + len(headings)))
    ax = figure.add_subplot()
    wide = shares.pivot_table("share", "metric", "term", sort=False)
    left = pd.Series(0.0, index=metrics)
    for i, term in enumerate(terms):
        share = wide[term].reindex(metrics).fillna(0.0).clip(lower=0)
        colour = _grey(term) or COLOURS[i % len(COLOURS)]
        plain = "" if _grey(term) else HATCHES[i // len(COLOURS) % len(HATCHES)]
        hatch = "////" if ":" in term and not _grey(term) else plain
        bars = ax.barh(
            [place[m] for m in metrics], share, left=left, height=0.8, color=colour, edgecolor="white", hatch=hatch
        )
        for metric, bar in zip(metrics, bars, strict=True):
            bar.set_gid(f"{metric} | {term}")
            bar.set_linewidth(0.4)
        bars.set_label(short(term))
        left = left + share
    ax.set_yticks([place[m] for m in metrics], [short(m) for m in metrics])
    ax.set_ylim(max(place.values(), default=0) + 0.6, -0.5)
    ax.set_xlim(0, max(1.0, left.max()))
    ax.set_xlabel("share of variance")
    ax.tick_params(axis="y", length=0)
    for first, heading in headings.items():
        ax.text(0, place[metrics[first]] - 1, f" {heading}", va="center", fontsize=8, fontweight="bold")
    columns = int(
        np.clip(95 // (7 + max((len(short(term)) for term in terms), default=0)), 1, max(len(terms), 1))
    )  # of 95 letters
    figure.legend(loc="outside upper left", ncols=columns, handlelength=1.4, columnspacing=1.2)
    return figure


@_styled
def intervals(table: pd.DataFrame, what: str, span: tuple[float, float] | None, reference: float | None) -> Figure:
    """A point on its interval for each row of `table` (label, estimate, low, high). Further columns of numbers are
    drawn as ticks and named in the legend (a floor, a ceiling). `what` names the axis, of which `span` is shown;
    `reference` is a line across.
    """
    figure = _figure(WIDTH, 0.9 + 0.24 * len(table))
    ax = figure.add_subplot()
    if reference is not None:
        ax.axvline(reference, color="#777777", linewidth=0.8, zorder=0)
    for place, row in enumerate(table.to_dict("records")):
        ends = [row["low"], row["high"]]
        if np.isfinite(ends).all():
            (line,) = ax.plot(ends, [place, place], color=COLOURS[0], linewidth=2, solid_capstyle="butt")
            line.set_gid(f"{row['label']} | interval")
        (point,) = ax.plot([row["estimate"]], [place], "o", color=COLOURS[0], markersize=5)
        point.set_gid(f"{row['label']} | estimate")
    marks = [c for c in table.columns if c not in ("label", "estimate", "low", "high")]
    for i, mark in enumerate(marks, 1):
        ax.plot(table[mark], np.arange(len(table)), "|", color=COLOURS[i], markersize=11, markeredgewidth=2, label=mark)
    ax.set_yticks(np.arange(len(table)), [short(label) for label in table["label"]])
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set_xlabel(what)
    ax.set_xlim(span)
    ax.grid(axis="x")
    if marks:
        figure.legend(loc="outside upper left", ncols=len(marks))
    return figure


@_styled
def matrices(
    table: pd.DataFrame,
    row: str,
    column: str,
    value: str,
    *,
    panel: str,
    what: str,
    span: tuple[float, float],
    form: str,
) -> Figure:
    """Heat maps, one for each value of `panel`, with each number in its field in the format `form`.

    `row`, `column`, `value` name columns of `table`; `span` is the range of the colours, `what` names them.
    """
    names = list(dict.fromkeys(table[panel]))
    levels = _in_order(pd.concat([table[row], table[column]]))
    words = [short(level, 14) for level in levels]
    side = max(1.2, 0.38 * len(levels))
    figure, axes = _panels(len(names), side + 1.1, side + 0.6)
    for ax, name in zip(axes, names, strict=True):
        valued = table[(table[panel] == name) & table[value].notna()]  # what has no value is left blank
        grid = valued.pivot_table(value, row, column, aggfunc="sum")
        grid = grid.reindex(index=levels, columns=levels)
        image = ax.imshow(grid, cmap="Blues", vmin=span[0], vmax=span[1])
        for i, j in np.ndindex(grid.shape):
            number = grid.iloc[i, j]
            if np.isfinite(number):
                dark = (number - span[0]) / (span[1] - span[0]) > 0.6
                text = ax.text(j, i, format(number, form), ha="center", va="center", color="white" if dark else "black")
                text.set_fontsize(7)
                text.set_gid(f"{name} | {levels[i]} | {levels[j]}")
        ax.set_xticks(range(len(levels)), words, rotation=45 if max(map(len, words)) > 5 else 0)
        ax.set_yticks(range(len(levels)), words)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_title(short(name, 36))
        ax.set_xlabel(column.replace("_", " ") if column not in ("a", "b") else "")
        ax.set_ylabel(row.replace("_", " ") if row not in ("a", "b") else "")
    figure.colorbar(image, ax=axes, label=what, shrink=0.8, aspect=25).outline.set_visible(False)  # type: ignore[operator]
    return figure


@_styled
def curves(table: pd.DataFrame, x: str, *, panel: str, series: str, label: str, log: bool) -> Figure:
    """Means over seeds with a band (columns mean, low, high) against `x`, one line per value of `series`, by `panel`.

    `x` holds numbers, or names (layers) in their order of appearance. `log` puts numbers on a scale of 0, 1, 10, …
    """
    names = list(dict.fromkeys(table[panel]))
    every = _in_order(table[series])
    figure, axes = _panels(len(names), WIDTH / 3, 2.1)
    numeric = pd.api.types.is_numeric_dtype(table[x])
    for ax, name in zip(axes, names, strict=True):
        here = table[table[panel] == name]
        ticks = list(dict.fromkeys(here[x]))
        for i, one in enumerate(every):
            rows = here[here[series] == one]
            at = rows[x].to_numpy() if numeric else np.array([ticks.index(v) for v in rows[x]])
            colour, dash = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
            ax.fill_between(at, rows["low"], rows["high"], color=colour, alpha=0.18, linewidth=0)
            (line,) = ax.plot(at, rows["mean"], color=colour, linestyle=dash, marker=MARKERS[i % len(MARKERS)])
            line.set_gid(f"{' '.join(str(name).split())} | {one}")
            if ax is axes[0]:
                line.set_label(short(one, 24))
        if not numeric:
            ax.set_xticks(range(len(ticks)), [short(tick, 14) for tick in ticks], rotation=45 if len(ticks) > 4 else 0)
            ax.margins(x=0.1)
        elif log:
            zero = min(ticks) <= 0
            ax.set_xscale("symlog", linthresh=1) if zero else ax.set_xscale("log")
            ax.set_xlim(left=0 if zero else None)
        if numeric and len(ticks) <= 6:
            crowded = len(ticks) > 1 and np.diff(np.sort(ticks)).min() < 0.12 * np.ptp(ticks) and not log
            ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks], rotation=45 if crowded else 0)
            ax.set_xticks([], minor=True)
        elif numeric and log:
            ax.xaxis.set_major_formatter("{x:g}")  # that of the scale writes mathematics
        ax.set_title(short(name, 36))
        ax.set_xlabel(label)
        ax.grid(axis="y")
    of_metric: dict[str, list[Axes]] = {}
    for ax, name in zip(axes, names, strict=True):
        of_metric.setdefault(str(name).partition("\n")[0], []).append(ax)
    for alike in of_metric.values():  # panels of one metric compare by eye
        low, high = zip(*(ax.get_ylim() for ax in alike), strict=True)
        for ax in alike:
            ax.set_ylim(min(low), max(high))
    columns = int(np.clip(80 // (6 + max(len(short(one, 24)) for one in every)), 1, len(every)))  # of 80 letters
    figure.legend(loc="outside upper left", ncols=columns, title=series, alignment="left")
    return figure


@_styled
def rdms(table: pd.DataFrame) -> Figure:
    """The mean dissimilarity of pairs of classes (level, a, b, dissimilarity): one matrix per level, on one scale."""
    names = _in_order(table["level"])
    n = int(table[["a", "b"]].to_numpy().max()) + 1
    figure, axes = _panels(len(names), 1.75, 1.9)
    top = float(table["dissimilarity"].max())
    for ax, name in zip(axes, names, strict=True):
        rows = table[table["level"] == name]
        square = np.zeros((n, n))
        square[rows["a"], rows["b"]] = square[rows["b"], rows["a"]] = rows["dissimilarity"]
        image = ax.imshow(square, cmap="cividis", vmin=0, vmax=top)
        image.set_gid(f"rdm | {name}")
        ax.set_title(short(name, 36))
        ax.set_xticks(range(0, n, max(1, n // 5)))
        ax.set_yticks(range(0, n, max(1, n // 5)))
        ax.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="distance of class means", shrink=0.8, aspect=25).outline.set_visible(False)  # type: ignore[operator]
    return figure
