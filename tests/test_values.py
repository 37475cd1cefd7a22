"""What fits an annotation, and what the annotation allows in words."""

import math
from typing import Annotated, Any, Literal

import pytest

from creditlab.keys import Decay, Fraction, Positive, PositiveInt, Range
from creditlab.signature import Elsewhere
from creditlab.values import REFUSED, allowed_values, allowed_words, as_yaml, fit


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (True, int),
        (True, float),
        (1, bool),
        ("3", int),
        ("3", float),
        (3, str),
        (3.5, int),
        (math.nan, float),
        (math.inf, float),
        (math.nan, int),
        (None, int),
        (0, PositiveInt),
        (0.0, Positive),
        (1.0, Decay),
        (1.1, Fraction),
        (True, Literal[1, 2]),
        (1.0, Literal[1, 2]),
        ("c", Literal["a", "b"]),
        ([True], list[int]),
        ("ab", list[str]),
        ([0.9], tuple[float, float]),
        ([0.9, 0.9, 0.9], tuple[float, float]),
        (["a", 1], tuple[float, str]),
        ([1, "a"], tuple[int, ...]),
        ({"a": 0}, dict[str, PositiveInt]),
        ([], dict),
        ("x", float | Elsewhere),
        ([0.5], float | None),
    ],
)
def test_a_value_that_does_not_fit(value, annotation):
    assert fit(value, annotation) is REFUSED


@pytest.mark.parametrize(
    ("value", "annotation", "fitted"),
    [
        (1, float, 1.0),
        (3.0, int, 3),
        (0.0, Decay, 0.0),
        (1, Fraction, 1.0),
        (None, PositiveInt | None, None),
        (2, Literal["full"] | PositiveInt, 2),
        ("full", Literal["full"] | PositiveInt, "full"),
        (1, float | int, 1.0),
        (3.0, int | float, 3),
        ((1, 2), list[float], [1.0, 2.0]),
        ([1, "a"], tuple[float, str], [1.0, "a"]),
        ([1, 2, 3], tuple[int, ...], [1, 2, 3]),
        ([True, "a"], list, [True, "a"]),
        ({"a": 1}, dict[str, PositiveInt], {"a": 1}),
        ({1: None}, Any, {1: None}),
    ],
)
def test_a_value_in_the_type_that_is_asked_for(value, annotation, fitted):
    assert repr(fit(value, annotation)) == repr(fitted)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Positive, "a number more than 0"),
        (Annotated[float, Range(high=1)], "a number at most 1"),
        (Annotated[float, Range(high=1, open_high=True)], "a number less than 1"),
        (Annotated[int, Range(1, 8)], "a whole number in [1, 8]"),
        (Annotated[float, Range(0, 1, open_low=True, open_high=True)], "a number in (0, 1)"),
        (Annotated[int, "a remark"], "a whole number"),
        (PositiveInt | None, "a whole number at least 1 or null"),
        (float | Elsewhere, "a number"),
        (Literal["a", "b"], "a or b"),
        (tuple[float, str], "a list of 2, a number, text"),
        (tuple[float, float], "a list of 2, each a number"),
        (tuple[int, ...], "a list, each a whole number"),
        (list[int], "a list, each a whole number"),
        (dict[str, int], "a mapping, each value a whole number"),
        (dict[str, Any], "a mapping"),
        (Any, "anything"),
    ],
)
def test_what_an_annotation_allows(annotation, words):
    assert allowed_values(annotation) == words


def test_the_words_that_an_annotation_allows():
    assert allowed_words(Literal["none", "full"] | PositiveInt | None) == ["none", "full"]


def test_values_are_shown_as_in_yaml():
    assert as_yaml({"a": [True, None, "x", (1, 0.5)]}) == "{a: [true, null, 'x', [1, 0.5]]}"
