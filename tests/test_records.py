import json
import math
import os
import random
import stat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditlab import records

CONFIG = {
    "choices": {"algorithm": "bp", "optimiser": "adamw", "dataset": "digits", "architecture": "mlp", "metrics": "none"},
    "algorithm": {"_target_": "a.B"},
    "optimiser": {"_target_": "c.D", "lr": 0.1, "betas": [0.9, 0.99]},
    "dataset": {"_target_": "e.F", "root": "data", "download": False},
    "architecture": {"_target_": "g.h", "widths": [8, 8]},
    "metrics": {"points": 0, "instruments": {}},
    "training": {"steps": 10, "checkpoint_seconds": 60.0},
    "seed": 0,
    "device": "auto",
    "threads": 1,
    "precision": "float32",
    "sweep": None,
}


def changed(**keys):
    """CONFIG with `group__key=value`."""
    config = json.loads(json.dumps(CONFIG))
    for path, value in keys.items():
        node = config
        *parents, last = path.split("__")
        for parent in parents:
            node = node[parent]
        node[last] = value
    return config


def finished(folder, metrics=None, config=CONFIG, status="complete"):
    records.open_run(folder, config)
    records.begin(folder, config, {"config.yaml": "a: 1\n"})
    history = records.History(folder / "history.jsonl")
    history.append(0, 0.0, {"test/accuracy": 0.1})
    history.append(10, 1.0, {"test/accuracy": 0.9})
    history.close()
    records.write_arrays(folder / "arrays.npz", {"test/loss": np.arange(3.0)})
    records.finish(folder, config, status, 10, metrics or {"test/accuracy": 0.9}, {"seconds": 1.0})
    return records.read_run(folder)


# Identity


def test_identity_is_frozen():
    """A changed derivation would disown every finished run of every user."""
    assert records.identity(CONFIG) == "92ea5712cd06"


@given(st.randoms())
def test_identity_does_not_depend_on_the_order_of_keys(shuffler: random.Random):
    def shuffled(node):
        if not isinstance(node, dict):
            return node
        items = [(key, shuffled(value)) for key, value in node.items()]
        shuffler.shuffle(items)
        return dict(items)

    assert records.identity(shuffled(CONFIG)) == records.identity(CONFIG)


@pytest.mark.parametrize(
    "path",
    [
        "device",
        "threads",
        "sweep",
        "dataset__root",
        "dataset__download",
        "training__checkpoint_seconds",
        "choices__algorithm",
    ],
)
def test_identity_leaves_out_what_cannot_change_the_result(path):
    assert records.identity(changed(**{path: "other"})) == records.identity(CONFIG)


@pytest.mark.parametrize(
    "path", ["seed", "precision", "optimiser__lr", "architecture__widths", "training__steps", "algorithm___target_"]
)
def test_identity_tells_apart_what_can(path):
    assert records.identity(changed(**{path: 3})) != records.identity(CONFIG)


def test_folder_name_is_readable():
    assert records.folder_name(CONFIG) == f"bp-adamw-digits-mlp-s0-{records.identity(CONFIG)}"


# Writing


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def half(file):
        file.write(b"new, but not a")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        records.write_whole(path, half)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_files_get_the_mode_that_the_user_wants(tmp_path):
    before = os.umask(0o027)
    try:
        records.write_json(tmp_path / "file", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_run_reads_back_as_it_was_written(tmp_path):
    run = finished(tmp_path / "run", {"test/accuracy": 0.5, "test/loss": math.inf})
    assert (run.status, run.finished, run.problem) == ("complete", True, "")
    assert run.config == CONFIG
    assert run.metrics["test/accuracy"] == 0.5
    assert math.isnan(run.metrics["test/loss"])  # JSON has no infinity
    assert [row["step"] for row in run.history()] == [0, 10]
    assert run.arrays()["test/loss"].tolist() == [0, 1, 2]
    assert (run.folder / ".hydra/config.yaml").read_text() == "a: 1\n"
    assert set(run.record) >= {"schema", "identity", "config", "started", "host", "pid", "job_id", "versions", "git"}
    assert set(run.summary) == {"schema", "identity", "status", "steps", "seconds", "metrics", "history_sha256"}


def test_resuming_drops_the_history_after_the_checkpoint(tmp_path):
    history = records.History(tmp_path / "h")
    history.append(0, 0.0, {})
    size = history.size
    history.append(5, 0.5, {"x": 1.0})
    history.close()
    again = records.History(tmp_path / "h", size)
    again.append(5, 0.5, {"x": 2.0})
    again.close()
    assert [json.loads(line)["metrics"] for line in (tmp_path / "h").read_text().splitlines()] == [{}, {"x": 2.0}]


def test_a_folder_of_another_config_is_refused_and_the_keys_named(tmp_path):
    finished(tmp_path / "run")
    with pytest.raises(records.RecordError, match=r"optimiser\.lr: 0\.1 there, 0\.2 now"):
        records.open_run(tmp_path / "run", changed(optimiser__lr=0.2))
    records.open_run(tmp_path / "run", changed(device="cpu", threads=4))


def test_a_file_in_the_way_is_a_clear_error(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(records.RecordError, match=r"cannot write to .*taken"):
        records.open_run(tmp_path / "taken" / "run", CONFIG)


# Reading


def test_one_torn_last_line_is_accepted_and_no_other(tmp_path):
    run = finished(tmp_path / "run")
    path = run.folder / "history.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"step": 20, "epo')
    assert [row["step"] for row in run.history()] == [0, 10]
    path.write_text('{"step": 0, "epo\n' + whole)
    with pytest.raises(records.RecordError, match="line 1 of 3"):
        run.history()


def spoil_summary(folder):
    (folder / "summary.json").write_text('{"schema": 1, "sta')


def spoil_history(folder):
    with open(folder / "history.jsonl", "a") as file:
        file.write("{}\n")


def spoil_schema(folder):
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"schema": 99}))


def spoil_config(folder):
    record = json.loads((folder / "run.json").read_text())
    record["config"]["seed"] = 5
    (folder / "run.json").write_text(json.dumps(record))


def spoil_metrics(folder):
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | {"metrics": [1, 2]}))


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (spoil_summary, "summary.json"),
        (spoil_history, "digest"),
        (spoil_schema, "schema 99"),
        (spoil_config, "identity"),
        (spoil_metrics, "metrics"),
    ],
)
def test_a_spoilt_run_is_corrupt_not_finished(tmp_path, spoil, problem):
    run = finished(tmp_path / "run")
    spoil(run.folder)
    again = records.read_run(run.folder)
    assert (again.status, again.finished, again.metrics) == ("corrupt", False, {})
    assert problem in again.problem


def test_states_of_a_run_that_is_not_finished(tmp_path):
    folder = tmp_path / "run"
    assert records.read_run(folder).status == "unfinished"
    folder.mkdir()
    records.begin(folder, CONFIG, {})
    assert records.read_run(folder).status == "unfinished"
    try:
        raise RuntimeError("out of luck\nsecond line")
    except RuntimeError as error:
        records.fail(folder, CONFIG, error, 7)
    run = records.read_run(folder)
    assert (run.status, run.problem) == ("failed", "RuntimeError: out of luck")
    text = (folder / "error.txt").read_text()
    assert "after step 7" in text
    assert "Traceback" in text
    assert '"seed": 0' in text
    records.begin(folder, CONFIG, {})
    assert records.read_run(folder).status == "unfinished"


def test_reading_a_sweep(tmp_path):
    finished(tmp_path / "sweep" / "b")
    finished(tmp_path / "sweep" / "a", status="diverged")
    (tmp_path / "sweep" / "notes").mkdir()
    (tmp_path / "sweep" / ".hidden").mkdir()
    assert [(r.name, r.status) for r in records.read_sweep(tmp_path / "sweep")] == [
        ("a", "diverged"),
        ("b", "complete"),
    ]


def test_foreign_folders_are_told(tmp_path):
    with pytest.raises(records.RecordError, match="is not a folder"):
        records.read_sweep(tmp_path / "nowhere")
    with pytest.raises(records.RecordError, match="holds nothing"):
        records.read_sweep(tmp_path)
    finished(tmp_path / "sweep" / "run")
    with pytest.raises(records.RecordError, match=r"Did you mean .*sweep"):
        records.read_sweep(tmp_path)


def test_plans(tmp_path):
    assert records.read_plan(tmp_path) is None
    records.write_json(tmp_path / "sweep.json", {"schema": 1, "runs": []})
    assert records.read_plan(tmp_path) == {"schema": 1, "runs": []}
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(records.RecordError, match=r"sweep\.json"):
        records.read_plan(tmp_path)
