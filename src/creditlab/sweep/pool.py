"""`hydra/launcher=pool`: a sweep on the cores or the GPUs of this machine, one thread a run.

The runs go to worker processes as these become free, those that will take longest first. A run that fails, or takes its
worker down, stops no other; it is listed at the end with its cause and makes the sweep's exit status non-zero. The
first Ctrl-C has every worker finish its step, write a checkpoint and end; a second one ends them at once.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from creditlab import interrupt, records
from creditlab.keys import PositiveInt
from creditlab.lock import Held, hold
from creditlab.sweep.crew import Worker
from creditlab.sweep.display import Display
from creditlab.sweep.expect import Queue
from creditlab.sweep.launcher import Survey, SweepFailed, SweepLauncher
from creditlab.sweep.plan import Planned


class PoolLauncher(SweepLauncher):
    """`workers`: how many processes; None for one a device, or one a core that this process may use. `devices`: those
    that workers take turns on; None for each run's own `device`. `together`: how many runs that differ in nothing but
    the seed a worker trains at once.
    """

    def __init__(self, workers: PositiveInt | None, devices: list[str] | None, together: PositiveInt) -> None:
        self.workers, self.devices, self.together = workers, list(devices or []), together
        self.preflight_devices = self.devices

    def start(self, found: Survey, sweep: Path) -> None:
        workers = self.workers or len(self.devices) or len(os.sched_getaffinity(0))
        interrupt.watch(signal.SIGINT, signal.SIGTERM)
        with open(sweep / "workers.log", "ab") as log:
            ended = run_all(found, sweep, workers, self.devices, log, self.together)
        if interrupt.asked():
            raise interrupt.Interrupted
        if ended["failed"]:
            number = f"{ended['failed']} of {len(found.to_do)}"
            raise SweepFailed(f"{number} runs failed. The same command again runs only these.")
        if ended["lost"]:
            raise SweepFailed("another process has taken over this sweep.")
        if left := len(found.to_do) - ended.total() + ended["interrupted"]:
            raise SweepFailed(f"{left} runs are left as the workers were stopped. The same command does them.")


def run_all(
    found: Survey, sweep: Path, workers: int, devices: Sequence[str], log: IO[bytes], together: int
) -> Counter[str]:
    """Do the runs to do on so many worker processes, which take turns on `devices`, write what they print to `log` and
    train up to `together` runs at once; how many runs ended in each way.
    """
    with Display(str(found), len(found.to_do), sweep) as display, selectors.DefaultSelector() as ready:
        pool = Pool(Queue(found.to_do, found.expectation), sweep, display, ready, together)
        try:
            for number in range(min(workers, len(found.to_do))):
                pool.hire(Worker(log, devices[number % len(devices)] if devices else None))
            pool.work()
        except BaseException:
            for worker in pool.workers:
                worker.process.kill()
            raise
    return display.counts


class Pool:
    """Hands the runs of `queue` to workers, and tells `display` what becomes of them."""

    def __init__(
        self, queue: Queue, sweep: Path, display: Display, ready: selectors.BaseSelector, together: int
    ) -> None:
        self.queue, self.sweep, self.display, self.ready, self.together = queue, sweep, display, ready, together
        self.stopping = False

    @property
    def workers(self) -> list[Worker]:
        return [key.data for key in self.ready.get_map().values()]

    def hire(self, worker: Worker) -> None:
        self.ready.register(worker.answers, selectors.EVENT_READ, worker)
        self.give(worker)

    def give(self, worker: Worker) -> None:
        """The next runs, or leave to go."""
        if not self.queue:
            worker.orders.close()
            return
        self.check_there()
        runs = self.queue.take(self.together)
        for run in runs:
            self.display.started(run)
        worker.start(runs)

    def check_there(self) -> None:
        if not self.sweep.is_dir():
            raise records.RecordError(f"{self.sweep.absolute()} was deleted or moved away while the sweep went on.")

    def work(self) -> None:
        while self.ready.get_map():
            if interrupt.asked() and not self.stopping:
                self.stop()
            for key, _ in self.ready.select(timeout=0.5):
                self.hear(key.data)
            self.display.left(self.seconds_left())

    def stop(self) -> None:
        """Have every worker end after a checkpoint."""
        self.stopping = True
        self.queue.clear()
        self.display.say("stopping: runs under way write a checkpoint first; once more, and they are killed")
        for worker in self.workers:
            worker.process.send_signal(signal.SIGTERM)

    def hear(self, worker: Worker) -> None:
        messages = worker.messages()
        if messages is None:
            self.lose(worker)
        for message in messages or []:
            run = worker.runs.get(message.get("run", ""))
            if run is None:  # it says that it is ready
                continue
            if "step" in message:
                self.display.progress(run, message["step"] / message["steps"])
                continue
            if status := message.get("status"):
                del worker.runs[run.folder.name]
                worker.leaves |= status == "interrupted"
                self.settle(run, status, message["problem"])
                if not worker.runs and not worker.leaves:
                    self.give(worker)

    def settle(self, run: Planned, status: str, problem: str) -> None:
        if status == "lost":
            self.check_there()
            self.queue.clear()  # whoever took over goes on with the others: SLURM's second copy of this task, say
        seconds = self.display.finished(run, status, problem)
        self.queue.expectation.learn(run.config, seconds)

    def lose(self, worker: Worker) -> None:
        """A worker has ended."""
        self.ready.unregister(worker.answers)
        cause, runs = worker.fate(), list(worker.runs.values())
        if not worker.ready and not self.stopping:
            raise SweepFailed(f"a worker could not start: {cause}. Its last words are in {worker.log.name}.")
        stopped = self.stopping and worker.process.returncode == -signal.SIGTERM
        for run in runs:
            if not stopped:
                with contextlib.suppress(OSError, Held):  # the folder is gone or full, or another process has it
                    run.folder.mkdir(exist_ok=True)
                    with hold(run.folder):
                        records.fail(run.folder, run.config, cause, step=None)
            self.settle(run, "interrupted" if stopped else "failed", "" if stopped else cause)
        if runs and self.queue and not stopped:
            self.hire(worker.successor())

    def seconds_left(self) -> float | None:
        waiting = self.queue.seconds()
        if waiting is None or not self.workers:
            return None
        for worker in self.workers:
            for name, run in worker.runs.items():
                guess = self.queue.expectation.guess(run.config)
                if guess is None:
                    return None
                waiting += guess * (1 - self.display.shares.get(name, 0))
        return waiting / len(self.workers)
