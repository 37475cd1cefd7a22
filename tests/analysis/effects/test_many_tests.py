"""The table of all tests: every test that a sentence rests on is in it, once, and all share one scheme."""

from __future__ import annotations

import numpy as np
import pandas as pd

from creditlab.analysis import fit, load
from creditlab.analysis.catalogue import statistics
from creditlab.analysis.effects.anova import anova
from creditlab.analysis.effects.many_tests import multiplicity
from creditlab.analysis.model.questions import QUESTIONS, tree
from tests.analysis.frames import FACTORS, crossing, fitted


def test_the_tests_of_a_sweep_are_those_of_its_tables(small_sweep):
    fits = fit(load(small_sweep))
    table = multiplicity(fits).frame
    assert not table.duplicated(["question", "metric"]).any()
    assert table["p"].between(0, 1).all()
    assert (table["p_adjusted"] >= table["p"] - 1e-15).all()
    assert (table["found"] == (table["p_adjusted"] <= 0.05)).all()
    assert (table["level"].isna() == ~table["found"]).all()
    assert (table.loc[table["found"], "level"] <= 0.05).all()
    statistics()
    asked = pd.concat([ask(fits) for ask in QUESTIONS], ignore_index=True).dropna(subset="p")
    columns = ["question", "metric", "p"]
    assert table[columns].to_numpy().tolist() == asked[columns].to_numpy().tolist()
    questions = " ".join(table["question"])
    for part in ("algorithm: test/accuracy", "algorithm: how it is encoded", "algorithm: identified", "at equal step"):
        assert part in questions


def test_the_tests_of_terms_are_those_of_the_analysis_of_variance():
    names = ["test/accuracy", "weights/a", "weights/b", "weights/c"]
    runs = crossing([3, 2], 4, True, np.random.default_rng(2), metrics=4)
    fits = fitted(runs.rename(columns={f"m{i}": name for i, name in enumerate(names)}), FACTORS[:2], names)
    rows = multiplicity(fits).frame.groupby("question")["metric"].apply(list).to_dict()
    for term in ("algorithm", "optimiser", "algorithm:optimiser"):
        assert rows[f"{term}: test/accuracy"] == names[:1]
        assert rows[f"{term}: how it is encoded"] == names[1:]
    every = multiplicity(fits).frame
    assert set(anova(fits).frame["p"]) <= set(every["p"])


def test_a_metric_more_makes_no_other_metric_of_its_question_easier_to_find():
    """The adjusted p is that of the whole report: with noise beside it, a test has a larger one."""
    p = pd.DataFrame({"question": ["a", "a", "b"], "metric": ["x", "y", "x"], "p": [0.02, 0.9, 0.6]})
    alone = tree(p.iloc[:1])["p_adjusted"].iloc[0]
    assert alone == 0.02
    assert tree(p)["p_adjusted"].iloc[0] == 0.08  # 2 tests of its question, 2 questions


def test_without_a_p_there_is_no_test():
    runs = crossing([3, 2], 2, True, np.random.default_rng(3))
    table = multiplicity(fitted(runs, FACTORS[:2], ["m0", "m1"])).frame
    assert not table["question"].str.startswith(("algorithm: how", "optimiser: how")).any()
