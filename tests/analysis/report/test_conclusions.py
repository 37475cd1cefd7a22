"""The sentences on effects, pairs and matched comparisons, from sweeps whose effects are known."""

import re

import numpy as np
import pandas as pd
import pytest

from creditlab.analysis import fit
from creditlab.analysis.catalogue import statistics
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.report.conclusions import Cell, Conclusion, conclusions
from creditlab.analysis.report.words import in_words
from creditlab.analysis.table import Table
from tests.analysis.effects.test_matched import learning
from tests.analysis.frames import with_histories
from tests.analysis.report.common import table_of

METRICS = ["test/accuracy", "weights/a", "weights/b"]
FACTORS = ["algorithm", "depth"]
SAID = ("anova", "posthoc", "what_how", "multiplicity", "matched")  # the tables that these sentences rest on


def sweep(effect: float, interaction: float = 0.0, seeds: int = 6) -> Sweep:
    """By algorithm and depth: accuracy, a metric that follows the algorithm, and one of noise."""
    rng = np.random.default_rng(1)
    grid = [(a, d, s) for a in ("bp", "fa", "ff") for d in (1, 2) for s in range(seeds)]
    runs = pd.DataFrame(grid, columns=["algorithm", "depth", "seed"]).assign(status="complete")
    runs["run"] = [f"{a}-{d}-{s}" for a, d, s in grid]
    ff, deep = (runs["algorithm"] == "ff").to_numpy(), (runs["depth"] > 1).to_numpy()
    noise = rng.normal(size=(len(runs), 3)) / 50
    accuracy = 0.75 - effect * 0.2 * ff - interaction * 0.2 * (ff & deep) + noise[:, 0]
    values = {METRICS[0]: accuracy, METRICS[1]: effect * ff + noise[:, 1], METRICS[2]: noise[:, 2]}
    return Sweep.of(runs.assign(**values), FACTORS, METRICS)


def tables_of(of: Sweep) -> dict[str, Table]:
    fits = fit(of)
    return {name: statistics()[name](fits) for name in SAID}


def in_full(one: Conclusion, tables: dict[str, Table]) -> str:
    """A sentence as it is shown; every cell that it cites is there."""
    words = []
    for part in one.parts:
        if isinstance(part, Cell):
            value = tables[part.table].frame.iloc[part.row][part.column]
            words.append(in_words(-value if part.negated else value, part.form))
        else:
            words.append(part)
    return "".join(words)


def sentences(of: Sweep, tables: dict[str, Table] | None = None) -> dict[str, list[str]]:
    """By topic, sentences as they are shown."""
    tables = tables_of(of) if tables is None else tables
    by_topic: dict[str, list[str]] = {}
    for one in conclusions(tables, of):
        by_topic.setdefault(one.topic, []).append(in_full(one, tables))
    return by_topic


def pair(tables: dict[str, Table], a: str, b: str, metric: str = METRICS[0], at: str = "") -> pd.Series:
    frame = tables["posthoc"].frame
    chosen = (frame["metric"] == metric) & (frame["level_a"] == a) & (frame["level_b"] == b) & (frame["at"] == at)
    (row,) = frame[chosen].to_dict("records")
    return pd.Series(row)


def test_what_is_there_is_said_with_its_numbers():
    of = sweep(1)
    tables = tables_of(of)
    by_topic = sentences(of, tables)
    algorithm, depth = by_topic["Accuracy"]
    assert algorithm.startswith("By algorithm, test accuracy differs, averaged over depth: ")
    for better in ("bp", "fa"):
        row = pair(tables, better, "ff")
        by = in_words(row["difference"], "points")
        low, high = (in_words(row[column], "points without unit") for column in ("ci_low", "ci_high"))
        assert f"{better} is more accurate than ff by {by} ({low} to {high})" in algorithm
    assert algorithm.count("is more accurate than") == 2  # bp and fa do not differ
    best, other = ("bp", "fa") if pair(tables, "bp", "fa")["difference"] > 0 else ("fa", "bp")
    assert algorithm.endswith(f" {best} has the highest mean; {other} is not shown to be behind it.")
    assert depth.startswith("By depth, test accuracy is not shown to differ, averaged over algorithm. ")
    row = pair(tables, "1", "2")
    ends = [in_words(abs(row[column]), "points without unit") for column in ("ci_low", "ci_high")]
    assert all(end in depth for end in ends)
    assert depth.endswith(" fits the data.")
    (behaviour, internal) = by_topic["What changes"]
    assert behaviour == "Of 1 metric of behaviour, 1 is shown to depend on algorithm."
    assert internal == "Of 2 internal metrics, 1 is shown to depend on algorithm."
    (clearest,) = by_topic["Internal metrics"]
    assert clearest.startswith(
        "By algorithm, the clearest differences of internal metrics: weights/a is higher under ff"
    )
    assert "weights/b" not in clearest


def test_what_is_not_there_is_not_found():
    by_topic = sentences(sweep(0))
    assert all("is not shown to differ" in each for each in by_topic["Accuracy"])
    assert [each.partition(",")[2] for each in by_topic["What changes"]] == [
        " none is shown to depend on a factor."
    ] * 2
    assert set(by_topic) == {"Accuracy", "What changes"}


def test_no_level_is_called_the_best_where_nothing_is_shown_to_differ():
    words = " ".join(text for texts in sentences(sweep(0)).values() for text in texts)
    assert not re.search(r"highest|ahead|more accurate|the same|equal|no difference", words)


def test_an_interaction_is_said_beside_the_average_that_hides_it():
    of = sweep(0, interaction=1)
    tables = tables_of(of)
    hidden = [text for text in sentences(of, tables)["Accuracy"] if text.startswith("The average hides a difference")]
    assert len(hidden) == 2
    assert "what algorithm does to test accuracy depends on depth. With depth 2, " in hidden[0]
    row = pair(tables, "bp", "ff", at="depth=2")
    assert f"bp is more accurate than ff by {in_words(row['difference'], 'points')}" in hidden[0]
    assert "With depth 1" not in hidden[0]
    assert "With algorithm ff, 1 is more accurate than 2 by " in hidden[1]


def test_a_sentence_claims_what_its_table_shows_and_nothing_else():
    """Each interval in a sentence of a difference excludes 0, and its row is one that is found."""
    for of in (sweep(1), sweep(0), sweep(0.05), sweep(0, 1)):
        tables = tables_of(of)
        for one in conclusions(tables, of):
            claims = any("more accurate than" in p or "is higher" in p for p in one.parts if isinstance(p, str))
            rows = {p.row for p in one.parts if isinstance(p, Cell) and p.table == "posthoc"}
            frame = tables["posthoc"].frame.loc[sorted(rows)]
            assert (frame["found"] == claims).all()
            assert (((frame["ci_low"] > 0) | (frame["ci_high"] < 0)) | ~frame["found"]).all()


def test_of_two_seeds_there_is_no_verdict():
    by_topic = sentences(sweep(1, seeds=2))
    assert by_topic["Accuracy"] == [
        f"By {factor}, there is no verdict on test accuracy: at least three seeds are needed." for factor in FACTORS
    ]
    assert "Internal metrics" not in by_topic
    assert all("none is shown" in text for text in by_topic["What changes"])


def test_of_one_seed_nothing_is_said():
    assert sentences(sweep(1, seeds=1)) == {}


def test_at_equal_accuracy():
    of = with_histories(learning({"bp": 0.008, "fa": 0.004}, seeds=6), ["algorithm"])
    steps, internal = sentences(of)["At equal accuracy"]
    assert steps.startswith("Where every run has first reached 40 %, fa needs ")
    assert re.search(r"fa needs \d\S* more steps than bp \(\S+ to \S+\)\.", steps)
    assert re.search(r"weights/a is higher under fa than under bp by (1|0\.99\d|1\.0\d) ", internal)


@pytest.mark.parametrize("form", ["absent", "empty"])
def test_without_a_table_nothing_is_said(form):
    of = sweep(1)
    tables = tables_of(of)
    assert conclusions({}, of) == []
    for name, topics in {"posthoc": {"Accuracy", "Internal metrics"}, "what_how": {"What changes"}}.items():
        fewer = {key: table for key, table in tables.items() if key != name}
        fewer |= {name: table_of(name, tables[name].frame[:0])} if form == "empty" else {}
        assert set(sentences(of, fewer)) == {"Accuracy", "Internal metrics", "What changes"} - topics


def test_numbers_stand_in_cells_and_names_may_hold_braces():
    of = sweep(1)
    of.runs["algorithm"] = '{"a": [' + of.runs["algorithm"] + "]}"
    of.factors.remove("depth")
    for one in conclusions(tables_of(of), of):
        words = "".join(part for part in one.parts if isinstance(part, str))
        assert not re.search(r"\d", words)
        assert any(isinstance(part, Cell) for part in one.parts)
