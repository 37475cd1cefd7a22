"""Ctrl-C, as a user presses it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from creditlab import lock, records
from tests.common import SMALL

LONG = [
    *(word for word in SMALL if not word.startswith(("training.steps", "training.evaluations", "metrics"))),
    *("training.steps=100000", "training.evaluations=2000", "metrics=none"),
]


def started(folder, *arguments):
    """A command under way: some of its runs have taken steps."""
    process = subprocess.Popen(
        [sys.executable, "-m", "creditlab", *arguments, *LONG],
        cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not any(h.stat().st_size > 300 for h in folder.glob("multirun/*/*/history.jsonl")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    return process


def ended(process):
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, err


def pids(folder):
    """The processes that were at runs."""
    return [run.record["pid"] for run in records.read_sweep(folder)]


def gone(pid):
    return not lock._born(pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_once_checkpoints_and_leaves_a_clear_state(tmp_path, number):
    process = started(tmp_path, "-m", "sweep=s", "seed=range(5)", "hydra.launcher.workers=2")
    process.send_signal(number)
    code, err = ended(process)
    assert code == 130
    assert "stopping: each run writes a checkpoint first" in err
    assert "The same command resumes from here." in err
    recorded = records.read_sweep(tmp_path / "multirun" / "s")
    assert 1 <= len(recorded) <= 2
    assert {run.status for run in recorded} == {"unfinished"}
    assert any((run.folder / "checkpoint.pt").exists() for run in recorded)
    assert not any((run.folder / "lock").exists() for run in recorded)
    assert all(map(gone, pids(tmp_path / "multirun" / "s")))


def test_twice_stops_at_once(tmp_path):
    process = started(tmp_path, "-m", "sweep=s", "seed=range(2)", "hydra.launcher.workers=1")
    (worker,) = pids(tmp_path / "multirun" / "s")
    os.kill(worker, signal.SIGSTOP)  # it cannot obey
    process.send_signal(signal.SIGINT)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    code, err = ended(process)
    assert code == 130
    assert "stopped: 0 of 2 done" in err
    time.sleep(0.2)
    assert gone(worker)


def test_a_single_run_checkpoints_too(tmp_path):
    process = started(tmp_path)
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 130
    (run,) = records.read_sweep(tmp_path / "multirun" / "single")
    assert run.status == "unfinished"
    assert (run.folder / "checkpoint.pt").exists()


def test_two_commands_at_once_share_the_runs(tmp_path):
    command = [
        sys.executable,
        "-m",
        "creditlab",
        "-m",
        "sweep=s",
        "seed=range(6)",
        "hydra.launcher.workers=1",
        "training.steps=60",
    ]
    command += [word for word in SMALL if not word.startswith("training.steps")]
    both = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in "ab"]
    for process in both:
        code, err = ended(process)
        assert code == 0, err
    recorded = records.read_sweep(tmp_path / "multirun" / "s")
    assert [run.status for run in recorded] == ["complete"] * 6
    assert not list((tmp_path / "multirun" / "s").glob("**/lock"))
    for run in recorded:
        assert [row["step"] for row in run.history()] == sorted({row["step"] for row in run.history()})
    assert len({entry["name"] for entry in records.read_plan(tmp_path / "multirun" / "s")["runs"]}) == 6


def test_a_worker_stopped_by_someone_leaves_its_run_resumable_and_is_told(tmp_path):
    process = started(tmp_path, "-m", "sweep=s", "seed=range(2)", "hydra.launcher.workers=1")
    (worker,) = pids(tmp_path / "multirun" / "s")
    os.kill(worker, signal.SIGTERM)
    code, err = ended(process)
    assert code == 1
    assert "2 runs are not finished, because the workers were stopped" in err
    (run,) = records.read_sweep(tmp_path / "multirun" / "s")
    assert (run.status, (run.folder / "checkpoint.pt").exists()) == ("unfinished", True)
