"""The analysis of variance on small textbook data sets whose tables are in print."""

from __future__ import annotations

import pandas as pd
import pytest

from creditlab.analysis.effects.anova import anova
from creditlab.analysis.effects.posthoc import pairs
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
# `oats` of MASS (Yates 1935): yield by variety and nitrogen (0, .2, .4, .6 cwt) in six blocks, varieties on plots and
# nitrogen on subplots; aov(Y ~ N * V, Error(B / V)) (Venables & Ripley 2002, ch. 10.2).
OATS = {
    "Victory": [
        *[(111, 130, 157, 174), (61, 91, 97, 100), (68, 64, 112, 86)],
        *[(74, 89, 81, 122), (62, 90, 100, 116), (53, 74, 118, 113)],
    ],
    "Golden rain": [
        *[(117, 114, 161, 141), (70, 108, 126, 149), (60, 102, 89, 96)],
        *[(64, 103, 132, 133), (80, 82, 94, 126), (89, 82, 86, 104)],
    ],
    "Marvellous": [
        *[(105, 140, 118, 156), (96, 124, 121, 144), (89, 129, 132, 124)],
        *[(70, 89, 104, 117), (63, 70, 109, 99), (97, 99, 119, 121)],
    ],
}
# R's `sleep` (Student 1908): hours of sleep gained by ten patients under two drugs.
SLEEP = {
    "1": [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    "2": [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
}
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
    assert table["df"].tolist() == pytest.approx([1, 2, 2])
    assert table["df_error"].tolist() == pytest.approx([48] * 3)
    assert table["sum_sq"].tolist() == pytest.approx([450.7, 2034.3, 1002.8], abs=0.06)
    assert table["error_sq"].tolist() == pytest.approx([5745.1] * 3, abs=0.06)
    assert list(table["F"]) == pytest.approx([3.765, 8.498, 4.189], abs=5e-4)
    assert list(table["p"]) == pytest.approx([0.058213, 0.000693, 0.021044], abs=5e-7)


def test_moore_unbalanced():
    """car::Anova(lm(conformity ~ fcategory * partner.status), type=3) (Fox & Weisberg, An R Companion)."""
    runs = cells(MOORE, "status_of_partner", "authority", "y")
    table = rows_of(anova, runs, ["authority", "status_of_partner"], ["y"]).set_index("term")
    assert list(table["df"]) == pytest.approx([2, 1, 2])
    assert list(table["df_error"]) == pytest.approx([39] * 3)
    assert list(table["sum_sq"]) == pytest.approx([36.02, 239.56, 175.49], abs=0.006)
    assert list(table["error_sq"]) == pytest.approx([817.76] * 3, abs=0.006)
    assert list(table["F"]) == pytest.approx([0.8589, 11.4250, 4.1846], abs=6e-5)


def test_plant_growth():
    row = rows_of(anova, cells(PLANTS, "group", "y"), ["group"], ["y"]).iloc[0]
    assert (row["df"], row["F"], row["p"]) == pytest.approx((2, 4.846, 0.01591), abs=6e-4)
    assert row["sum_sq"] == pytest.approx(3.766, abs=6e-4)


def test_oats_in_blocks():
    """The variety has the stratum of its plots: 2 and 10 degrees of freedom, F 1.485, p .272."""
    rows = [
        (variety, nitrogen, block, y)
        for variety, blocks in OATS.items()
        for block, plot in enumerate(blocks)
        for nitrogen, y in enumerate(plot)
    ]
    runs = frame(rows, ["variety", "nitrogen", "block", "y"], "block")
    row = rows_of(anova, runs, ["variety", "nitrogen"], ["y"]).set_index("term").loc["variety"]
    degrees = row[["df", "df_error"]] / row["epsilon"]
    assert degrees.tolist() == pytest.approx([2, 10])
    assert (row["sum_sq"], row["error_sq"], row["F"]) == pytest.approx((1786.4, 6013.3, 1.485), abs=0.06)
    if row["epsilon"] == 1:
        assert row["p"] == pytest.approx(0.272, abs=6e-4)


def test_sleep_of_the_same_patients():
    """t.test(extra ~ group, paired = TRUE): t −4.0621 on 9 degrees of freedom, p .002833."""
    rows = [(drug, patient, y) for drug, gains in SLEEP.items() for patient, y in enumerate(gains)]
    fits = fitted(frame(rows, ["drug", "patient", "y"], "patient"), ["drug"], ["y"])
    row, pair = anova(fits).frame.iloc[0], pairs(fits).iloc[0]
    assert (row["F"], row["df"], row["df_error"]) == pytest.approx((4.0621**2, 1, 9), abs=5e-4)
    assert (row["p"], pair["p"]) == pytest.approx((0.002833, 0.002833), abs=6e-7)
    assert (pair["difference"], pair["t"]) == pytest.approx((-1.58, -4.0621), abs=6e-5)
