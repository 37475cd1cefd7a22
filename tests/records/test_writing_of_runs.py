"""Writing the files of a run: whole or not at all."""

import json
import math
import os
import stat

import pytest

from creditlab import records
from tests.records.common import CONFIG, changed, finished


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MemoryError(), "MemoryError"),
        (ValueError("one line\nand another"), "ValueError: one line"),
        (KeyError("key"), "KeyError: 'key'"),
    ],
)
def test_a_cause_is_one_line(tmp_path, error, cause):
    assert records.cause_of(error) == cause
    records.fail(tmp_path, {}, error, step=3)
    assert records.read_run(tmp_path).problem == cause


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
    head = {"schema", "identity", "config", "started"}
    assert set(run.record) == head | {"host", "pid", "job_id", "versions", "git", "code"}
    fields = {"schema", "identity", "status", "steps", "seconds", "metrics", "files", "files_sha256", "history_sha256"}
    assert set(run.summary) == fields
    size = (run.folder / "arrays.npz").stat().st_size
    assert run.summary["files"] == {"arrays.npz": size, "weights.safetensors": 7}


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
    with pytest.raises(records.RecordError, match=r"optimiser\.lr: 0\.1 in the folder, 0\.2 now"):
        records.open_run(tmp_path / "run", changed(optimiser__lr=0.2))
    records.open_run(tmp_path / "run", changed(device="cpu", threads=4))


def test_a_file_in_the_way_is_a_clear_error(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(records.RecordError, match=r"cannot write to .*taken"):
        records.open_run(tmp_path / "taken" / "run", CONFIG)
