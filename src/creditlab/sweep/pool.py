"""`hydra/launcher=pool`: a sweep on the cores or the GPUs of this machine, one thread per run.

Each worker process takes a new run when it has ended one. The runs that will take longest come first. A run that fails,
or that kills its worker, stops no other run: it is listed at the end with its cause, and the sweep's exit status is
then not zero. After the first Ctrl-C every worker finishes its step, writes a checkpoint and ends. A second Ctrl-C
kills the workers at once.
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
from creditlab.sweep.display import Display
from creditlab.sweep.launcher import SweepFailed, SweepLauncher, Worklist
from creditlab.sweep.plan import Planned
from creditlab.sweep.pool_worker import PoolWorker
from creditlab.sweep.schedule import Schedule


class PoolLauncher(SweepLauncher):
    """`workers`: how many processes; None for one per device, or one per core that this process may use. `devices`: the
    workers take turns on these; None for the `device` of each run. `together`: how many runs a worker trains at once,
    if they differ in the seed alone.
    """

    def __init__(self, workers: PositiveInt | None, devices: list[str] | None, together: PositiveInt) -> None:
        self.workers, self.devices, self.together = workers, list(devices or []), together
        self.preflight_devices = self.devices

    def start(self, worklist: Worklist, sweep: Path) -> None:
        workers = self.workers or len(self.devices) or len(os.sched_getaffinity(0))
        interrupt.watch(signal.SIGINT, signal.SIGTERM)
        with open(sweep / "workers.log", "ab") as log:
            ended = run_all(worklist, sweep, workers, self.devices, log, self.together)
        if interrupt.asked():
            raise interrupt.Interrupted
        if ended["failed"]:
            number = f"{ended['failed']} of {len(worklist.to_do)}"
            raise SweepFailed(f"{number} runs failed. The same command runs only these again.")
        if ended["lost"]:
            raise SweepFailed("another process has taken over this sweep.")
        if left := len(worklist.to_do) - ended.total() + ended["interrupted"]:
            raise SweepFailed(
                f"{left} runs are not finished, because the workers were stopped. The same command resumes."
            )


def run_all(
    worklist: Worklist, sweep: Path, workers: int, devices: Sequence[str], log: IO[bytes], together: int
) -> Counter[str]:
    """Train the runs of `worklist` on `workers` processes, which take turns on `devices` and train up to `together`
    runs at once. Their output goes to `log`. Returns how many runs ended with each status.
    """
    with Display(str(worklist), len(worklist.to_do), sweep) as display, selectors.DefaultSelector() as answers:
        pool = Pool(Schedule(worklist.to_do, worklist.expectation), sweep, display, answers, together)
        try:
            for number in range(min(workers, len(worklist.to_do))):
                pool.hire(PoolWorker(log, devices[number % len(devices)] if devices else None))
            pool.work()
        except BaseException:
            for worker in pool.workers:
                worker.process.kill()
            raise
    return display.counts


class Pool:
    """Hands the runs of `schedule` to workers, and tells `display` how each run goes."""

    def __init__(
        self, schedule: Schedule, sweep: Path, display: Display, answers: selectors.BaseSelector, together: int
    ) -> None:
        self.schedule, self.sweep, self.display = schedule, sweep, display
        self.answers, self.together = answers, together
        self.stopping = False

    @property
    def workers(self) -> list[PoolWorker]:
        return [key.data for key in self.answers.get_map().values()]

    def hire(self, worker: PoolWorker) -> None:
        self.answers.register(worker.answers, selectors.EVENT_READ, worker)
        self.give(worker)

    def give(self, worker: PoolWorker) -> None:
        """Hand `worker` its next runs. If none is left, close its orders, so that it ends."""
        if not self.schedule:
            worker.orders.close()
            return
        self.check_folder()
        runs = self.schedule.take(self.together)
        for run in runs:
            self.display.started(run)
        worker.start(runs)

    def check_folder(self) -> None:
        if not self.sweep.is_dir():
            raise records.RecordError(f"{self.sweep.absolute()} was deleted or moved while the sweep was running.")

    def work(self) -> None:
        while self.answers.get_map():
            if interrupt.asked() and not self.stopping:
                self.stop()
            for key, _ in self.answers.select(timeout=0.5):
                self.listen(key.data)
            self.display.left(self.seconds_left())

    def stop(self) -> None:
        """Have every worker end after a checkpoint."""
        self.stopping = True
        self.schedule.clear()
        self.display.say("stopping: each run writes a checkpoint first. A second Ctrl-C kills them at once.")
        for worker in self.workers:
            worker.process.send_signal(signal.SIGTERM)

    def listen(self, worker: PoolWorker) -> None:
        messages = worker.messages()
        if messages is None:
            self.remove(worker)
        for message in messages or []:
            run = worker.runs.get(message.get("run", ""))
            if run is None:  # the message that it is ready
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
            self.check_folder()
            self.schedule.clear()  # whoever took over (SLURM's second copy of this task, say) trains the others
        seconds = self.display.finished(run, status, problem)
        self.schedule.expectation.learn(run.config, seconds)

    def remove(self, worker: PoolWorker) -> None:
        """Remove a worker that has ended. If it died during a run, the run has failed and a new worker replaces it."""
        self.answers.unregister(worker.answers)
        cause, runs = worker.cause_of_end(), list(worker.runs.values())
        if not worker.ready and not self.stopping:
            raise SweepFailed(f"a worker could not start: {cause}. {worker.log.name} has its last output.")
        stopped = self.stopping and worker.process.returncode == -signal.SIGTERM
        for run in runs:
            if not stopped:
                with contextlib.suppress(OSError, Held):  # the folder is gone or full, or another process holds it
                    run.folder.mkdir(exist_ok=True)
                    with hold(run.folder):
                        records.fail(run.folder, run.config, cause, step=None)
            self.settle(run, "interrupted" if stopped else "failed", "" if stopped else cause)
        if runs and self.schedule and not stopped:
            self.hire(worker.successor())

    def seconds_left(self) -> float | None:
        waiting = self.schedule.seconds()
        if waiting is None or not self.workers:
            return None
        for worker in self.workers:
            for name, run in worker.runs.items():
                guess = self.schedule.expectation.guess(run.config)
                if guess is None:
                    return None
                waiting += guess * (1 - self.display.shares.get(name, 0))
        return waiting / len(self.workers)
