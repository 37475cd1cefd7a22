"""Means by seed against pandas, with runs missing, seeds of one level and runs repeated."""

from __future__ import annotations

import numpy as np
import pytest

from creditlab.analysis.model.by_seed import BySeed
from tests.analysis.oracles import METRICS, numbers, sweep_complete

FACTORS = ["algorithm", "optimiser"]


def test_differences_are_means_over_the_other_factors():
    means = BySeed.of(sweep_complete(), FACTORS, METRICS)
    assert means.values.shape == (5, 3, 3, 4)
    differences = {(a, b): d for a, b, d in means.differences("algorithm")}
    published = numbers()["paired_bonferroni_bp_fa"]
    assert differences["bp", "fa"][:, 0].mean() == pytest.approx(published["difference"], rel=1e-9)
    by_level = sweep_complete().groupby(["seed", "algorithm"])[METRICS].mean().to_numpy().reshape(5, 3, 4)
    np.testing.assert_allclose(means.means("algorithm"), by_level)
    np.testing.assert_allclose(means.means("optimiser", "algorithm"), means.values.swapaxes(1, 2))


def test_a_seed_that_lacks_a_cell_has_no_mean():
    runs = sweep_complete()
    lost = (runs["algorithm"] == "fa") & (runs["optimiser"] == "sgd") & (runs["seed"] == "2")
    means = BySeed.of(runs[~lost], FACTORS, METRICS)
    missing = np.isnan(means.means("algorithm")).any(axis=2)
    assert np.argwhere(missing).tolist() == [[2, 2]]
    differences = {(a, b): np.isnan(d[:, 0]).tolist() for a, b, d in means.differences("algorithm")}
    assert differences == {("bp", "dfa"): [False] * 5, ("bp", "fa"): [*[False] * 2, True, *[False] * 2]} | {
        ("dfa", "fa"): [*[False] * 2, True, *[False] * 2]
    }
    empty = (runs["algorithm"] == "fa") & (runs["optimiser"] == "sgd")  # no seed has this cell
    fewer = BySeed.of(runs[~empty], FACTORS, METRICS)
    pair = {(a, b): d for a, b, d in fewer.differences("algorithm")}["bp", "fa"]
    kept = runs[runs["optimiser"] != "sgd"].groupby(["algorithm", "seed"])[METRICS].mean()
    np.testing.assert_allclose(pair, kept.loc["bp"] - kept.loc["fa"])


def test_seeds_of_one_run_are_left_out_and_runs_of_a_cell_are_averaged():
    runs = sweep_complete()
    twice = BySeed.of(runs.assign(algorithm="bp"), FACTORS, METRICS)  # three runs in each cell
    assert (twice.factors, twice.values.shape) == (["optimiser"], (5, 3, 4))
    np.testing.assert_allclose(
        twice.values[:, 0, 0], runs.query("optimiser == 'adamw'").groupby("seed")["accuracy"].mean()
    )
    alone = BySeed.of(runs.assign(seed=range(45)), FACTORS, METRICS)
    assert alone.values.shape == (0, 3, 3, 4)
    assert BySeed.of(runs[:0], FACTORS, METRICS).values.size == 0
