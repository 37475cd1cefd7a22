"""Which settings of a sweep are factors, and which are aliased or nested."""

from __future__ import annotations

import pytest

from creditlab.analysis import load
from tests.analysis.data.test_collect import metrics


def test_options_that_vary_are_factors_and_their_own_keys_are_not(folder):
    folder.cross(metrics, 2, algorithm=["bp", "es", "ff"], optimiser=["sgd", "muon"])
    sweep = load(folder.path)
    assert sweep.factors == ["algorithm", "optimiser"]  # not algorithm.sigma, algorithm._target_, optimiser.momentum
    assert (sweep.aliased, sweep.nested) == ({}, {})
    assert list(sweep.runs.columns) == [
        *["run", "identity", "status", "algorithm", "optimiser", "dataset", "architecture", "seed", "test/accuracy"]
    ]
    assert len(sweep.runs) == 12
    row = sweep.runs.iloc[0]
    assert row["run"] == f"bp-muon-digits-mlp-s0-{row['identity']}"


def test_a_key_swept_within_an_option_is_a_factor(folder):
    for algorithm in ("bp", "fa"):
        for lr in (0.1, 0.01):
            for widths in ([8], [8, 8]):
                keys = {"optimiser.lr": lr, "architecture.widths": widths, "training.steps": int(lr * 100)}
                folder.add({"test/loss": 1.0}, keys=keys, algorithm=algorithm)
    sweep = load(folder.path)
    assert sweep.factors == ["algorithm", "optimiser.lr", "architecture.widths"]
    assert sweep.aliased == {"training.steps": "optimiser.lr"}
    assert set(sweep.runs["architecture.widths"]) == {"[8]", "[8, 8]"}
    assert set(sweep.runs["optimiser.lr"]) == {0.1, 0.01}


@pytest.mark.parametrize(
    ("rate", "by"),
    [
        ({"bp": 0.1, "es": 0.2}, "algorithm"),
        ({"bp-sgd": 1, "bp-muon": 2, "es-sgd": 3, "es-muon": 2}, "algorithm × optimiser"),
        ({0: 0.1, 1: 0.2}, "seed"),
    ],
)
def test_a_key_that_factors_determine_is_aliased(folder, rate, by):
    for algorithm in ("bp", "es"):
        for optimiser in ("sgd", "muon"):
            for seed in (0, 1):
                value = rate.get(algorithm) or rate.get(f"{algorithm}-{optimiser}") or rate.get(seed)
                folder.add(
                    {"test/loss": 1.0},
                    keys={"training.rate": value},
                    algorithm=algorithm,
                    optimiser=optimiser,
                    seed=seed,
                )
    sweep = load(folder.path)
    assert sweep.factors == ["algorithm", "optimiser"]
    assert sweep.aliased == {"training.rate": by}


def test_a_key_swept_for_one_option_is_nested(folder):
    for seed in (0, 1):
        folder.add({"test/loss": 1.0}, algorithm="bp", seed=seed)
        for sigma in (0.1, 0.2):
            folder.add({"test/loss": 1.0}, keys={"algorithm.sigma": sigma}, algorithm="es", seed=seed)
    sweep = load(folder.path)
    assert sweep.factors == ["algorithm"]
    assert sweep.nested == {"algorithm.sigma": "algorithm"}
    assert sweep.runs.set_index("algorithm").loc["bp", "algorithm.sigma"].isna().all()


def test_a_rate_for_each_cell_of_a_crossed_design_is_aliased(folder):
    rate = {("bp", 1): 1, ("bp", 2): 2, ("fa", 1): 2, ("fa", 2): 2}
    for algorithm in ("bp", "fa"):
        for depth in (1, 2):
            for width in (8, 16):
                keys = {"optimiser.lr": rate[algorithm, depth], "architecture.depth": depth, "architecture.w": width}
                folder.add({"test/loss": 1.0}, algorithm=algorithm, keys=keys)
    sweep = load(folder.path)
    assert sweep.aliased == {"optimiser.lr": "algorithm × architecture.depth"}
    assert sweep.factors == ["algorithm", "architecture.depth", "architecture.w"]


def test_in_a_design_that_is_not_crossed_a_combination_aliases_nothing(folder):
    cells = [("bp", 1, 1), ("bp", 2, 2), ("fa", 1, 2), ("fa", 3, 1)]
    for algorithm, depth, lr in cells:
        for width in (8, 16):
            keys = {"optimiser.lr": lr, "architecture.depth": depth, "architecture.w": width}
            folder.add({"test/loss": 1.0}, algorithm=algorithm, keys=keys)
    assert "optimiser.lr" in load(folder.path).factors


def test_seeds_of_their_own_alias_nothing(folder):
    for seed, (algorithm, lr) in enumerate([("bp", 0.1), ("bp", 0.2), ("es", 0.1), ("es", 0.2)]):
        folder.add({"test/loss": 1.0}, keys={"optimiser.lr": lr}, algorithm=algorithm, seed=seed)
    assert load(folder.path).factors == ["algorithm", "optimiser.lr"]
