"""Equivalence within a margin against R's numbers, statsmodels and simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW

from creditlab.analysis import fit
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.equivalence import (
    BY_LESS,
    DIFFER,
    EQUIVALENT,
    UNDECIDED,
    _tested,
    equivalence,
    same_geometry,
)
from creditlab.analysis.effects.posthoc import posthoc
from creditlab.analysis.model.questions import verdicts
from creditlab.analysis.names import AnalysisError
from tests.analysis.oracles import METRICS, numbers, sweep_complete

FACTORS = ["algorithm", "optimiser"]


def digits() -> Sweep:
    return Sweep.of(sweep_complete(), FACTORS, METRICS)


def pairs(n: int, differences: np.ndarray) -> Sweep:
    """Two levels of one factor over `n` seeds; `differences` (n, metrics) of the second level from the first."""
    runs = pd.DataFrame(np.vstack([5 + 0 * differences, 5 - differences]))
    runs.columns = [f"m{i}" for i in range(differences.shape[1])]
    names = list(runs)
    runs = runs.assign(algorithm=["a"] * n + ["b"] * n, seed=[*range(n)] * 2, status="complete")
    return Sweep.of(runs, ["algorithm"], names)


def test_two_one_sided_tests_are_rs():
    published = numbers()["tost_paired_bp_fa"]
    rows = equivalence(fit(digits()), margin={"accuracy": published["margin"]}).frame
    row = rows.query("level_a == 'bp' and level_b == 'fa'").iloc[0]
    assert row["p"] == pytest.approx(published["p"], rel=1e-9)
    assert row[["low", "high"]].tolist() == pytest.approx(published["ci90"], rel=1e-9)
    assert row["differs"]
    assert row["outcome"] == BY_LESS
    by_seed = sweep_complete().pivot_table("accuracy", "seed", "optimiser")
    theirs = DescrStatsW(by_seed["adamw"] - by_seed["sgd"]).ttost_mean(-0.04, 0.04)[0]
    assert rows.query("level_a == 'adamw' and level_b == 'sgd'")["p"].item() == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("case", numbers()["wellek_crit"], ids=lambda case: f"n={case['n']}")
def test_wellek_decides_at_his_critical_value(case):
    n, critical = case["n"], case["t_crit"]
    noise = np.linspace(-1, 1, n) / np.linspace(-1, 1, n).std(ddof=1)
    ts = critical * np.array([0.99, 1.01, -0.99])
    rows = equivalence(fit(pairs(n, noise[:, None] + ts / np.sqrt(n))), spread=case["margin_sd"]).frame
    assert rows["t"].tolist() == pytest.approx(ts.tolist())
    assert (rows["p"] <= 0.05).tolist() == [True, False, True]
    exact = equivalence(fit(pairs(n, noise[:, None] + critical / np.sqrt(n))), spread=1.0).frame
    assert exact["p"].item() == pytest.approx(0.05, abs=1e-9)
    assert exact["margin"].item() == pytest.approx(1)  # one standard deviation of the differences


def test_the_four_outcomes():
    noise = np.array([-1.0, 1, -1, 1, 0])[:, None] / 10
    sweep = pairs(5, noise + np.array([0, 0.5, 2, 0]) + np.array([0, 0, 0, 1]) * 12 * noise)
    rows = equivalence(fit(sweep), margin={"m*": 1.0}).frame.set_index("metric")
    assert rows["outcome"].tolist() == [EQUIVALENT, BY_LESS, DIFFER, UNDECIDED]
    same = same_geometry(fit(sweep), margin={"m*": 1.0}).frame.iloc[0]
    assert same[["n_metrics", "n_equivalent", "same"]].tolist() == [4, 2, False]
    assert same["not_equivalent"] == "m2, m3"
    assert same["p"] == rows["p"].max()
    assert same_geometry(fit(sweep), margin={"m0": 1.0, "m1": 1.0}).frame["same"].item()


def test_levels_differ_where_the_pair_table_says_so():
    """No verdict of its own: `differs` is `found` of the same pair."""
    fits = fit(replace(digits(), margins={"*": 0.3}))
    rows = equivalence(fits).frame
    keys = ["metric", "factor", "level_a", "level_b"]
    theirs = posthoc(fits).frame.query("at == ''").set_index(keys)["found"]
    assert rows["differs"].tolist() == theirs.loc[rows.set_index(keys).index].tolist()
    assert rows["differs"].any()
    assert not rows["differs"].all()


def test_margins_of_the_sweep_take_part_in_the_tree():
    assert equivalence(fit(digits())).frame.empty
    assert same_geometry(fit(digits())).frame.empty
    assert "equivalence" not in set(verdicts(fit(digits()))["question"])
    fits = fit(replace(digits(), margins={"accuracy": 0.04, "*_rank": 0.5}))
    rows = equivalence(fits).frame
    tests = verdicts(fits)
    asked = tests[tests["question"] == "equivalence"].set_index("metric")
    assert len(asked) == len(rows) == 18
    assert asked.loc["accuracy: algorithm=bp, fa", "p_adjusted"] == rows["p_adjusted"][1] > rows["p"][1]
    whole = same_geometry(fits).frame
    assert len(tests[tests["question"] == "the same geometry"]) == len(whole) == 6
    assert (whole["same"] == (whole["p_adjusted"] <= 0.05)).all()


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_levels_that_differ_by_the_margin_are_called_equivalent_in_5_of_100(seeds):
    rng = np.random.default_rng(seeds)
    sweep = pairs(seeds, 1 + rng.normal(size=(seeds, 4000)))
    for options in ({"margin": {"*": 1.0}}, {"spread": 1.0}):
        called = (_tested(sweep, options.get("margin", {}), options.get("spread"))["p"] <= 0.05).mean()
        assert 0.03 < called < 0.06
    alike = pairs(seeds, rng.normal(size=(seeds, 4000)))
    power = (_tested(alike, {"*": 2.0}, None)["p"] <= 0.05).mean()
    assert power == pytest.approx({3: 0.56, 5: 0.95, 10: 1.0}[seeds], abs=0.03)


@pytest.mark.parametrize(
    ("margin", "message"),
    [
        ({"accuracy": -0.01}, "the margin of accuracy is -0.01. A margin is a number above 0, in the metric's unit."),
        ({"accuracy": float("nan")}, "the margin of accuracy is nan"),
        ({"accuracy": 1.0}, "the margin of accuracy is 1, and no value exceeds 0.9"),
        ({"acuracy": 0.01}, "no metric matches 'acuracy', for which a margin is given"),
    ],
)
def test_a_margin_that_cannot_be(margin, message):
    with pytest.raises(AnalysisError, match=message.replace("(", r"\(")):
        equivalence(fit(digits()), margin=margin)


def test_pairs_without_two_shared_seeds_are_absent():
    runs = sweep_complete().assign(seed=range(45))
    assert equivalence(fit(Sweep.of(runs, FACTORS, METRICS)), spread=1.0).frame.empty
    t = equivalence(fit(digits()), spread=2.0).frame
    assert (t["df"] == 4).all()
    assert t["p"].tolist() == pytest.approx(stats.ncf.cdf(t["t"] ** 2, 1, 4, 5 * 4).tolist())
