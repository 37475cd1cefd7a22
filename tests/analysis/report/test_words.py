"""Numbers and levels in words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from creditlab.analysis.report.words import fraction, in_words, levels_of, number, probability


def test_numbers_keep_three_digits_in_seven_characters():
    values = [1.3e-32, 4.6e-5, 0.00165, 0.226, 4.0, 40.14, 99.96, 371.2, 38408.4, 2.5e7, float("nan"), float("inf")]
    assert [number(value) for value in values] == [
        *["0", "4.6e-05", "0.00165", "0.226", "4", "40.1", "100", "371", "38408", "2.5e+07", "–", "–"]
    ]
    assert [probability(p) for p in (1e-9, 0.0009996, 0.0421, 1.0)] == ["<.001", "<.001", ".042", "1.000"]
    assert [fraction(x) for x in (0.123, 0.999, 1.0, 0.0, -0.25)] == [".12", "1.00", "1.00", ".00", "-.25"]


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        *[(0.0004, "p", "<.001"), (0.25, "percent", "25 %"), (-0.004, "fraction", "0.00"), (-0.5, "fraction", "−0.50")],
        *[
            (0.1234, "points", "12.3 points"),
            (-0.1234, "points", "−12.3 points"),
            (0.1234, "points without unit", "12.3"),
        ],
        *[(True, "number", "yes"), (np.bool_(False), "number", "no")],
        *[(3.0, "number", "3"), (0.12345, "number", "0.123"), (float("nan"), "fraction", "–"), ("a", "number", "a")],
    ],
)
def test_values_in_words(value, form, text):
    assert in_words(value, form) == text


def test_levels_stand_in_the_order_of_numbers_then_of_names():
    assert levels_of(pd.Series([10, 2, "sgd", None, "adamw", 2], dtype=object)) == ["2", "10", "absent", "adamw", "sgd"]
