"""The analysis of variance, post hoc and robust tests on small textbook data sets whose tables are in print."""

from __future__ import annotations

import pandas as pd
import pytest

from creditlab.analysis.effects.anova import anova
from creditlab.analysis.names import RESIDUAL
from tests.analysis.frames import fitted, rows_of


def frame(rows: list[tuple], columns: list[str], seed: str | None = None) -> pd.DataFrame:
    runs = pd.DataFrame(rows, columns=columns).assign(status="complete")
    return runs.rename(columns={seed: "seed"}) if seed else runs.assign(seed=range(len(runs)))


# R's `warpbreaks` (Tippett 1950): breaks of yarn by wool A, B and tension L, M, H; aov(breaks ~ wool * tension).
WARPBREAKS = {
    ("A", "L"): [26, 30, 54, 25, 70, 52, 51, 26, 67],
    ("A", "M"): [18, 21, 29, 17, 12, 18, 35, 30, 36],
    ("A", "H"): [36, 21, 24, 18, 10, 43, 28, 15, 26],
    ("B", "L"): [27, 14, 29, 19, 29, 31, 41, 20, 44],
    ("B", "M"): [42, 26, 19, 16, 39, 28, 21, 39, 29],
    ("B", "H"): [20, 21, 24, 17, 13, 15, 15, 16, 28],
}
# R's `npk` (Venables & Ripley 2002, ch. 6.7, after John): yield of peas by N, P, K in six incomplete blocks of four.
NPK = [
    *[(1, 0, 1, 1, 49.5), (1, 1, 1, 0, 62.8), (1, 0, 0, 0, 46.8), (1, 1, 0, 1, 57.0)],
    *[(2, 1, 0, 0, 59.8), (2, 1, 1, 1, 58.5), (2, 0, 0, 1, 55.5), (2, 0, 1, 0, 56.0)],
    *[(3, 0, 1, 0, 62.8), (3, 1, 1, 1, 55.8), (3, 1, 0, 0, 69.5), (3, 0, 0, 1, 55.0)],
    *[(4, 1, 0, 0, 62.0), (4, 1, 1, 1, 48.8), (4, 0, 0, 1, 45.5), (4, 0, 1, 0, 44.2)],
    *[(5, 1, 1, 0, 52.0), (5, 0, 0, 0, 51.5), (5, 1, 0, 1, 49.8), (5, 0, 1, 1, 48.8)],
    *[(6, 1, 0, 1, 57.2), (6, 1, 1, 0, 59.0), (6, 0, 1, 1, 53.2), (6, 0, 0, 0, 56.0)],
]
# `Moore` of R's carData (Moore & Krupat 1971): conformity by the partner's status and authoritarianism; unbalanced.
MOORE = {
    ("low", "low"): [8, 7, 10, 6, 13, 12, 7, 6, 8, 12],
    ("low", "medium"): [12, 4, 4, 9],
    ("low", "high"): [4, 8, 13, 9, 24, 7, 23, 13],
    ("high", "low"): [21, 23, 15, 12, 16],
    ("high", "medium"): [12, 17, 14, 16, 20, 8, 14, 17, 7, 17, 15],
    ("high", "high"): [19, 9, 7, 11, 14, 13, 10],
}
# R's `PlantGrowth` (Dobson 1983): dried weight of plants under a control and two treatments.
PLANTS = {
    "ctrl": [4.17, 5.58, 5.18, 6.11, 4.5, 4.61, 5.17, 4.53, 5.33, 5.14],
    "trt1": [4.81, 4.17, 4.41, 3.59, 5.87, 3.83, 6.03, 4.89, 4.32, 4.69],
    "trt2": [6.31, 5.12, 5.54, 5.5, 5.37, 5.29, 4.92, 6.15, 5.8, 5.26],
}


def cells(data: dict, *columns: str) -> pd.DataFrame:
    rows = [(*(cell if isinstance(cell, tuple) else (cell,)), y) for cell, values in data.items() for y in values]
    return frame(rows, list(columns))


def test_warpbreaks():
    table = rows_of(anova, cells(WARPBREAKS, "wool", "tension", "y"), ["wool", "tension"], ["y"]).set_index("term")
    assert table["df"].to_dict() == {"wool": 1, "tension": 2, "wool:tension": 2, RESIDUAL: 48}
    assert table["sum_sq"].to_dict() == pytest.approx(
        {"wool": 450.7, "tension": 2034.3, "wool:tension": 1002.8, RESIDUAL: 5745.1}, abs=0.06
    )
    assert list(table["F"][:3]) == pytest.approx([3.765, 8.498, 4.189], abs=5e-4)
    assert list(table["p"][:3]) == pytest.approx([0.058213, 0.000693, 0.021044], abs=5e-7)


def test_npk_in_incomplete_blocks():
    """summary(aov(yield ~ block + N * P * K)); the interaction of all three is aliased with the blocks."""
    fits = fitted(frame(NPK, ["block", "N", "P", "K", "y"], "block"), ["N", "P", "K"], ["y"], order=3)
    table = anova(fits).frame.set_index("term")
    assert fits.models[0].model.seed == "random block, incomplete"
    assert any(note.startswith("N:P:K left out") for note in fits.models[0].model.notes)
    published = {
        **{"seed": (5, 343.3, 4.447, 0.01594), "N": (1, 189.3, 12.259, 0.00437), "P": (1, 8.4, 0.544, 0.47490)},
        **{"K": (1, 95.2, 6.166, 0.02880), "N:P": (1, 21.3, 1.378, 0.26317), "N:K": (1, 33.1, 2.146, 0.16865)},
        "P:K": (1, 0.5, 0.031, 0.86275),
    }
    for term, (df, sum_sq, f, p) in published.items():
        row = table.loc[term]
        assert row["df"] == df
        assert row["sum_sq"] == pytest.approx(sum_sq, abs=0.06)
        assert row["F"] == pytest.approx(f, abs=6e-4)
        assert row["p"] == pytest.approx(p, abs=6e-6)
    assert table.loc[RESIDUAL, "sum_sq"] == pytest.approx(185.3, abs=0.06)


def test_moore_unbalanced_type_2():
    """car::Anova(lm(conformity ~ fcategory * partner.status)), of type II (Fox & Weisberg, An R Companion)."""
    runs = cells(MOORE, "status_of_partner", "authority", "y")
    table = rows_of(anova, runs, ["authority", "status_of_partner"], ["y"]).set_index("term")
    assert list(table["df"]) == [2, 1, 2, 39]
    assert list(table["sum_sq"]) == pytest.approx([11.61, 212.21, 175.49, 817.76], abs=0.006)
    assert list(table["F"][:3]) == pytest.approx([0.2770, 10.1207, 4.1846], abs=6e-5)
    assert list(table["p"][:3]) == pytest.approx([0.759564, 0.002874, 0.022572], abs=6e-7)


def test_moore_unbalanced_type_3():
    runs = cells(MOORE, "status_of_partner", "authority", "y")
    table = rows_of(anova, runs, ["authority", "status_of_partner"], ["y"], kind="III").set_index("term")
    assert list(table["sum_sq"]) == pytest.approx([36.02, 239.56, 175.49, 817.76], abs=0.006)
    assert list(table["F"][:3]) == pytest.approx([0.8589, 11.4250, 4.1846], abs=6e-5)


def test_plant_growth():
    row = rows_of(anova, cells(PLANTS, "group", "y"), ["group"], ["y"]).iloc[0]
    assert (row["df"], row["F"], row["p"]) == pytest.approx((2, 4.846, 0.01591), abs=6e-4)
    assert row["sum_sq"] == pytest.approx(3.766, abs=6e-4)
