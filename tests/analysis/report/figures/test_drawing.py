"""What is drawn is what the table says, read back from the SVG; the same table gives the same bytes."""

import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest

from creditlab.analysis.report.figures import drawing

SVG = "{http://www.w3.org/2000/svg}"


def parsed(figure) -> ElementTree.Element:
    return ElementTree.fromstring(drawing.to_bytes(figure, "svg"))


def path(svg: ElementTree.Element, name: str) -> np.ndarray:
    """The points of the element that is named so, (points, 2)."""
    element = next(e for e in svg.iter() if e.get("id") == name)
    drawn = element if element.tag == f"{SVG}path" else element.find(f".//{SVG}path")
    return np.array(re.findall(r"[ML] (\S+) (\S+)", drawn.get("d")), dtype=float)


def texts(svg: ElementTree.Element) -> list[str]:
    return ["".join(e.itertext()).strip() for e in svg.iter(f"{SVG}text")]


@pytest.fixture
def shares():
    of_metrics = {"weights/fc1/stable_rank": (0.5, 0.2, 0.1, 0.1, 0.1), "test/accuracy": (0.1, 0.3, 0.2, 0.05, 0.35)}
    terms = ("algorithm", "algorithm:optimiser", "seed", "seed:algorithm", "residual")
    rows = [(m, t, s) for m, all_ in of_metrics.items() for t, s in zip(terms, all_, strict=True)]
    return pd.DataFrame(rows, columns=["metric", "term", "share"])


def test_bars_are_as_long_as_the_shares(shares):
    svg = parsed(drawing.variance_share(shares))
    widths = {}
    for metric, term, share in shares.itertuples(index=False):
        x = path(svg, f"{metric} | {term}")[:, 0]
        widths[metric, term] = (x.max() - x.min()) / share
    scale = np.array(list(widths.values()))
    assert scale == pytest.approx(scale[0], rel=1e-4)  # so many points for a share of one, in every bar


def test_behaviour_stands_above_encoding(shares):
    svg = parsed(drawing.variance_share(shares))
    above = path(svg, "test/accuracy | algorithm")[:, 1].max()
    assert above < path(svg, "weights/fc1/stable_rank | algorithm")[:, 1].min()  # y runs downward
    words = texts(svg)
    assert {"what is learned", "how it is encoded", "seed", "seed:algorithm", "residual", "share of variance"} <= set(
        words
    )


def test_lines_run_through_the_means():
    rows = [("p", a, x, (i + 1) * x**2.0) for i, a in enumerate(("bp", "fa")) for x in (0, 1, 2, 3)]
    table = pd.DataFrame(rows, columns=["panel", "algorithm", "x", "mean"])
    table["low"], table["high"] = table["mean"] - 1, table["mean"] + 1
    svg = parsed(drawing.curves(table, "x", panel="panel", series="algorithm", label="x", log=False))
    bp, fa = path(svg, "p | bp"), path(svg, "p | fa")
    for points, factor in ((bp, 1), (fa, 2)):
        steps = np.diff(points[:, 1]) / factor
        assert steps == pytest.approx(steps[0] * np.array([1, 3, 5]), rel=1e-4)  # squares differ by 1, 3, 5
    assert np.diff(bp[:, 0]) == pytest.approx(np.diff(bp[:, 0])[0], rel=1e-4)


def test_intervals_reach_from_end_to_end():
    table = pd.DataFrame({"label": ["a", "b"], "estimate": [0.5, 0.2], "low": [0.4, 0.0], "high": [0.6, 0.8]})
    svg = parsed(drawing.intervals(table, "W", span=(0, 1), reference=None))
    a, b = (path(svg, f"{name} | interval")[:, 0] for name in "ab")
    assert np.ptp(b) / np.ptp(a) == pytest.approx(4, rel=1e-3)
    assert (a[0] - b[0]) / np.ptp(b) == pytest.approx(0.5, rel=1e-3)


def test_matrices_say_their_numbers():
    rows = [("p", "bp", "bp", 6), ("p", "bp", "fa", 1), ("p", "fa", "fa", 5)]
    table = pd.DataFrame(rows, columns=["panel", "true", "identified_as", "n"])
    svg = parsed(
        drawing.matrices(table, "true", "identified_as", "n", panel="panel", what="runs", span=(0, 6), form=".0f")
    )
    shown = {e.get("id"): "".join(e.itertext()).strip() for e in svg.iter() if (e.get("id") or "").startswith("p | ")}
    assert shown == {"p | bp | bp": "6", "p | bp | fa": "1", "p | fa | fa": "5"}  # nothing where there is no number


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_table_gives_the_same_bytes(shares, kind):
    once = drawing.to_bytes(drawing.variance_share(shares), kind)
    assert once == drawing.to_bytes(drawing.variance_share(shares), kind)
    assert b"<dc:date>" not in once
    assert matplotlib.__version__.encode() not in once


def test_names_with_markup_and_mathematics_are_drawn_as_they_are(shares):
    name = "weights/<script>alert(1)</script>/$x^2$ & co"
    svg = parsed(drawing.variance_share(shares.replace("weights/fc1/stable_rank", name)))
    assert name in texts(svg)
    assert not list(svg.iter(f"{SVG}script"))


@pytest.mark.filterwarnings("error::UserWarning")
def test_long_names_leave_room_for_the_figure(shares):
    """Of a long name the ends are written, and nothing is squeezed."""
    name = f"weights/{'layer_' * 40}/stable_rank"
    svg = parsed(drawing.variance_share(shares.replace("weights/fc1/stable_rank", name)))
    x = path(svg, f"{name} | algorithm")[:, 0]
    assert x.max() - x.min() > 100  # half of the width, in points
    assert drawing.short(name) in texts(svg)
    assert drawing.short("two\nlines") == "two\nlines"
    assert drawing.short(name, 14) == "weights…e_rank"
    pairs = pd.DataFrame([("p" * 99, name, name, 0.5), ("p" * 99, "b", name, 0.5)], columns=["panel", "a", "b", "rho"])
    drawing.to_bytes(
        drawing.matrices(pairs, *("a", "b", "rho"), panel="panel", what="ρ", span=(0, 1), form=".2f"), "png"
    )
    lines = [("p" * 99, s * 60, x, 1.0, 0.0, 2.0) for s in "abcdefgh" for x in (0, 1, 2)]
    table = pd.DataFrame(lines, columns=["panel", "series", "x", "mean", "low", "high"])
    drawing.to_bytes(drawing.curves(table, "x", panel="panel", series="series", label="x", log=False), "png")


def test_layers_are_averaged_where_there_are_too_many(shares):
    more = pd.concat([shares, shares.replace("weights/fc1/stable_rank", "weights/fc2/stable_rank").assign(share=0.1)])
    table = drawing.over_layers(more).set_index(["metric", "term"])["share"]
    assert table["weights/·/stable_rank (2 layers)", "algorithm"] == pytest.approx(0.3)


def test_what_is_not_an_effect_is_grey_and_a_share_below_0_has_no_bar(shares):
    shares.loc[shares["term"] == "seed", "share"] = [-0.1, 0.2]
    figure = drawing.variance_share(shares)
    bars = {bar.get_gid(): bar for bar in figure.axes[0].patches}
    for term in ("seed", "seed:algorithm", "residual"):
        red, green, blue, _ = bars[f"test/accuracy | {term}"].get_facecolor()
        assert red == green == blue, term
    red, _, blue, _ = bars["test/accuracy | algorithm"].get_facecolor()
    assert red != blue
    assert bars["weights/fc1/stable_rank | seed"].get_width() == 0
