"""The cache gives what the files give, and never what they gave before."""

from __future__ import annotations

import os

import pandas as pd
import pytest

from creditlab import records
from creditlab.analysis import load
from creditlab.analysis.data import cache
from tests.analysis.data.test_collect import metrics
from tests.records.common import changed, finished


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


def gone(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def replaced(path):
    """By a file of the same size and time, as a copy that keeps times does."""
    stamp, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def linked(path):
    path.rename(path.parent.parent / ".elsewhere")
    path.symlink_to(path.parent.parent / ".elsewhere")


def a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [gone, cut, replaced, linked, a_folder])
@pytest.mark.parametrize("name", cache.FILES)
def test_a_cached_and_a_fresh_reading_agree_whatever_becomes_of_a_file(tmp_path, name, spoil):
    runs = [finished(tmp_path / "sweep" / run, config=changed(seed=i)).folder for i, run in enumerate("abc")]
    (runs[1] / "error.txt").write_text("RuntimeError: once")
    cache.read_runs(tmp_path / "sweep")
    spoil(runs[1] / name)
    cached = cache.read_runs(tmp_path / "sweep")
    fresh = records.read_sweep(tmp_path / "sweep")
    for one, other in zip(cached, fresh, strict=True):
        assert one.metrics == other.metrics
        for attribute in ("name", "status", "problem", "record", "newer", "weights_removed", "identity"):
            assert getattr(one, attribute) == getattr(other, attribute)
    (tmp_path / "sweep" / cache.NAME).unlink()
    assert [run.status for run in cache.read_runs(tmp_path / "sweep")] == [run.status for run in fresh]
    kept = {key: fresh[0].summary[key] for key in ("files", "files_sha256")}
    assert kept == {key: cache.read_runs(tmp_path / "sweep")[0].summary[key] for key in kept}


def test_weights_that_were_removed_leave_a_run_in_the_analysis(tmp_path):
    runs = [finished(tmp_path / "sweep" / run, config=changed(seed=i)).folder for i, run in enumerate("ab")]
    before = load(tmp_path / "sweep")
    (runs[0] / "weights.safetensors").unlink()
    for _ in range(2):  # fresh, then from the cache
        after = load(tmp_path / "sweep")
        pd.testing.assert_frame_equal(after.runs, before.runs)
        assert [run.weights_removed for run in after.records] == [True, False]
