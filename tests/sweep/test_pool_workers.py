"""How the pool treats its workers: with workers that are made up, and with a real one that gets odd orders."""

import io
import os
import selectors
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from creditlab.sweep import pool
from creditlab.sweep.display import Display
from creditlab.sweep.launcher import SweepFailed, Worklist
from creditlab.sweep.plan import Planned


class MadeUpWorker:
    """A worker that never answers. It notes the signals that it gets, and ends at SIGTERM or SIGKILL."""

    everyone: list["MadeUpWorker"] = []  # noqa: RUF012 (the fixture renews it)

    def __init__(self, log, device):
        read, self.write = os.pipe()
        self.answers, self.orders, self.device = os.fdopen(read, "rb"), io.BytesIO(), device
        self.runs, self.ready, self.leaves, self.signals = {}, True, False, []
        self.process = SimpleNamespace(
            send_signal=self.signals.append, kill=lambda: self.signals.append(signal.SIGKILL), wait=lambda: 0
        )
        self.everyone.append(self)

    def dismiss(self):
        self.orders.close()

    def start(self, runs):
        self.runs = {run.folder.name: run for run in runs}


@pytest.fixture
def worker_class(monkeypatch):
    monkeypatch.setattr(MadeUpWorker, "everyone", [])
    monkeypatch.setattr(pool, "PoolWorker", MadeUpWorker)
    return MadeUpWorker


@pytest.fixture
def worklist(tmp_path):
    config = {"choices": {}, "seed": 0}
    worklist = Worklist(to_do=[Planned(config | {"seed": seed}, tmp_path / f"bp-s{seed}", dict) for seed in range(3)])
    worklist.expectation.learn(config, 60.0)
    return worklist


def run_all(worklist, sweep):
    return pool.run_all(worklist, sweep, 2, [], SimpleNamespace(name="workers.log"), together=1)


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_a_process_that_cannot_be_made_is_a_worker_that_cannot_start(
    worklist, tmp_path, worker_class, monkeypatch, failures
):
    left = [failures]

    def refuse_at_first(log, device):
        if left[0]:
            left[0] -= 1
            raise BlockingIOError("too many processes")
        return MadeUpWorker(log, device)

    monkeypatch.setattr(pool, "PoolWorker", refuse_at_first)
    monkeypatch.setattr(pool.Pool, "work", lambda self: None)
    if failures < pool.STARTS:
        run_all(worklist, tmp_path)
        assert len(worker_class.everyone) == 2
    else:
        with pytest.raises(SweepFailed, match=r"no worker could start: too many processes. workers\.log has"):
            run_all(worklist, tmp_path)


@pytest.mark.parametrize(
    ("error", "number"),
    [(OSError("the terminal is gone"), signal.SIGTERM), (KeyboardInterrupt(), signal.SIGKILL)],
)
def test_an_error_lets_the_workers_write_checkpoints_and_a_second_ctrl_c_does_not(
    worklist, tmp_path, worker_class, monkeypatch, error, number
):
    def fail(self):
        raise error

    monkeypatch.setattr(pool.Pool, "work", fail)
    with pytest.raises(type(error)):
        run_all(worklist, tmp_path)
    assert [worker.signals for worker in worker_class.everyone] == [[number], [number]]
    if number == signal.SIGTERM:  # a worker that waits for orders notices their end alone
        assert all(worker.orders.closed for worker in worker_class.everyone)


def test_the_time_left_is_that_of_the_runs_and_unknown_while_the_sweep_stops(worklist, tmp_path, worker_class):
    with Display("3 runs to do", 3, tmp_path) as display, selectors.DefaultSelector() as answers:
        sweep = pool.Pool(worklist, tmp_path, display, answers, SimpleNamespace(name="workers.log"), 1)
        sweep.hire(None)
        assert sweep.seconds_left() == 180
        sweep.stop()
        assert sweep.seconds_left() is None


def test_runs_of_a_worker_that_died_while_starting_wait_again(worklist, tmp_path, worker_class):
    with Display("3 runs to do", 3, tmp_path) as display, selectors.DefaultSelector() as answers:
        sweep = pool.Pool(worklist, tmp_path, display, answers, SimpleNamespace(name="workers.log"), 1)
        sweep.hire("cuda:1")
        (first,) = worker_class.everyone
        first.ready, first.cause_of_end = False, lambda: "the worker process ended with SIGKILL"
        sweep.remove(first)
        _, second = worker_class.everyone
        assert second.device == "cuda:1"
        assert second.runs == first.runs
        assert len(sweep.schedule) == 2
        assert display.counts == {}
        assert list(display.shares) == list(second.runs)


def test_a_worker_whose_orders_break_off_ends_without_a_word():
    """As when the sweep's process is killed while it writes an order."""
    command = [sys.executable, "-P", "-m", "creditlab.sweep.worker"]
    done = subprocess.run(command, input=b'[{"folder": "x", "conf', capture_output=True, timeout=240)
    assert done.returncode == 0
    assert done.stderr == b""
    assert done.stdout == b'{"ready": true}\n'
