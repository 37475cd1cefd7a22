"""One scheme for all tests of a report: a tree of questions, the tests of each question, and the pairs below a test.

A question is what a reader asks ("does the algorithm change the metrics?"); its tests are of one metric each. Simes'
test (1986) of a question's p asks whether any of its tests is an effect. Benjamini & Hochberg's step-up (1995) at 5 %
selects among the questions; inside a selected question it selects among the tests, at 5 % times the share of questions
that were selected; below a selected test, pairs are decided at that level times the share of its tests that were
selected (Benjamini & Bogomolov 2014, J. R. Stat. Soc. B 76; Bogomolov et al. 2021). Where nothing is there to find, the
whole report claims anything in at most 5 % of sweeps.

    @question
    def terms(fits: Fits) -> pd.DataFrame: …    # the columns question, metric and p; one row per test

A new question needs nothing but the decorator. Every table and sentence looks its verdict up in `verdicts(fits)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from creditlab.analysis.names import ALPHA
from creditlab.analysis.table import once

if TYPE_CHECKING:
    from creditlab.analysis.model.fits import Fits

Ask = Callable[["Fits"], pd.DataFrame]
QUESTIONS: list[Ask] = []  # `catalogue.statistics` sees that all modules have been imported
COLUMNS = ["question", "metric", "p"]


def question(ask: Ask) -> Ask:
    """Have the tests of `ask(fits)` take part in the tree."""
    asked = once(ask)
    QUESTIONS.append(asked)
    return asked


@once
def verdicts(fits: Fits) -> pd.DataFrame:
    """One row per test of all questions: question, metric, p, p_adjusted, found, level.

    `p_adjusted` accounts for all tests of the report; `found` where it is at most .05. `level` is that at which the
    pairs below a found test are decided; NaN where the test is not found.
    """
    from creditlab.analysis.catalogue import statistics

    statistics()
    asked = [ask(fits) for ask in QUESTIONS]
    return tree(pd.concat([*asked, pd.DataFrame(columns=COLUMNS)], ignore_index=True)[COLUMNS])


def tree(tests: pd.DataFrame) -> pd.DataFrame:
    """`tests` (question, metric, p) with p_adjusted, found and level. Tests without a p take no part."""
    tests = tests[tests["p"].notna()].reset_index(drop=True)
    tests["p"] = tests["p"].astype(float)
    groups = tests.groupby("question", sort=False)["p"]
    of_question = groups.agg(lambda p: stepped_up(p.to_numpy()).min())  # Simes
    adjusted = pd.Series(stepped_up(of_question.to_numpy()), of_question.index)
    selected = int((adjusted <= ALPHA).sum())
    share = selected / len(adjusted) if selected else 1.0
    within = groups.transform(lambda p: stepped_up(p.to_numpy()))
    by_question = tests["question"].map(adjusted).astype(float)
    tests["p_adjusted"] = np.minimum(np.maximum(within / share, by_question), 1.0)
    tests["found"] = tests["p_adjusted"] <= ALPHA
    share_found = tests.groupby("question", sort=False)["found"].transform("mean")
    tests["level"] = (ALPHA * share * share_found).where(tests["found"])
    return tests


def pair_name(rows: pd.DataFrame) -> pd.Series:
    """What a pair of levels (columns factor, level_a, level_b) is called in the tree."""
    return rows["factor"].astype(str) + "=" + rows["level_a"].astype(str) + ", " + rows["level_b"].astype(str)


def stepped_up(p: np.ndarray) -> np.ndarray:
    """p adjusted by Benjamini & Hochberg's step-up; the least of them is the p of Simes' test of all."""
    if not len(p):
        return p
    order = np.argsort(p, kind="stable")
    steps = p[order] * len(p) / np.arange(1, len(p) + 1)
    least = np.minimum.accumulate(steps[::-1])[::-1].clip(max=1)
    return least[np.argsort(order, kind="stable")]


@once
def level_if_found(fits: Fits) -> dict[str, float]:
    """The level at which pairs below a test would be decided if one more test of its question were found."""
    answers = verdicts(fits)
    by_question = answers.groupby("question", sort=False)["found"].agg(["sum", "size"])
    selected = int((by_question["sum"] > 0).sum())
    levels = {}
    for question, n_found, size in by_question.itertuples():
        share = min(selected + (n_found == 0), len(by_question)) / len(by_question)
        levels[str(question)] = ALPHA * share * min(n_found + 1, size) / size
    return levels


def adjusted(fits: Fits, asked: str) -> pd.Series:
    """The p_adjusted of each test of the question `asked`, by metric."""
    tests = verdicts(fits)
    return tests[tests["question"] == asked].set_index("metric")["p_adjusted"]
