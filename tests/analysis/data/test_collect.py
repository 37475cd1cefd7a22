"""What of a sweep is a factor, and what is counted and left out."""

from __future__ import annotations

import gc

import pandas as pd
import pytest

from creditlab import records
from creditlab.analysis import load
from creditlab.analysis.data import cache
from creditlab.analysis.names import AnalysisError
from tests.analysis.conftest import Folder


def metrics(**_) -> dict:
    return {"metrics": {"test/accuracy": 0.9}}


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
def test_a_key_that_factors_tell_is_aliased(folder, rate, by):
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


def test_instruments_are_no_factor_and_do_not_make_two_of_one_experiment(folder):
    for algorithm in ("bp", "fa"):
        folder.add({"test/loss": 1.0}, algorithm=algorithm)
    many = folder.add({"test/loss": 1.0, "weights/a/stable_rank": 2.0}, keys={"metrics.points": 9}, algorithm="bp")
    sweep = load(folder.path)
    assert sweep.factors == ["algorithm"]
    assert len(sweep.runs) == 3
    assert len(sweep.repeats) == 1
    assert many.name not in sweep.repeats
    assert set(sweep.usable["run"]) == set(sweep.runs["run"]) - set(sweep.repeats)


def test_every_run_is_counted_and_none_imputed(folder):
    folder.cross(metrics, 2, algorithm=["bp", "fa"])
    folder.add(status="failed", algorithm="kp")
    folder.add(status="unfinished", algorithm="dfa")
    folder.add({"test/accuracy": None}, status="diverged", algorithm="es")
    torn = folder.add({"test/accuracy": 0.5}, algorithm="bp", seed=9)
    with open(torn / "history.jsonl", "a") as file:
        file.write("{}\n")
    foreign = folder.add({"test/accuracy": 0.5}, algorithm="bp", seed=10)
    (foreign / "run.json").write_text('{"schema": 99}')
    (folder.path / "report").mkdir()
    sweep = load(folder.path)
    assert sweep.counts == {"complete": 4, "failed": 1, "unfinished": 1, "diverged": 1, "corrupt": 2}
    assert len(sweep.usable) == 5
    values = sweep.runs.set_index("status")["test/accuracy"]
    assert (values["complete"] == 0.9).all()
    assert values.drop("complete").isna().all()
    assert set(sweep.runs["algorithm"].dropna()) == {"bp", "fa", "kp", "dfa", "es"}
    problems = {run.name: run.problem for run in sweep.records}
    assert "digest" in problems[torn.name]
    assert "schema 99" in problems[foreign.name]


def test_planned_runs_that_are_not_there(folder):
    there = folder.add({"test/accuracy": 0.5}, algorithm="bp")
    plan = {"schema": records.SCHEMA, "command": "", "factors": {}, "runs": [{"name": there.name}, {"name": "gone"}]}
    records.write_json(folder.path / "sweep.json", plan)
    sweep = load(folder.path)
    assert (sweep.planned, sweep.missing, sweep.problems) == (2, ["gone"], [])
    (folder.path / "sweep.json").write_text("{")
    sweep = load(folder.path)
    assert (sweep.planned, sweep.missing) == (None, [])
    assert sweep.problems[0].startswith("sweep.json cannot be read: ")


def test_metrics_in_order_behaviour_first_and_numbers_only(folder):
    names = ["weights/block10/x", "weights/block2/x", "activations/a", "test/loss", "test/loss@init", "train/loss"]
    folder.add(dict.fromkeys(names, 1.0) | {"test/steps": 3, "words": "many", "flag": True})
    sweep = load(folder.path)
    assert sweep.not_numeric == ["flag", "words"]
    assert sweep.outcomes == [
        *["test/loss", "test/steps", "train/loss", "activations/a", "weights/block2/x", "weights/block10/x"]
    ]
    assert set(sweep.metrics) - set(sweep.outcomes) == {"test/loss@init"}
    assert list(sweep.runs.columns[-len(sweep.metrics) :]) == sweep.metrics
    assert set(sweep.runs[sweep.metrics].dtypes.astype(str)) == {"float64"}


def test_the_order_of_folders_does_not_matter(folder, monkeypatch):
    folder.cross(metrics, 2, algorithm=["bp", "es"], optimiser=["sgd", "muon"])
    first = load(folder.path)
    real = records.run_folders
    monkeypatch.setattr(records, "run_folders", lambda path: list(real(path))[::-1])
    second = load(folder.path)
    assert second.factors == first.factors
    pd.testing.assert_frame_equal(second.runs.sort_values("run", ignore_index=True), first.runs)


# Several sweeps, some of their runs -----------------------------------------------------------------------------------


def test_several_sweeps_are_one(folder, tmp_path):
    folder.cross(metrics, 2, algorithm=["bp", "es"])
    more = Folder(tmp_path / "more")
    more.path.mkdir()
    more.cross(metrics, 2, algorithm=["bp", "ff"])
    sweep = load(folder.path, more.path)
    assert sweep.factors == ["algorithm"]
    assert len(sweep.runs) == 8
    assert len(sweep.repeats) == 2  # bp is in both
    assert sweep.usable.groupby("algorithm")["seed"].count().to_dict() == {"bp": 2, "es": 2, "ff": 2}
    assert set(sweep.named) == set(sweep.runs["run"])
    assert {name.partition("/")[0] for name in sweep.named} == {"sweep", "more"}


def test_where_keeps_the_runs_that_fit(folder):
    folder.cross(metrics, 2, algorithm=["bp", "es", "ff"], optimiser=["sgd", "muon"])
    sweep = load(folder.path, where={"algorithm": ["bp", "ff"], "optimiser": ["sgd"], "training.steps": ["10"]})
    assert sweep.factors == ["algorithm"]
    assert set(sweep.runs["algorithm"]) == {"bp", "ff"}
    assert set(sweep.runs["optimiser"]) == {"sgd"}
    with pytest.raises(AnalysisError, match=r"no run has a key 'algoritm'\. Did you mean algorithm\?"):
        load(folder.path, where={"algoritm": ["bp"]})
    with pytest.raises(AnalysisError, match=r"no run has algorithm=kp\. There are: bp, es, ff\."):
        load(folder.path, where={"algorithm": ["kp"]})


# The cache ------------------------------------------------------------------------------------------------------------


def test_the_cache_gives_what_the_files_gave_and_reads_no_run_again(folder, monkeypatch):
    folder.cross(metrics, 2, algorithm=["bp", "es"])
    folder.add({"words": "many", "test/steps": 3, "test/accuracy": None}, status="diverged", algorithm="ff")
    folder.add(status="failed", algorithm="kp")
    first = load(folder.path)
    monkeypatch.setattr(records, "read_run", lambda _: pytest.fail("read again"))
    second = load(folder.path)
    pd.testing.assert_frame_equal(second.runs, first.runs)
    assert (second.factors, second.not_numeric, second.counts) == (first.factors, first.not_numeric, first.counts)
    assert [r.problem for r in second.records] == [r.problem for r in first.records]


def test_a_run_that_changed_is_read_again(folder):
    runs = [folder.add({"test/accuracy": 0.5}, algorithm=a) for a in ("bp", "es", "ff", "fa")]
    load(folder.path)
    with open(runs[0] / "history.jsonl", "a") as file:
        file.write("{}\n")
    (runs[1] / "summary.json").unlink()
    for file in runs[2].iterdir():
        file.unlink()
    runs[2].rmdir()
    folder.add({"test/accuracy": 0.7}, algorithm="kp")
    sweep = load(folder.path)
    statuses = sweep.runs.set_index("algorithm")["status"].to_dict()
    assert statuses == {"bp": "corrupt", "es": "unfinished", "fa": "complete", "kp": "complete"}
    pd.testing.assert_frame_equal(load(folder.path).runs, sweep.runs)


def test_a_cache_that_cannot_be_read_is_none(folder):
    folder.add({"test/accuracy": 0.5}, algorithm="bp")
    first = load(folder.path)
    for content in (b"PK not a zip", b"", (folder.path / cache.NAME).read_bytes()[:200]):
        (folder.path / cache.NAME).write_bytes(content)
        pd.testing.assert_frame_equal(load(folder.path).runs, first.runs)


def test_garbage_collection_goes_on_afterwards(folder):
    folder.add({"test/accuracy": 0.5})
    load(folder.path)
    assert gc.isenabled()
    with pytest.raises(AnalysisError, match="algorithm=none"):
        load(folder.path, where={"algorithm": ["none"]})
    assert gc.isenabled()
