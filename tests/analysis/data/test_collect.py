"""What of a sweep is counted, left out and named; several sweeps as one; the runs that are chosen."""

from __future__ import annotations

import gc
import json

import pandas as pd
import pytest

from creditlab import records
from creditlab.analysis import load
from creditlab.analysis.names import AnalysisError
from tests.analysis.conftest import Folder


def metrics(**_) -> dict:
    return {"metrics": {"test/accuracy": 0.9}}


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
    present = folder.add({"test/accuracy": 0.5}, algorithm="bp")
    plan = {"schema": records.SCHEMA, "command": "", "factors": {}, "runs": [{"name": present.name}, {"name": "gone"}]}
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


def test_garbage_collection_goes_on_afterwards(folder):
    folder.add({"test/accuracy": 0.5})
    load(folder.path)
    assert gc.isenabled()
    with pytest.raises(AnalysisError, match="algorithm=none"):
        load(folder.path, where={"algorithm": ["none"]})
    assert gc.isenabled()


def test_runs_of_several_versions_of_the_code_are_named(folder):
    def record(seed: int, code: dict[str, str], version: str) -> None:
        path = folder.add({"test/accuracy": 0.5}, algorithm="bp", seed=seed) / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"code": code, "versions": {"creditlab": version}}))

    for seed in range(2):
        record(seed, {"rules": "a" * 64, "same": "c" * 64}, "0.1")
    assert load(folder.path).problems == []
    record(2, {"rules": "b" * 64, "same": "c" * 64}, "0.1")
    (problem,) = load(folder.path).problems
    assert problem.startswith("rules: the runs used 2 versions of it, sha256 aaaaaaaa in 2 (")
    assert "; sha256 bbbbbbbb in 1 (" in problem
    assert load(folder.path).problems == [problem]  # from the cache, too
    record(3, {}, "0.2")
    assert any(line.startswith("creditlab: the runs used 2 versions") for line in load(folder.path).problems)
