"""Runs that diverged against R's numbers, statsmodels, and a level that loses its worst runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from creditlab.analysis import fit
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.divergence import clopper_pearson, divergence, divergence_pairs, sign_test
from creditlab.analysis.model.questions import verdicts
from tests.analysis.oracles import numbers, sweep_complete

FACTORS = ["algorithm", "optimiser"]


def with_lost(lost: list[tuple[str, str, str]], outcome: str = "test/accuracy") -> Sweep:
    """The sweep on digits where the runs `lost` (algorithm, optimiser, seed) diverged."""
    runs = sweep_complete().rename(columns={"accuracy": outcome})
    keys = list(zip(*(runs[name] for name in (*FACTORS, "seed")), strict=True))
    return Sweep.of(runs.assign(status=["diverged" if key in lost else "complete" for key in keys]), FACTORS, [outcome])


def test_the_numbers_of_r():
    published = numbers()["clopper"]
    assert clopper_pearson(published["x"], published["n"]) == pytest.approx(published["ci"], rel=1e-9)
    assert clopper_pearson(0, 15) == pytest.approx((0, 1 - 0.025 ** (1 / 15)))
    assert clopper_pearson(15, 15)[1] == 1
    published = numbers()["mcnemar_exact"]
    assert sign_test(published["b"], published["c"]) == pytest.approx(published["p"], rel=1e-12)
    assert numbers()["sign_test"] in [pytest.approx(sign_test(k, n - k)) for n in range(5, 12) for k in range(n + 1)]


def test_rates_by_level_and_by_cell():
    lost = [("fa", "sgd", "0"), ("fa", "sgd", "1"), ("fa", "muon", "1")]
    table = divergence(with_lost(lost)).frame.set_index(["term", "level"])
    row = table.loc["algorithm", "fa"]
    assert row.tolist() == pytest.approx([3, 15, 0.2, *numbers()["clopper"]["ci"]])
    assert table.loc[("algorithm", "bp"), ["diverged", "n", "low"]].tolist() == [0, 15, 0]
    assert table.loc[("algorithm:optimiser", "fa, sgd"), ["diverged", "n"]].tolist() == [2, 5]
    assert table.loc[("optimiser", "sgd"), ["diverged", "n"]].tolist() == [2, 15]
    assert len(table) == 3 + 3 + 9
    assert divergence(with_lost([])).frame.empty
    assert divergence_pairs(fit(with_lost([]))).frame.empty


def test_levels_are_compared_over_pairs_of_seed_and_other_factors():
    lost = [("fa", o, str(s)) for o in ("sgd", "muon") for s in range(4)] + [("bp", "sgd", "0"), ("bp", "adamw", "4")]
    fits = fit(with_lost(lost))
    row = divergence_pairs(fits).frame.query("level_a == 'bp' and level_b == 'fa'").iloc[0]
    assert row[["n_pairs", "only_a", "only_b", "both"]].tolist() == [15, 1, 7, 1]
    assert row["p"] == pytest.approx(numbers()["mcnemar_exact"]["p"])
    assert row["p"] == pytest.approx(mcnemar([[6, 1], [7, 1]], exact=True).pvalue)
    asked = verdicts(fits).query("question == 'divergence'").set_index("metric")["p_adjusted"]
    assert asked["algorithm=bp, fa"] == row["p_adjusted"] >= row["p"]
    accuracy = sweep_complete().pivot_table("accuracy", ["seed", "optimiser"], "algorithm")
    kept = [(s, o) not in [(s, o) for a, o, s in lost if a in ("bp", "fa")] for s, o in accuracy.index]
    by_seed = (accuracy["bp"] - accuracy["fa"])[kept].groupby("seed").mean()
    interval = stats.ttest_1samp(by_seed, 0).confidence_interval()
    expected = [len(by_seed), by_seed.mean(), *interval]
    assert row[["n_seeds", "difference", "ci_low", "ci_high"]].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("outcome", ["test/accuracy", "test/loss"])
def test_worst_rank(outcome):
    """Level b is better in each pair that finished, and diverges in one of two optimisers in each of six seeds."""
    rows = [
        (a, o, s, (0.9 if a == "b" else 0.8) + 0.001 * s, "diverged" if (a, o) == ("b", "x") else "complete")
        for a in "ab"
        for o in "xyz"[: 3 if outcome == "test/accuracy" else 2]
        for s in range(6)
    ]
    runs = pd.DataFrame(rows, columns=["algorithm", "optimiser", "seed", outcome, "status"])
    runs.loc[runs["algorithm"] == "b", outcome] += 1e-4 * runs["seed"] ** 2
    row = divergence_pairs(fit(Sweep.of(runs, FACTORS, [outcome]))).frame.set_index("factor").loc["algorithm"]
    assert row["difference"] == pytest.approx(-0.1, abs=0.01)  # in the metric's own direction
    assert row["ci_low"] < row["difference"] < row["ci_high"]
    if outcome == "test/accuracy":  # behind in one pair, ahead in two
        assert row[["seeds_a", "seeds_b", "ahead"]].tolist() == [0, 6, "b"]
        assert row["p_worst_rank"] == row["least_p"] == 2 / 2**6
    else:  # of a loss, less is better: behind in both
        assert row[["seeds_a", "seeds_b", "ahead"]].tolist() == [6, 0, "a"]


def test_survivors_and_worst_rank_may_disagree():
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(8):
        rows.append(("a", seed, 0.80 + 0.01 * rng.random(), "complete"))
        rows.append(("b", seed, 0.85 + 0.01 * rng.random(), "complete" if seed < 3 else "diverged"))
    runs = pd.DataFrame(rows, columns=["algorithm", "seed", "test/accuracy", "status"])
    row = divergence_pairs(fit(Sweep.of(runs, ["algorithm"], ["test/accuracy"]))).frame.iloc[0]
    assert row["ci_high"] < 0  # b is better where both finished
    assert row[["seeds_a", "seeds_b", "n_seeds", "ahead"]].tolist() == [5, 3, 3, ""]


def test_all_runs_of_a_level_diverged():
    lost = [("fa", o, str(s)) for o in ("adamw", "sgd", "muon") for s in range(5)]
    rows = divergence_pairs(fit(with_lost(lost))).frame.set_index(["level_a", "level_b"])
    row = rows.loc["bp", "fa"]
    assert row[["only_a", "only_b", "seeds_a", "seeds_b", "ahead", "n_seeds"]].tolist() == [0, 15, 5, 0, "bp", 0]
    assert np.isnan(row["difference"])
    assert ("bp", "dfa") not in rows.index
