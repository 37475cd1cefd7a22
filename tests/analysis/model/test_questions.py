"""The tree of tests: Simes' gate, step-up inside, what is left for pairs; and its error rates."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from creditlab.analysis.model.questions import stepped_up, tree
from tests.analysis.oracles import numbers

P = st.floats(1e-12, 1)


def by_question(**questions) -> pd.DataFrame:
    rows = [(name, f"m{i}", p) for name, ps in questions.items() for i, p in enumerate(ps)]
    return pd.DataFrame(rows, columns=["question", "metric", "p"])


def test_step_up_is_that_of_r():
    oracle = numbers("small")["adjust"]
    assert stepped_up(np.array(oracle["p"])) == pytest.approx(oracle["BH"])


@given(st.lists(P, min_size=1, max_size=30))
def test_step_up_is_that_of_scipy(p):
    assert stepped_up(np.array(p)) == pytest.approx(stats.false_discovery_control(p))


def test_by_hand():
    """Two of three questions are selected: tests have the level .05 · 2/3, and pairs their share of that."""
    answers = tree(by_question(a=[0.001, 0.04, 0.9], b=[0.02], c=[0.5, 0.6])).set_index(["question", "metric"])
    simes = {"a": 0.003, "b": 0.02, "c": 0.6}
    assert answers.loc[("a", "m0"), "p_adjusted"] == pytest.approx(max(0.003 * 3 / 2, 3 * simes["a"]))
    assert answers.loc[("a", "m1"), "p_adjusted"] == pytest.approx(0.06 * 3 / 2)
    assert answers.loc[("b", "m0"), "p_adjusted"] == pytest.approx(max(0.02 * 3 / 2, 3 / 2 * simes["b"]))
    assert list(answers["found"]) == [True, False, False, True, False, False]
    assert answers.loc[("a", "m0"), "level"] == pytest.approx(0.05 * 2 / 3 * 1 / 3)
    assert answers.loc[("b", "m0"), "level"] == pytest.approx(0.05 * 2 / 3)
    assert answers["level"].isna().sum() == 4


@given(st.lists(st.lists(P, min_size=1, max_size=6), min_size=1, max_size=5))
def test_found_is_p_adjusted_and_a_question_without_findings_has_none(groups):
    answers = tree(by_question(**{f"q{i}": p for i, p in enumerate(groups)}))
    assert (answers["found"] == (answers["p_adjusted"] <= 0.05)).all()
    assert (answers["p_adjusted"] >= answers["p"] * (1 - 1e-12)).all()
    selected = answers.groupby("question")["found"].any().sum()
    share = selected / len(groups)
    for _, tests in answers.groupby("question"):
        if tests["found"].any():  # exactly those that the step-up at the reduced level selects
            expected = stats.false_discovery_control(tests["p"]) <= 0.05 * share * (1 + 1e-12)
            assert list(tests["found"]) == list(expected)


def test_tests_without_a_p_take_no_part():
    assert tree(by_question(a=[0.001, np.nan]))["found"].tolist() == [True]


@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_where_nothing_is_there_5_percent_of_reports_claim_anything(shared):
    """Nine questions of 1 to 40 correlated tests."""
    rng, claims, reports = np.random.default_rng(0), 0, 600
    sizes = [1, 1, 1, 3, 3, 3, 40, 40, 40]
    for _ in range(reports):
        ps = []
        for size in sizes:
            z = np.sqrt(shared) * rng.normal() + np.sqrt(1 - shared) * rng.normal(size=size)
            ps.append(2 * stats.norm.sf(np.abs(z)))
        claims += bool(tree(by_question(**{f"q{i}": p for i, p in enumerate(ps)}))["found"].any())
    assert claims / reports < 0.05 + 3 * np.sqrt(0.05 * 0.95 / reports)
