"""The sentences on pairs, trends, associations and matched comparisons, from sweeps whose effects are known."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from creditlab.analysis import fit
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.association import association
from creditlab.analysis.effects.dose_response import curve, dose
from creditlab.analysis.effects.matched import matched
from creditlab.analysis.effects.posthoc import posthoc
from creditlab.analysis.report.conclusions import Cell, conclusions
from creditlab.analysis.report.words import in_words
from creditlab.analysis.table import Table
from tests.analysis.effects.test_matched import learning
from tests.analysis.frames import with_histories
from tests.analysis.report.common import table_of

METRICS = ["test/accuracy", "weights/a", "weights/b"]
FACTORS = ["algorithm", "depth"]
DESIGN = Sweep.of(pd.DataFrame(), FACTORS, METRICS)  # all that sentences need to know of the sweep


def sweep(effect: float, seeds: int = 6) -> pd.DataFrame:
    """By algorithm and depth: accuracy, a metric that follows it within levels, and one of noise."""
    rng = np.random.default_rng(0)
    grid = [(a, d, s) for a in ("bp", "fa", "ff") for d in (1, 2, 4, 8) for s in range(seeds)]
    runs = pd.DataFrame(grid, columns=["algorithm", "depth", "seed"]).assign(status="complete")
    ff, deep = (runs["algorithm"] == "ff").to_numpy(), (runs["depth"] > 2).to_numpy()
    noise = rng.normal(size=(len(runs), 3)) / 50
    accuracy = 0.9 - effect * (0.2 * ff + 0.03 * deep) + noise[:, 0]
    follows = 5 * (effect > 0) * noise[:, 0] + effect * ff + noise[:, 1] / 5
    return runs.assign(**{METRICS[0]: accuracy, METRICS[1]: follows, METRICS[2]: noise[:, 2]})


def tables_of(runs: pd.DataFrame) -> dict[str, Table]:
    sweep = Sweep.of(runs, FACTORS, METRICS)
    fits = fit(sweep)
    tables = [statistic(fits) for statistic in (posthoc, association, dose, curve)]
    return {table.name: table for table in tables}


def sentences(tables: dict[str, Table]) -> dict[str, list[str]]:
    """By topic, sentences as they are shown; every cell that they cite is there."""
    by_topic: dict[str, list[str]] = {}
    for one in conclusions(tables, DESIGN):
        words = [
            in_words(tables[p.table].frame.iloc[p.row][p.column], p.form) if isinstance(p, Cell) else p
            for p in one.parts
        ]
        by_topic.setdefault(one.topic, []).append("".join(words))
    return by_topic


def test_what_is_there_is_said_with_its_numbers():
    tables = tables_of(sweep(1))
    by_topic = sentences(tables)
    pairs = by_topic["Pairs of levels"]
    row = tables["posthoc"].frame.query(
        "metric == 'test/accuracy' and method == 'paired, all' and level_a == 'bp' and level_b == 'ff'"
    )
    ends = [in_words(row[column].item(), "number") for column in ("difference", "ci_low", "ci_high")]
    assert "test accuracy differs (method 'paired, all', over all pairs at once): " in pairs[0]
    assert f"bp minus ff {ends[0]} ({ends[1]} to {ends[2]})" in pairs[0]
    assert "bp minus fa" not in pairs[0]  # these do not differ
    assert "the internal metrics that differ most after Holm's" in pairs[1]
    assert "weights/a, bp minus ff" in pairs[1]
    assert "weights/b" not in pairs[1]
    (goes,) = by_topic["What goes with accuracy"]
    assert goes.startswith("Among runs with the same levels of algorithm, depth, the effects of seeds taken out, ")
    assert "test/accuracy goes after correction over all tests of the report with weights/a, r 1.00 (" in goes
    assert "weights/b" not in goes
    trend = by_topic["Trends"][0]
    assert trend.startswith("With depth, test/accuracy falls (by -0.0387 per tenfold increase, -0.0615 to -0.0158; p .")
    assert "at 1, " in trend
    assert "between 2 and 4 (the step lies between 2 and 4; p .0" in trend
    assert len(by_topic["Trends"]) == 1  # the others have none


def test_what_is_not_there_is_not_found():
    by_topic = sentences(tables_of(sweep(0)))
    assert all(
        "not shown to differ" in each or "no internal metric is shown to differ" in each
        for each in by_topic["Pairs of levels"]
    )
    assert "nothing is shown to go with test/accuracy after" in by_topic["What goes with accuracy"][0]
    assert [each.split(" (")[0] for each in by_topic["Trends"]] == [
        "With depth, test/accuracy is not shown to rise or fall"
    ]


def test_at_equal_accuracy():
    history = learning({"bp": 0.008, "fa": 0.004}, seeds=6)
    steps, encoding = sentences({"matched": matched(with_histories(history, ["algorithm"]))})["At equal accuracy"]
    assert steps.startswith("Where accuracy is 40 %, by algorithm, the steps that differ most after Holm's")
    assert re.search(r"bp minus fa -\d+", steps)
    assert "weights/a, bp minus fa -1" in encoding


@pytest.mark.parametrize("form", ["absent", "empty"])
def test_without_a_table_nothing_is_said(form):
    tables = tables_of(sweep(1))
    topics = {
        "posthoc": "Pairs of levels",
        "association": "What goes with accuracy",
        "dose": "Trends",
        "curve": "Trends",
    }
    assert conclusions({}, DESIGN) == []
    for name, topic in topics.items():
        fewer = {key: table for key, table in tables.items() if key != name}
        fewer |= {name: table_of(name, tables[name].frame[:0])} if form == "empty" else {}
        assert set(sentences(fewer)) == {*topics.values()} - {topic}


def test_no_verdict_without_an_interval():
    """Of one seed no band, no jackknife and no pair: nothing to say."""
    runs = sweep(1, seeds=1)
    assert "Trends" not in sentences(tables_of(runs))
    assert "What goes with accuracy" not in sentences(tables_of(runs))


def test_numbers_stand_in_cells_and_names_may_hold_braces():
    runs = sweep(1)
    runs["algorithm"] = '{"a": [' + runs["algorithm"] + "]}"
    for one in conclusions(tables_of(runs), replace(DESIGN, factors=FACTORS[:1])):
        words = "".join(part for part in one.parts if isinstance(part, str))
        assert not re.search(r"\d", words)
        assert any(isinstance(part, Cell) for part in one.parts)


def test_pairs_that_no_method_takes_all_at_once_say_nothing():
    paired = tables_of(sweep(1.0))["posthoc"].frame.query("method == 'paired'")
    assert len(paired)
    assert "Pairs of levels" not in sentences({"posthoc": table_of("posthoc", paired)})
