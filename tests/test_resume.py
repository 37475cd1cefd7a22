"""Runs that are killed, stopped, taken over, or find a spoilt folder: what is left is whole, the end is the same."""

import os
import random
import resource
import shutil
import signal
import threading
import time

import pytest

from creditlab import interrupt, lock, records
from creditlab.training import train
from tests.common import SMALL
from tests.records.common import pipe_instead

KEYS = ["architecture.widths=[16,12]", "metrics.points=0", "training.evaluations=6", "training.checkpoint_seconds=1e-9"]
FILES = ("history.jsonl", "weights.safetensors", "arrays.npz")


def silent(step, steps, metrics):
    pass


def content(folder):
    """What must be the same whatever happened on the way: all but the times."""
    run = records.read_run(folder)
    assert run.status == "complete", run.problem
    return {name: (folder / name).read_bytes() for name in FILES}, run.metrics


@pytest.fixture
def planned(plan):
    return plan(*SMALL, *KEYS)


@pytest.fixture
def undisturbed(planned, tmp_path):
    train(planned.config, tmp_path / "undisturbed", silent, {})
    return content(tmp_path / "undisturbed")


def stopping(at, act):
    def report(step, steps, metrics):
        if step == at:
            act()

    return report


def test_a_run_that_is_asked_to_stop_checkpoints_and_resumes_to_the_same_end(
    planned, undisturbed, tmp_path, monkeypatch
):
    monkeypatch.setattr(interrupt, "_asked", [])
    before = signal.getsignal(signal.SIGTERM)
    interrupt.watch(signal.SIGTERM)
    folder = tmp_path / "run"
    config = planned.config | {"training": planned.config["training"] | {"checkpoint_seconds": None}}
    with pytest.raises(interrupt.Interrupted):
        train(config, folder, stopping(3, lambda: os.kill(os.getpid(), signal.SIGTERM)), {})
    signal.signal(signal.SIGTERM, before)
    assert records.read_run(folder).status == "unfinished"
    assert (folder / "checkpoint.pt").exists()
    assert lock.claim(folder) is None
    monkeypatch.setattr(interrupt, "_asked", [])
    steps = []
    train(config, folder, lambda step, *rest: steps.append(step), {})
    assert steps[0] == 4
    assert content(folder) == undisturbed


def test_two_processes_do_not_do_one_run(planned, tmp_path):
    inside, go_on = threading.Event(), threading.Event()
    folder = tmp_path / "run"
    first = threading.Thread(
        target=train, args=(planned.config, folder, stopping(2, lambda: (inside.set(), go_on.wait(60))), {})
    )
    first.start()
    inside.wait(60)
    with pytest.raises(lock.Held, match="is being worked on by process"):
        train(planned.config, folder, silent, {})
    go_on.set()
    first.join()
    assert records.read_run(folder).finished


def test_a_copy_that_was_taken_over_stops_before_it_writes(planned, undisturbed, tmp_path, monkeypatch):
    """As when SLURM starts a job again whose first copy still runs."""
    folder = tmp_path / "run"
    monkeypatch.setenv("SLURM_JOB_ID", "7")

    def second_copy():
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
        train(planned.config, folder, silent, {})

    with pytest.raises(lock.Lost):
        train(planned.config, folder, stopping(2, second_copy), {})
    assert content(folder) == undisturbed
    assert not {"error.txt", "checkpoint.pt", "lock"} & set(os.listdir(folder))


def write_over(path, content):
    """The first bytes of a file, which keeps its length."""
    path.write_bytes(content + path.read_bytes()[len(content) :])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "checkpoint.pt").write_bytes(b"PK\x03\x04 not a checkpoint"),
        lambda folder: (folder / "checkpoint.pt").write_bytes((folder / "checkpoint.pt").read_bytes()[:-200]),
        lambda folder: (folder / "checkpoint.pt").write_bytes(b""),
        lambda folder: (folder / "history.jsonl").write_bytes(b""),
        lambda folder: (folder / "history.jsonl").unlink(),
        lambda folder: write_over(folder / "history.jsonl", b"\xff"),
        lambda folder: write_over(folder / "history.jsonl", b'{"step": 9, '),
        lambda folder: (folder / "history.jsonl").write_bytes(b"[]\n" * 999),
        lambda folder: pipe_instead(folder / "history.jsonl"),
        lambda folder: pipe_instead(folder / "checkpoint.pt"),
    ],
    ids=[
        *["garbage", "cut", "empty", "history cut", "history gone"],
        *["spoilt line", "altered number", "other lines", "history a pipe", "checkpoint a pipe"],
    ],
)
def test_a_spoilt_checkpoint_is_dropped_and_the_run_starts_over(planned, undisturbed, tmp_path, capfd, spoil):
    folder = tmp_path / "run"
    with pytest.raises(ZeroDivisionError):
        train(planned.config, folder, stopping(3, lambda: 1 / 0), {})
    spoil(folder)
    train(planned.config, folder, silent, {})
    assert "cannot be used" in capfd.readouterr().err
    assert content(folder) == undisturbed


def test_killed_at_any_moment_the_run_resumes_to_the_same_end(plan, tmp_path):
    """Fifty kills, most of them within a save as every step saves: forked copies of one warm process, to be quick."""
    planned = plan(*SMALL, *KEYS, "training.steps=40", "training.evaluations=20")
    train(planned.config, tmp_path / "undisturbed", silent, {})
    folder, draw = tmp_path / "run", random.Random(0)
    kills, saves = 0, 0
    began = time.monotonic()
    train(planned.config, tmp_path / "timed", silent, {})
    whole = time.monotonic() - began
    while kills < 50:
        pid = os.fork()
        if pid == 0:
            try:
                train(planned.config, folder, silent, {"config.yaml": "x: 1"})
            finally:
                os._exit(0)
        time.sleep(draw.uniform(0.1, 1) * whole)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        kills += 1
        saves += bool(list(folder.glob(".*.tmp")))
        run = records.read_run(folder)
        assert run.status in ("unfinished", "complete"), run.problem
        run.history()  # at most the last line is torn
        if run.finished:
            assert content(folder) == content(tmp_path / "undisturbed")
            shutil.rmtree(folder)
    train(planned.config, folder, silent, {})
    assert content(folder) == content(tmp_path / "undisturbed")
    assert saves  # some kills were within a save


def test_a_full_disk_leaves_the_last_checkpoint_whole(planned, undisturbed, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ZeroDivisionError):
        train(planned.config, folder, stopping(3, lambda: 1 / 0), {})
    before = (folder / "checkpoint.pt").read_bytes()
    assert len(before) > 10_000
    pid = os.fork()
    if pid == 0:
        code = 1
        try:  # files of at most 8 kB: enough for run.json, not for a checkpoint
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
            train(planned.config, folder, silent, {})
        except OSError:
            code = 7
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert (folder / "checkpoint.pt").read_bytes() == before
    assert records.read_run(folder).problem.startswith("OSError: [Errno 27] File too large: ")
    assert not list(folder.glob(".*.tmp"))
    train(planned.config, folder, silent, {})
    assert content(folder) == undisturbed


def test_resuming_with_another_number_of_threads_is_told(planned, tmp_path, capfd):
    folder = tmp_path / "run"
    with pytest.raises(ZeroDivisionError):
        train(planned.config, folder, stopping(3, lambda: 1 / 0), {})
    train(planned.config | {"threads": 2}, folder, silent, {})
    assert "threads=2, but was begun with threads=1: the result may differ in its last digits" in capfd.readouterr().err
    assert records.read_run(folder).finished
