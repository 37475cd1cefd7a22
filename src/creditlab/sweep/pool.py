"""`hydra/launcher=pool`: a sweep on the cores of this machine, one thread a run.

Finished runs are left alone; the others go to worker processes as these become free. A run that fails, or takes its
worker down, stops no other; it is listed at the end with its cause and makes the sweep's exit status non-zero.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from creditlab import records
from creditlab.config import ConfigError, nearest
from creditlab.sweep.display import Display
from creditlab.sweep.plan import Planned, planned, preflight, write_plan


class SweepFailed(RuntimeError):
    """Some runs of a sweep failed; the message says how many."""


class PoolLauncher(Launcher):
    """`workers`: how many processes; None for one a core that this process may use."""

    def __init__(self, workers: int | None) -> None:
        self.workers = workers

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.config = hydra_context, config
        self.composed: dict[tuple[str, ...], DictConfig] = {}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        if self.workers is not None and not (isinstance(self.workers, int) and self.workers >= 1):
            raise ConfigError(f"hydra.launcher.workers={self.workers}: must be a whole number at least 1, or null.")
        sweep = Path(self.config.hydra.sweep.dir)
        asked = [planned(self._compose(overrides), sweep) for overrides in job_overrides]
        runs = list({run.folder: run for run in asked}.values())
        to_do = [run for run in runs if not records.find_run(run.folder, run.config).finished]
        preflight(to_do)
        records.make_folder(sweep)
        write_plan(sweep, runs, self.config.hydra.overrides.task)
        failed = run_all(to_do, len(runs) - len(to_do), sweep, self.workers or len(os.sched_getaffinity(0)))
        if failed:
            raise SweepFailed(f"{failed} of {len(runs)} runs failed. The same command again runs only these.")
        return [_returned(overrides, run) for overrides, run in zip(job_overrides, asked, strict=True)]

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        """What Hydra composes: once for runs that differ in their seed alone, as it takes 60 ms each time."""
        seeds = [override for override in overrides if override.startswith("seed=")]
        others = tuple(override for override in overrides if override not in seeds)
        if others not in self.composed:
            self.composed[others] = self.context.config_loader.load_sweep_config(self.config, list(others))
        config = copy.deepcopy(self.composed[others])
        for override in seeds:
            OmegaConf.update(config, "seed", OverridesParser.create().parse_override(override).value())
        with open_dict(config):
            config.hydra.overrides.task = list(overrides)
            config.hydra.job.id, config.hydra.job.num = "", 0  # a run is told by its identity
        return config


def _returned(overrides: Sequence[str], run: Planned) -> JobReturn:
    """What a sweeper that searches reads: the objective of the run."""
    result = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    result.return_value = objective(records.read_run(run.folder), run.config["training"]["objective"])
    return result


def objective(run: records.Run, name: str) -> float:
    """The metric of a finished run that `training.objective` names. Raises ConfigError if it has none of that name."""
    if name not in run.metrics:
        raise ConfigError(f"training.objective={name}: the run recorded no such metric{nearest(name, run.metrics)}")
    return run.metrics[name]


class Worker:
    """A process of `creditlab.sweep.worker`, and the run that it is at."""

    def __init__(self, log: IO[bytes]) -> None:
        paths = [p for p in sys.path if p and p != os.getcwd()]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",  # on a busy machine a spinning thread starves the one it waits for
            "PYTHONPATH": os.pathsep.join([os.getcwd(), *paths]),
        }
        command = [sys.executable, "-m", "creditlab.sweep.worker"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=log, env=environment, start_new_session=True
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.orders, self.answers = self.process.stdin, self.process.stdout
        self.run: Planned | None = None
        self.torn = b""

    def start(self, run: Planned) -> None:
        self.run = run
        order = {"folder": str(run.folder), "config": run.config, "hydra": run.hydra}
        with contextlib.suppress(BrokenPipeError):  # it died since: its answers end, which says so
            self.orders.write(json.dumps(order).encode() + b"\n")
            self.orders.flush()

    def messages(self) -> list[dict] | None:
        """What it has answered since; None when it has ended."""
        read = os.read(self.answers.fileno(), 1 << 16)
        *lines, self.torn = (self.torn + read).split(b"\n")
        return [json.loads(line) for line in lines] if read else None

    def fate(self) -> str:
        """How the process ended."""
        code = self.process.wait()
        name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return f"the worker process ended with {name}"


def run_all(runs: Sequence[Planned], finished: int, sweep: Path, workers: int) -> int:
    """Do `runs` on so many worker processes; the number that failed."""
    waiting, log_path = deque(runs), sweep / "workers.log"
    with (
        Display(len(runs), finished, sweep) as display,
        selectors.DefaultSelector() as ready,
        open(log_path, "ab") as log,
    ):

        def hire() -> None:
            worker = Worker(log)
            ready.register(worker.answers, selectors.EVENT_READ, worker)
            worker.start(waiting.popleft())

        def hear(worker: Worker) -> None:
            messages = worker.messages()
            if messages is None:
                ready.unregister(worker.answers)
                if worker.run is not None:
                    cause = worker.fate()
                    records.fail(worker.run.folder, worker.run.config, cause, step=None)
                    display.finished(worker.run, "failed", cause)
                if waiting:
                    hire()
            for message in messages or []:
                assert worker.run is not None
                if "status" not in message:
                    display.progress(worker.run, message["step"] / message["steps"])
                    continue
                display.finished(worker.run, message["status"], message["problem"])
                worker.run = None
                if waiting:
                    worker.start(waiting.popleft())
                else:
                    worker.orders.close()

        try:
            for _ in range(min(workers, len(runs))):
                hire()
            while ready.get_map():
                for key, _ in ready.select():
                    hear(key.data)
        except BaseException:
            for key in list(ready.get_map().values()):
                key.data.process.terminate()
            raise
    if log_path.stat().st_size == 0:
        log_path.unlink()
    return len(display.failures)
