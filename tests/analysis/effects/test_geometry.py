"""The test of the geometry as a whole against vegan's numbers, a permutation written out, and simulation."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest

from creditlab.analysis import fit
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.geometry import ALL, arrangements, geometry, terms
from creditlab.analysis.model.by_seed import BySeed
from creditlab.analysis.model.questions import verdicts
from creditlab.analysis.table import Table
from tests.analysis.oracles import METRICS, numbers, sweep_complete

FACTORS = ["algorithm", "optimiser"]


def geometry_of(runs: pd.DataFrame, metrics: list[str] = METRICS) -> Table:
    """Of all `metrics` as internal ones."""
    internal = {metric: f"weights/{metric}" for metric in METRICS}
    names = [internal.get(metric, metric) for metric in metrics]
    return geometry(fit(Sweep.of(runs.rename(columns=internal), FACTORS, names)))


def test_the_numbers_of_vegan():
    published = numbers()["permanova_stratum_algorithm"]
    row = geometry_of(sweep_complete()).frame.set_index("term").loc["algorithm"]
    assert row["F"] == pytest.approx(published["F"], abs=1e-9)
    assert row["r_squared"] == pytest.approx(published["R2"], abs=1e-12)
    assert [row["df"], row["df_error"]] == published["df"][1:]
    assert row["p"] == row["least_p"] == pytest.approx(published["p"], rel=1e-12)
    assert (row["arrangements"], row["exact"]) == (1296, True)


def pseudo_f(cells: np.ndarray, interaction: bool) -> float:
    """From `cells` (seeds, 3, 3, metrics) by sums of squares, for the first factor or the interaction."""
    grand = cells.mean(axis=(1, 2), keepdims=True)
    rows, columns = cells.mean(axis=2, keepdims=True) - grand, cells.mean(axis=1, keepdims=True) - grand
    of_seed = cells - grand - rows - columns if interaction else rows
    mean = of_seed.mean(axis=0)
    df = 4 if interaction else 2
    seeds = len(cells)
    error = ((of_seed - mean) ** 2).sum() / (df * (seeds - 1))
    return float(seeds * (mean**2).sum() / df / error)


@pytest.mark.parametrize("interaction", [False, True])
def test_p_is_the_share_of_all_arrangements_that_are_as_extreme(interaction):
    """Three seeds of little effect, every exchange of levels written out: 6² arrangements, or 36²."""
    rng = np.random.default_rng(3)
    runs = sweep_complete().query("seed in ['0', '1', '2']")
    runs = runs.assign(**{metric: rng.normal(size=len(runs)) for metric in METRICS})
    cells = BySeed.of(runs, FACTORS, METRICS).values
    cells = cells / cells.reshape(-1, len(METRICS)).std(axis=0)
    orders = list(permutations(range(3)))
    moves = list(product(orders, orders if interaction else orders[:1]))
    observed = pseudo_f(cells, interaction)
    more = 0
    for second, third in product(moves, moves):
        moved = np.stack([cells[0], *(cells[s][np.ix_(*move)] for s, move in ((1, second), (2, third)))])
        more += pseudo_f(moved, interaction) >= observed * (1 - 1e-9)
    row = geometry_of(runs).frame.set_index("term").loc["algorithm:optimiser" if interaction else "algorithm"]
    assert row["F"] == pytest.approx(observed, rel=1e-9)
    assert row["p"] == pytest.approx(more / len(moves) ** 2)
    assert row["arrangements"] == len(moves) ** 2


def test_arrangements_are_all_or_a_sample():
    orders, exact, least = arrangements((3,), 4)
    assert (len(orders), exact, least) == (216, True, 1 / 216)
    assert len(np.unique(orders.reshape(216, -1), axis=0)) == 216
    assert (np.sort(orders, axis=2) == np.arange(3)).all()
    orders, _, least = arrangements((2, 2), 5)
    assert (len(orders), least) == (16, 1 / 16)  # both factors' levels exchanged: the interaction stays as it is
    orders, exact, least = arrangements((4, 3), 5)
    assert (len(orders), exact, least) == (9_999, False, 1e-4)
    assert (np.sort(orders, axis=2) == np.arange(12)).all()
    grid = orders.reshape(-1, 4, 3) // 3
    assert (grid == grid[..., :1]).all()  # rows move as a whole


def test_too_few_seeds_give_no_verdict():
    runs = sweep_complete().query("seed in ['0', '1']")
    table = geometry_of(runs)
    rows = table.frame.set_index("term")
    assert rows.loc["algorithm", "least_p"] == pytest.approx(1 / 6)
    assert np.isnan(rows.loc["algorithm", "p_adjusted"])
    assert "too few seeds to tell (2 seeds cannot give a p of at most 0.05): algorithm, optimiser" in table.notes
    asked = verdicts(fit(Sweep.of(runs, FACTORS, METRICS))).query("question == 'geometry'")
    assert asked["metric"].tolist() == ["algorithm:optimiser"]
    assert geometry_of(runs.query("seed == '0'")).frame.empty


def test_families_and_what_is_left_out():
    runs = sweep_complete().rename(
        columns={"accuracy": "test/accuracy", "stable_rank": "weights/a", "loss": "weights/b"}
    )
    runs = runs.assign(**{"signals/c": runs["change_rank"].where(runs["algorithm"] != "fa"), "weights/d": 1.0})
    lost = (runs["seed"] == "3") & (runs["optimiser"] == "sgd") & (runs["algorithm"] == "bp")
    metrics = ["test/accuracy", "weights/a", "weights/b", "weights/d", "changes/rank", "signals/c"]
    runs = runs.rename(columns={"change_rank": "changes/rank"})
    table = geometry(fit(Sweep.of(runs[~lost], FACTORS, metrics)))
    rows = table.frame.set_index(["metrics", "term"])
    assert rows.loc[(ALL, "algorithm"), ["n_metrics", "n_seeds"]].tolist() == [3, 4]
    assert rows.loc[("weights", "algorithm"), ["n_metrics", "n_seeds"]].tolist() == [2, 4]
    assert rows.loc["weights", "p_adjusted"].isna().all()
    assert any("metrics without a value in some cell: signals/c" in note for note in table.notes)
    assert any("seeds that lack a run or a value: 3" in note for note in table.notes)


def test_false_positives_where_seeds_move_each_level():
    """5 % of 400 sweeps of four seeds, give or take three standard errors; exchanging runs instead gives half."""
    rng = np.random.default_rng(5)
    at_most = {"a": 0, "b": 0, "a:b": 0}
    for _ in range(400):
        cells = rng.normal(size=(4, 3, 2, 6)) + 0.7 * rng.normal(size=(4, 3, 1, 6)) + rng.normal(size=(4, 1, 1, 6))
        means = BySeed(["a", "b"], [["x", "y", "z"], ["x", "y"]], list("0123"), list("uvwxyz"), cells)
        for row in terms(means):
            at_most[row["term"]] += row["p"] <= 0.05
    assert all(abs(count / 400 - 0.05) < 0.033 for term, count in at_most.items() if term != "b"), at_most
    assert at_most["b"] == 0  # two levels and four seeds: the least p is 1/8
