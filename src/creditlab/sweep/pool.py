"""`hydra/launcher=pool`: a sweep on the cores or the GPUs of this machine, one thread per run.

Each worker process takes a new run when it has ended one. The runs that will take longest come first. A run that fails,
or that kills its worker, stops no other run: it is listed at the end with its cause, and the sweep's exit status is
then not zero. A worker that dies while it starts has begun no run. It is replaced, and the sweep ends for this cause
only if no worker is left and the last `STARTS` of them died in this way.

After the first Ctrl-C every worker finishes its step, writes a checkpoint and ends. A second Ctrl-C kills the workers
at once. If this process itself is killed, its workers end as after the first Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from creditlab import interrupt, records
from creditlab.keys import PositiveInt
from creditlab.lock import Held, hold
from creditlab.sweep.display import Display
from creditlab.sweep.launcher import LeftToOthers, SweepFailed, SweepLauncher, Worklist, worklist_of
from creditlab.sweep.plan import Planned
from creditlab.sweep.pool_worker import PoolWorker
from creditlab.sweep.schedule import Schedule

STARTS = 3  # workers that may die in a row while they start
PAUSE = 1.0  # seconds between two looks at the runs of other commands


class PoolLauncher(SweepLauncher):
    """`workers`: how many processes; None for one per device, or one per core that this process may use. `devices`: the
    workers take turns on these; None for the `device` of each run. `together`: how many runs a worker trains at once,
    if they differ in the seed alone. `wait`: whether to wait for the runs that other commands are working on, and to do
    those that they leave unfinished.
    """

    def __init__(
        self, workers: PositiveInt | None, devices: list[str] | None, together: PositiveInt, wait: bool
    ) -> None:
        self.workers, self.devices, self.together, self.wait = workers, list(devices or []), together, wait
        self.preflight_devices = self.devices

    def start(self, worklist: Worklist, sweep: Path) -> None:
        workers = self.workers or len(self.devices) or len(os.sched_getaffinity(0))
        interrupt.watch(signal.SIGINT, signal.SIGTERM)
        ended, given = Counter[str](), 0
        with open(sweep / "workers.log", "ab") as log:
            while True:
                ended += run_all(worklist, sweep, workers, self.devices, log, self.together)
                given += len(worklist.to_do)
                if interrupt.asked():
                    raise interrupt.Interrupted
                stopped = given - ended.total() + ended["interrupted"]
                elsewhere = worklist.left_to_others()
                if not (self.wait and elsewhere) or ended["lost"] or stopped:
                    break
                worklist = next_worklist(elsewhere)
        if ended["failed"]:
            raise SweepFailed(f"{ended['failed']} of {given} runs failed. The same command runs only these again.")
        if ended["lost"]:
            raise SweepFailed("another process has taken over this sweep.")
        if stopped:
            raise SweepFailed(
                f"{stopped} runs are not finished, because the workers were stopped. The same command resumes."
            )
        if elsewhere:
            raise LeftToOthers(len(elsewhere), "hydra.launcher.wait=true waits for them.")


def next_worklist(elsewhere: Sequence[Planned]) -> Worklist:
    """Wait for the runs that other commands are working on. Returns what is to do when some of them were left
    unfinished, or when all have ended.
    """
    number = len(elsewhere)
    print(f"waiting for {number} {'run' if number == 1 else 'runs'} of other commands", file=sys.stderr)
    worklist = worklist_of(elsewhere, {})
    while worklist.elsewhere and not worklist.to_do and not interrupt.asked():
        time.sleep(PAUSE)
        worklist = worklist_of(worklist.left_to_others(), {})
    return worklist


def run_all(
    worklist: Worklist, sweep: Path, workers: int, devices: Sequence[str], log: IO[bytes], together: int
) -> Counter[str]:
    """Train the runs of `worklist` on `workers` processes, which take turns on `devices` and train up to `together`
    runs at once. Their output goes to `log`. Returns how many runs ended with each status. Runs that another process
    turns out to be working on join `worklist.elsewhere`.
    """
    with Display(str(worklist), len(worklist.to_do), sweep) as display, selectors.DefaultSelector() as answers:
        pool = Pool(worklist, sweep, display, answers, log, together)
        try:
            try:
                for number in range(min(workers, len(worklist.to_do))):
                    pool.hire(devices[number % len(devices)] if devices else None)
                pool.work()
            except Exception:
                pool.end()
                raise
        except KeyboardInterrupt:
            for worker in pool.workers:
                worker.process.kill()
            raise
    return display.counts


class Pool:
    """Hands the runs of `worklist` to workers, and tells `display` how each run goes."""

    def __init__(
        self,
        worklist: Worklist,
        sweep: Path,
        display: Display,
        answers: selectors.BaseSelector,
        log: IO[bytes],
        together: int,
    ) -> None:
        self.schedule, self.elsewhere = Schedule(worklist.to_do, worklist.expectation), worklist.elsewhere
        self.sweep, self.display, self.answers, self.log = sweep, display, answers, log
        self.together = together
        self.stopping = False
        self.dead_starts = 0  # workers in a row that died while they started

    @property
    def workers(self) -> list[PoolWorker]:
        return [key.data for key in self.answers.get_map().values()]

    def hire(self, device: str | None) -> None:
        """Start a worker and hand it its first runs."""
        try:
            worker = PoolWorker(self.log, device)
        except OSError as error:  # too many processes, or no memory
            self.count_dead_start(str(error), device)
            return
        self.answers.register(worker.answers, selectors.EVENT_READ, worker)
        self.give(worker)

    def count_dead_start(self, cause: str, device: str | None) -> None:
        """A worker died while it started. Replace it, unless too many have died in this way."""
        self.dead_starts += 1
        if self.dead_starts < STARTS:
            self.hire(device)
        elif not self.workers:
            raise SweepFailed(f"no worker could start: {cause}. {self.log.name} has the last output.")
        else:
            self.display.say(f"a worker could not start: {cause}. The sweep goes on with {len(self.workers)}.")

    def give(self, worker: PoolWorker) -> None:
        """Hand `worker` its next runs. If none is left, close its orders, so that it ends."""
        if not self.schedule:
            worker.dismiss()
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

    def end(self) -> None:
        """Have every worker end after a checkpoint, and wait for that without reading its answers."""
        workers = self.workers
        for worker in workers:
            worker.process.send_signal(signal.SIGTERM)
            worker.dismiss()
            worker.answers.close()
        for worker in workers:
            worker.process.wait()

    def listen(self, worker: PoolWorker) -> None:
        was_ready = worker.ready
        messages = worker.messages()
        if worker.ready and not was_ready:
            self.dead_starts = 0
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
        if status == "held":
            self.elsewhere.append((run, problem))
        seconds = self.display.finished(run, status, problem)
        self.schedule.expectation.learn(run.config, seconds)

    def remove(self, worker: PoolWorker) -> None:
        """Remove a worker that has ended. If it died during a run, the run has failed and a new worker replaces it."""
        self.answers.unregister(worker.answers)
        cause, runs = worker.cause_of_end(), list(worker.runs.values())
        stopped = self.stopping and (not worker.ready or worker.process.returncode == -signal.SIGTERM)
        if not worker.ready and not stopped:
            self.schedule.put_back(runs)
            for run in runs:
                self.display.withdrawn(run)
            if self.schedule:
                self.count_dead_start(cause, worker.device)
            return
        for run in runs:
            if not stopped:
                with contextlib.suppress(OSError, Held):  # the folder is gone or full, or another process holds it
                    run.folder.mkdir(exist_ok=True)
                    with hold(run.folder):
                        records.fail(run.folder, run.config, cause, step=None)
            self.settle(run, "interrupted" if stopped else "failed", "" if stopped else cause)
        if self.schedule and not worker.leaves:
            self.hire(worker.device)

    def seconds_left(self) -> float | None:
        """How long the sweep will still take; None if that is not known, or if it stops before its end."""
        if self.stopping:
            return None
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
