"""Comparisons at an equal point of training, on histories whose every value is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from creditlab.analysis import load
from creditlab.analysis.data.histories import CHANGE, histories
from creditlab.analysis.effects.matched import BY, at, common, matched
from tests.analysis.frames import with_histories


def learning(rate: dict[str, float], seeds: int = 4, steps: int = 11) -> pd.DataFrame:
    """Accuracy rises by `rate` a step; a metric is ten times the accuracy plus an offset of the algorithm, recorded at
    every other step."""
    rows = []
    for algorithm, speed in rate.items():
        for seed in range(seeds):
            for step in range(0, 10 * steps, 10):
                accuracy = speed * (1 + 0.1 * seed) * step
                metric = 10 * accuracy + (algorithm == "fa") + 0.01 * seed if step % 20 == 0 else np.nan
                row = {
                    "run": f"{algorithm}{seed}",
                    "algorithm": algorithm,
                    "seed": seed,
                    "step": step,
                    "epoch": step / 10,
                }
                rows.append(row | {"test/accuracy": accuracy, "weights/a": metric})
    return pd.DataFrame(rows)


def matched_of(history: pd.DataFrame, by: str | None = None, target: float | None = None) -> pd.DataFrame:
    """Levels of the algorithm compared, of runs with `history`."""
    return matched(with_histories(history, ["algorithm"]), by=by, target=target).frame


def test_a_run_is_read_where_it_reaches_the_target():
    history = learning({"bp": 0.008, "fa": 0.004})
    assert common(history, "test/accuracy") == pytest.approx(0.4)  # fa, seed 0, at step 100
    points = at(history, ["algorithm"], "test/accuracy", 0.3).set_index("run")
    assert list(points.columns) == ["algorithm", "seed", "step", "test/accuracy", "weights/a"]
    assert points.loc["bp0", "step"] == pytest.approx(0.3 / 0.008)
    assert points.loc["fa2", "step"] == pytest.approx(0.3 / (0.004 * 1.2))
    np.testing.assert_allclose(points["test/accuracy"], 0.3)
    assert points.loc["fa2", "weights/a"] == pytest.approx(3 + 1 + 0.02)
    assert len(at(history, ["algorithm"], "test/accuracy", 0.5)) == 4 + 1  # of fa only the fastest


def test_speed_no_longer_shows_at_equal_accuracy():
    history = learning({"bp": 0.008, "fa": 0.004})
    table = matched_of(history, "test/accuracy")
    rows = table.set_index("metric")
    assert rows.loc["weights/a", "difference"] == pytest.approx(-1)
    assert rows.loc["step", "difference"] < 0
    at_end = matched_of(history, "step").set_index("metric")
    assert at_end["target"].unique().tolist() == [100]
    assert at_end.loc["weights/a", "difference"] == pytest.approx(10 * 0.4 * np.mean([1, 1.1, 1.2, 1.3]) - 1)
    shuffled = history.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(matched_of(shuffled, "test/accuracy"), table)
    points = at(history, ["algorithm"], "test/accuracy", 0.3)
    pd.testing.assert_frame_equal(at(shuffled, ["algorithm"], "test/accuracy", 0.3), points)


def test_by_default_levels_are_matched_by_all_that_the_histories_have():
    history = learning({"bp": 0.008, "fa": 0.004})
    every = matched_of(history)
    assert list(every["by"].unique()) == ["test/accuracy", "step"]
    pd.testing.assert_frame_equal(every, pd.concat([matched_of(history, by) for by in BY[:2]], ignore_index=True))
    moving = history.assign(**{"weights/a/relative_change": 2 * history["test/accuracy"]})
    change = matched_of(moving).query("by == @CHANGE").set_index("metric")
    assert change.loc["test/accuracy", "target"] == pytest.approx(0.8)
    assert change.loc["weights/a", "difference"] == pytest.approx(-1)


def test_intervals_at_equal_accuracy_cover_and_false_positives_are_at_the_level():
    """95 % ± 2 % of 1,000 metrics that follow the accuracy, with an offset of the algorithm and one of each run."""
    rng, draws = np.random.default_rng(0), 1000
    history = learning({"bp": 0.008, "fa": 0.004}, seeds=5).drop(columns="weights/a")
    run, fa = pd.factorize(history["run"])[0], (history["algorithm"] == "fa").to_numpy()
    follows = 10 * history["test/accuracy"].to_numpy()[:, None] + rng.normal(size=(10, draws))[run]
    for offset in (1.0, 0.0):
        values = pd.DataFrame(follows + offset * fa[:, None], columns=[f"w/{i}" for i in range(draws)])
        table = matched_of(pd.concat([history, values], axis=1), "test/accuracy")
        table = table[table["metric"] != "step"]
        assert ((table["ci_low"] <= -offset) & (table["ci_high"] >= -offset)).mean() == pytest.approx(0.95, abs=0.02)
    assert (table["p"] < 0.05).mean() == pytest.approx(0.05, abs=0.02)


def test_what_the_histories_lack_gives_no_rows():
    history = learning({"bp": 0.008, "fa": 0.004})
    assert matched_of(history, CHANGE).empty
    assert matched_of(history, "test/accuracy", 2.0).empty
    assert matched_of(learning({"bp": 0.008, "fa": 0.004}, seeds=1), "step").empty
    beyond = at(history, ["algorithm"], "step", 95)
    assert beyond["weights/a"].notna().all()
    short = history[(history["step"] < 90) | history["weights/a"].isna()]
    assert at(short, ["algorithm"], "step", 85)["weights/a"].isna().all()  # nothing is extrapolated


def test_histories_of_a_sweep(folder):
    folder.cross(lambda **_: {"metrics": {"test/accuracy": 0.5}}, 2, algorithm=["bp", "fa"])
    folder.add({"test/accuracy": None}, status="diverged", algorithm="bp", seed=2)
    history = histories(load(folder.path))
    assert list(history.columns) == ["run", "algorithm", "seed", "step", "epoch", "train/loss"]
    assert history["seed"].tolist() == [0, 1, 0, 1]
    assert set(history["train/loss"]) == {0.5}
