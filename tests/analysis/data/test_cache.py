"""The cache gives what the files give, and never what they gave before."""

from __future__ import annotations

import pandas as pd
import pytest

from creditlab import records
from creditlab.analysis import load
from creditlab.analysis.data import cache
from tests.analysis.data.test_collect import metrics


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
