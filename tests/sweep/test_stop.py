"""Ctrl-C, as a user presses it."""

import os
import signal
import subprocess
import sys
import textwrap
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
    assert "[0/5]" in err
    assert "stopped: 0 of 5 done" in err
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


@pytest.mark.parametrize("wait", [True, False])
def test_two_commands_at_once_share_the_runs(tmp_path, wait):
    command = [
        sys.executable,
        "-m",
        "creditlab",
        "-m",
        "sweep=s",
        "seed=range(6)",
        "hydra.launcher.workers=1",
        "training.steps=60",
        f"hydra.launcher.wait={wait}",
    ]
    command += [word for word in SMALL if not word.startswith("training.steps")]
    both = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in "ab"]
    codes = [ended(process)[0] for process in both]
    assert codes == [0, 0] if wait else sorted(codes) in ([0, 0], [0, 4])
    recorded = records.read_sweep(tmp_path / "multirun" / "s")
    assert [run.status for run in recorded] == ["complete"] * 6
    assert not list((tmp_path / "multirun" / "s").glob("**/lock"))
    for run in recorded:
        assert [row["step"] for row in run.history()] == sorted({row["step"] for row in run.history()})
    assert len({entry["name"] for entry in records.read_plan(tmp_path / "multirun" / "s")["runs"]}) == 6


def hold_until_told(folder, end="pass"):
    """Another process that holds a run, and does `end` with it once its input is closed."""
    code = f"""
        import sys
        from pathlib import Path
        from creditlab.lock import hold
        folder = Path({str(folder)!r})
        with hold(folder):
            print("holding", flush=True)
            sys.stdin.read()
            {end}
    """
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdin=pipe, stdout=pipe, text=True)
    assert process.stdout.readline() == "holding\n"
    return process


SWEEP = ["-m", "sweep=s", "algorithm=bp,fa", "seed=range(2)"]


@pytest.mark.parametrize("end", ["pass", "(folder / 'kept.json').rename(folder / 'summary.json')"])
def test_runs_of_another_command_have_an_exit_status_or_are_waited_for(creditlab, swept, end):
    """The other command leaves the run unfinished, or finishes it."""
    run = records.read_sweep(swept / "multirun" / "s")[0]
    (run.folder / "summary.json").rename(run.folder / "kept.json")
    other = hold_until_told(run.folder, end)
    answer = creditlab(*SWEEP)
    assert answer.code == 4
    assert "0 runs to do, 3 finished before, 1 under way elsewhere" in answer.err
    assert "1 run is left to other commands, which are working on them. hydra.launcher.wait=true" in answer.err
    assert "stopped:" not in answer.err
    keys = [word for word in SMALL if word.partition("=")[0] not in str(SWEEP)]
    waiting = subprocess.Popen(
        [sys.executable, "-m", "creditlab", *SWEEP, "hydra.launcher.wait=true", *keys],
        cwd=swept, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while "waiting for 1 run of other commands" not in waiting.stderr.readline():
        assert waiting.poll() is None
    time.sleep(2)
    assert waiting.poll() is None
    other.communicate(timeout=60)
    code, err = ended(waiting)
    assert code == 0, err
    assert ("1 run to do" if end == "pass" else "0 runs to do") in err
    again = records.read_run(run.folder)
    assert again.finished
    assert again.metrics == run.metrics


def test_waiting_ends_at_ctrl_c(swept):
    run = records.read_sweep(swept / "multirun" / "s")[0]
    (run.folder / "summary.json").unlink()
    other = hold_until_told(run.folder)
    waiting = subprocess.Popen(
        [sys.executable, "-m", "creditlab", *SWEEP, "hydra.launcher.wait=true", *SMALL],
        cwd=swept, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while "waiting for" not in waiting.stderr.readline():
        assert waiting.poll() is None
    waiting.send_signal(signal.SIGINT)
    assert ended(waiting)[0] == 130
    other.communicate(timeout=60)


def test_the_workers_of_a_killed_command_end_after_a_checkpoint(tmp_path):
    process = started(tmp_path, "-m", "sweep=s", "seed=range(5)", "hydra.launcher.workers=2")
    workers = pids(tmp_path / "multirun" / "s")
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while not all(map(gone, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    recorded = records.read_sweep(tmp_path / "multirun" / "s")
    assert {run.status for run in recorded} == {"unfinished"}
    assert any((run.folder / "checkpoint.pt").exists() for run in recorded)
    assert not any((run.folder / "lock").exists() for run in recorded)
    assert "Traceback" not in (tmp_path / "multirun" / "s" / "workers.log").read_text()


def test_a_worker_stopped_by_someone_leaves_its_run_resumable_and_is_told(tmp_path):
    process = started(tmp_path, "-m", "sweep=s", "seed=range(2)", "hydra.launcher.workers=1")
    (worker,) = pids(tmp_path / "multirun" / "s")
    os.kill(worker, signal.SIGTERM)
    code, err = ended(process)
    assert code == 1
    assert "2 runs are not finished, because the workers were stopped" in err
    (run,) = records.read_sweep(tmp_path / "multirun" / "s")
    assert (run.status, (run.folder / "checkpoint.pt").exists()) == ("unfinished", True)
