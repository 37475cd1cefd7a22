"""Comparisons at an equal point of training, on histories whose every value is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from creditlab.analysis import fit, load
from creditlab.analysis.data.histories import CHANGE, histories
from creditlab.analysis.effects.matched import at, at_equal, common, matched
from creditlab.analysis.model.questions import verdicts
from tests.analysis.frames import with_histories


def learning(rate: dict[str, float], seeds: int = 4, steps: int = 11) -> pd.DataFrame:
    """Accuracy rises by `rate` per step; a metric is ten times the accuracy plus an offset of the algorithm and a small
    one of the run, recorded at every other step."""
    rows = []
    for algorithm, speed in rate.items():
        for seed in range(seeds):
            for step in range(0, 10 * steps, 10):
                accuracy = speed * (1 + 0.1 * seed) * step
                offset = (algorithm == "fa") + 0.01 * (seed * (1 if algorithm == "fa" else 3) % 4)
                metric = 10 * accuracy + offset if step % 20 == 0 else np.nan
                row = {
                    "run": f"{algorithm}{seed}",
                    "algorithm": algorithm,
                    "seed": seed,
                    "step": step,
                    "epoch": step / 10,
                }
                rows.append(row | {"test/accuracy": accuracy, "weights/a": metric})
    return pd.DataFrame(rows)


def matched_of(history: pd.DataFrame, by: str | None = None) -> pd.DataFrame:
    """Levels of the algorithm compared, of runs with `history`; where `by` is equal, or for all there are."""
    table = matched(fit(with_histories(history, ["algorithm"]))).frame
    return table if by is None else table[table["by"] == by].reset_index(drop=True)


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
    assert every.groupby("by")["target"].first().to_dict() == pytest.approx({"test/accuracy": 0.4, "step": 100})
    moving = history.assign(**{"weights/a/relative_change": 2 * history["test/accuracy"]})
    change = matched_of(moving).query("by == @CHANGE").set_index("metric")
    assert change.loc["weights/a", "target"] == pytest.approx(0.8)
    assert change.loc["weights/a", "difference"] == pytest.approx(-1)


def test_false_positives_at_equal_accuracy_are_at_the_level():
    """5 % ± 2 % of 1,000 metrics that follow the accuracy and have an offset of each run, and none of the algorithm."""
    rng, draws = np.random.default_rng(0), 1000
    history = learning({"bp": 0.008, "fa": 0.004}, seeds=5).drop(columns="weights/a")
    run = pd.factorize(history["run"])[0]
    follows = 10 * history["test/accuracy"].to_numpy()[:, None] + rng.normal(size=(10, draws))[run]
    values = pd.DataFrame(follows, columns=[f"w/{i}" for i in range(draws)])
    tests = at_equal(fit(with_histories(pd.concat([history, values], axis=1), ["algorithm"])))
    p = tests[(tests["question"] == "algorithm at equal test/accuracy") & (tests["metric"] != "step")]["p"]
    assert len(p) == draws
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.02)


def test_verdicts_are_those_of_the_whole_report():
    """The question of a factor where runs are equally far is one of the report's, and pairs are decided below it."""
    fits = fit(with_histories(learning({"bp": 0.008, "fa": 0.004}, seeds=6), ["algorithm"]))
    answers = verdicts(fits).set_index(["question", "metric"])
    table = matched(fits).frame
    for row in table.to_dict("records"):
        answer = answers.loc[(f"algorithm at equal {row['by']}", row["metric"])]
        assert row["found"] == answer["found"]  # a factor of two levels has one pair
        assert row["p"] == pytest.approx(answer["p"], rel=1e-8)
    excludes = (table["ci_low"] > 0) | (table["ci_high"] < 0)
    assert (excludes == (table["p"] <= table["level"])).all()
    assert table["found"].any()


def test_what_the_histories_lack_gives_no_rows():
    history = learning({"bp": 0.008, "fa": 0.004})
    assert matched_of(history, CHANGE).empty
    assert matched_of(learning({"bp": 0.008, "fa": 0.004}, seeds=1)).empty
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
