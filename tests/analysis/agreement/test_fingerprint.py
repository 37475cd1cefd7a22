"""Identification: chance where there is nothing to find, perfect where one metric tells all, and no leak."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from creditlab.analysis.agreement.fingerprint import fingerprint, fingerprint_confusion, usable_metrics
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.model.permutation import blocks, shuffled

FACTORS = ["algorithm", "optimiser"]


def runs(metrics, algorithms=("bp", "fa", "ff"), optimisers=("sgd", "muon"), seeds=4, generator=None):
    """A frame of runs; `metrics` gives each its values from (algorithm, optimiser, seed, generator), as numbers."""
    rng = generator or np.random.default_rng(0)
    rows = []
    for i, algorithm in enumerate(algorithms):
        for j, optimiser in enumerate(optimisers):
            for seed in range(seeds):
                name = f"{algorithm}-{optimiser}-s{seed}"
                about = {"run": name, "status": "complete", "algorithm": algorithm, "optimiser": optimiser}
                rows.append({**about, "seed": seed, **metrics(i, j, seed, rng)})
    return pd.DataFrame(rows)


def identify(frame):
    """The frame of `fingerprint` by what it is of, and the sweep."""
    sweep = Sweep.of(frame, FACTORS, [c for c in frame if "/" in c])
    index = ["target", "held_out", "metrics", "classifier"]
    return fingerprint(sweep).frame.set_index(index).sort_index(), sweep


def test_one_metric_that_tells_all_is_found_and_carries_over_to_other_optimisers():
    frame = runs(lambda i, j, s, r: {"w/tells": float(i), "w/noise": r.normal(), "test/loss": r.normal()})
    table, sweep = identify(frame)
    single = table.loc[("algorithm", "seed", "encoding", "single")]
    assert single[["accuracy", "best_metric", "n_identified"]].tolist() == [1.0, "w/tells", 24]
    assert single["p"] == pytest.approx(1 / 500)
    assert table.loc[("algorithm", "optimiser", "encoding", "nearest"), "accuracy"] > 0.9
    assert table.loc[("algorithm", "seed", "behaviour", "nearest"), "p"] > 0.01
    assert table.loc[("algorithm", "seed", "encoding", "nearest"), "chance"] == pytest.approx(1 / 3)
    right = fingerprint_confusion(sweep).frame.query(
        "target == 'algorithm' and classifier == 'nearest' and metrics == 'encoding'"
    )
    counts = right.groupby(["held_out", "true"])["n_runs"].sum()
    assert (counts == 8).all()


def test_accuracy_is_that_of_sklearns_own_pipeline():
    frame = runs(lambda i, j, s, r: {f"w/{k}": r.normal() + 0.6 * i * (k < 2) for k in range(5)}, seeds=5)
    x, y = frame[[f"w/{k}" for k in range(5)]].to_numpy(), frame["algorithm"]
    groups = frame["seed"]
    table, _ = identify(frame)
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(1))
    predicted = cross_val_predict(model, x, y, groups=groups, cv=LeaveOneGroupOut())
    assert table.loc[("algorithm", "seed", "encoding", "nearest"), "accuracy"] == pytest.approx(
        balanced_accuracy_score(y, predicted)
    )
    indicators = pd.get_dummies(y).astype(float)
    model = make_pipeline(StandardScaler(), Ridge(alpha=1.0))
    scores = cross_val_predict(model, x, indicators, groups=groups, cv=LeaveOneGroupOut())
    assert table.loc[("algorithm", "seed", "encoding", "linear"), "accuracy"] == pytest.approx(
        balanced_accuracy_score(y, indicators.columns[scores.argmax(axis=1)])
    )


def test_the_seed_gives_nothing_away():
    frame = runs(lambda i, j, s, r: {"w/seed": float(s), "w/seed2": s**2 / 7})
    table, _ = identify(frame)
    seed = table.xs("seed", level="held_out")
    assert seed["accuracy"].to_numpy() == pytest.approx(seed["chance"].to_numpy())
    assert (seed["p"] > 0.9).all()


def test_shuffled_labels_reach_chance_and_p_holds_its_level(monkeypatch):
    """Of 100 sweeps whose runs share what the seed does; of 1,000 in `benchmarks.error_rates`."""
    monkeypatch.setattr("creditlab.analysis.agreement.fingerprint.DRAWS", 39)
    generator = np.random.default_rng(0)
    p, accuracy = [], []
    for _ in range(100):
        frame = runs(lambda *_: {}, optimisers=("sgd",), seeds=4).drop(columns="optimiser")
        values = generator.normal(size=(12, 3)) + generator.normal(size=(4, 3))[frame["seed"]]
        frame = frame.assign(**{f"w/{k}": values[:, k] for k in range(3)})
        table = fingerprint(Sweep.of(frame, ["algorithm"], [f"w/{k}" for k in range(3)])).frame.set_index("classifier")
        p.append(table["p"])
        accuracy.append(table["shuffled"])
    p, accuracy = pd.DataFrame(p), pd.DataFrame(accuracy)
    assert accuracy[["linear", "nearest"]].mean().to_numpy() == pytest.approx(1 / 3, abs=0.02)
    for level in (0.1, 0.3):
        held = (p <= level).mean()
        assert (held <= level + 3 * np.sqrt(level * (1 - level) / 100)).all()
        assert (held >= level / 4).all()  # accuracy has few values, so p is often more than need be


def test_what_exists_for_one_algorithm_only_gives_nothing_away():
    frame = runs(lambda i, j, s, r: {"w/single": 1.0 if i == 0 else np.nan, "w/noise": r.normal(), "w/same": 3.0})
    assert usable_metrics(frame, ["w/single", "w/noise", "w/same"]) == ["w/noise"]
    table, sweep = identify(frame)
    assert "encoding: metrics left out, not finite in every run or constant: 2 of 3" in fingerprint(sweep).notes
    assert set(table["n_metrics"]) == {1}


def test_of_many_runs_whole_seeds_are_sampled(monkeypatch):
    monkeypatch.setattr("creditlab.analysis.agreement.fingerprint.MOST", 20)
    frame = runs(lambda i, j, s, r: {"w/a": i + r.normal()}, seeds=7)
    table, sweep = identify(frame)
    assert fingerprint(sweep).notes[0] == "of 42 runs those of 3 seeds out of 7, sampled at random: 18"
    assert set(table["n_runs"]) == {18}
    _, shuffled_sweep = identify(frame.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(fingerprint(sweep).frame, fingerprint(shuffled_sweep).frame)
    one = runs(lambda i, j, s, r: {"w/a": i + r.normal()}, optimisers=tuple("abcdefgh"), seeds=1)
    assert set(identify(one)[0]["n_runs"]) == {24}  # nothing to sample from


def test_initial_networks_are_a_control():
    frame = runs(lambda i, j, s, r: {"w/a": i + 0.01 * r.normal(), "w/a@init": float(s)})
    table, _ = identify(frame)
    assert table.loc[("algorithm", "seed", "encoding", "nearest"), "accuracy"] == 1
    assert table.loc[("algorithm", "seed", "initial", "nearest"), "accuracy"] == pytest.approx(1 / 3)


def test_what_a_network_is_taught_by_is_none_of_its_encoding():
    frame = runs(lambda i, j, s, r: {"w/a": r.normal(), "signals/angle": float(i), "signals/angle@init": float(i)})
    table, _ = identify(frame)
    assert table.loc[("algorithm", "seed", "signals", "single"), "best_metric"] == "signals/angle"
    assert table.loc[("algorithm", "seed", "signals", "nearest"), "accuracy"] == 1
    assert table.loc[("algorithm", "seed", "encoding", "nearest"), "n_metrics"] == 1
    assert "initial" not in table.index.get_level_values("metrics")


def test_what_cannot_be_split_is_said():
    frame = runs(lambda i, j, s, r: {"w/a": r.normal()}, seeds=1)
    frame = frame[~((frame["algorithm"] == "ff") & (frame["optimiser"] == "sgd"))]
    frame.loc[frame.index[0], "status"] = "diverged"
    _, sweep = identify(frame)
    notes = " ".join(fingerprint(sweep).notes)
    assert "algorithm: cannot leave one seed out, there is only 0" in notes
    assert "algorithm, optimiser held out: not identified, as training has no run like it: 3" in notes
    assert "left out, diverged: 1" in notes


def test_the_order_of_rows_means_nothing():
    frame = runs(lambda i, j, s, r: {f"w/{k}": r.normal() + 0.5 * i for k in range(3)})
    _, sweep = identify(frame)
    _, again = identify(frame.sample(frac=1, random_state=1))
    for statistic in (fingerprint, fingerprint_confusion):
        pd.testing.assert_frame_equal(statistic(sweep).frame, statistic(again).frame)


def test_blocks_follow_the_seeds_where_levels_share_them():
    shared = runs(lambda *_: {})
    assert len(set(blocks(shared, "algorithm", ["optimiser"]))) == 8
    apart = shared.assign(seed=range(len(shared)))
    assert len(set(blocks(apart, "algorithm", ["optimiser"]))) == 2
    level = pd.factorize(shared["algorithm"])[0]
    block = blocks(shared, "algorithm", ["optimiser"])
    for draw in shuffled(level, block, 5, np.random.default_rng(0)):
        assert all(sorted(draw[block == b]) == [0, 1, 2] for b in set(block))


def test_a_metric_whose_squares_overflow_takes_no_part():
    runs = pd.DataFrame({"w/a": [1.0, 2.0], "w/b": [1e200, 2e200], "w/c": [np.nan, 1.0], "w/d": [3.0, 3.0]})
    assert usable_metrics(runs, list(runs)) == ["w/a"]
