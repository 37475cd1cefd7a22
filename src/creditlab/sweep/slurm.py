"""`hydra/launcher=slurm`: a sweep on a SLURM cluster, through submitit's sbatch files.

A task of an array does many runs, as a pool on the node that it gets. The command returns when all is submitted. What
became of a run its folder says, never a result file or `sacct`, so the same command works from whatever state.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from creditlab.config import ConfigError
from creditlab.keys import Count, Positive, PositiveInt
from creditlab.sweep import snapshot
from creditlab.sweep.display import duration
from creditlab.sweep.follow import follow
from creditlab.sweep.launcher import Survey, SweepLauncher
from creditlab.sweep.plan import Planned
from creditlab.sweep.queue import Array, NoAnswer, Submission, waiting
from creditlab.sweep.task import write_task

START_UP = 60  # seconds that a task may need before its runs take steps
LOOK = 30  # seconds between SLURM's looks at time limits: its signal comes up to so much early
RUNS_UNKNOWN = 4  # runs a worker, where nothing is known of their time


class SlurmLauncher(SweepLauncher):
    """The keys are in `conf/hydra/launcher/slurm.yaml`."""

    preflight_devices = ("cpu",)  # this machine need not have the nodes' devices

    def __init__(
        self,
        partition: int | str | None, account: int | str | None, qos: int | str | None, time: int | str,
        cpus: PositiveInt, mem: int | str | None, gres: str | None, constraint: str | None,
        additional: dict[str, Any] | None,
        workers: PositiveInt | None, devices: list[str] | None, runs_per_task: PositiveInt | None, fill: Positive,
        max_array_size: PositiveInt, max_parallel: PositiveInt, signal_delay: Count, max_requeue: Count,
        wait: bool, dry_run: bool,
    ) -> None:  # fmt: skip
        self.sbatch = {"partition": partition, "account": account, "qos": qos, "time": time, "cpus_per_task": cpus}
        self.sbatch |= {"mem": mem, "gres": gres, "constraint": constraint}
        self.additional, self.time, self.workers = dict(additional or {}), time, workers
        self.cpus, self.devices, self.runs_per_task, self.fill = cpus, list(devices or []), runs_per_task, fill
        self.max_array_size, self.max_parallel, self.signal_delay = max_array_size, max_parallel, signal_delay
        self.max_requeue, self.wait, self.dry_run = max_requeue, wait, dry_run

    def check_keys(self) -> None:
        limit, least = seconds(self.time), self.signal_delay + LOOK + START_UP
        if limit < least:
            raise ConfigError(
                f"hydra.launcher.time={self.time}: too short. SLURM may signal {LOOK} s early, signal_delay is "
                f"{self.signal_delay} s and a task needs up to {START_UP} s to start: give {-(-least // 60)} minutes."
            )
        if not self.dry_run and not shutil.which("sbatch"):
            raise ConfigError(
                "hydra/launcher=slurm: there is no sbatch on this machine. hydra/launcher=pool needs none."
            )

    def submitted(self, sweep: Path) -> dict[str, str]:
        if self.dry_run and not shutil.which("squeue"):
            return {}
        try:
            return waiting(sweep)
        except NoAnswer as error:
            raise ConfigError(f"SLURM does not answer: {error}") from None

    def prepare(self, sweep: Path, runs: Sequence[Planned], found: Survey) -> None:
        if not self.dry_run:
            super().prepare(sweep, runs, found)

    def start(self, found: Survey, sweep: Path) -> None:
        tasks = list(self.pack(found))
        sizes = [min(self.max_array_size, len(tasks) - i) for i in range(0, len(tasks), self.max_array_size)]
        self._tell(found, sweep, tasks, sizes)
        if self.dry_run or not tasks:
            return
        submission = self._submit(sweep, tasks, sizes)
        if self.wait:
            follow(found, submission, sweep)

    @property
    def at_once(self) -> int:
        return self.workers or self.cpus

    def pack(self, found: Survey) -> list[list[Planned]]:
        """The runs of each task: those that take long first, as many as fill its time."""
        known = {run.folder: found.expectation.guess(run.config) for run in found.to_do}
        runs = sorted(found.to_do, key=lambda run: -(known[run.folder] or 0))
        most = self.runs_per_task
        share = (
            60 * self.fill * self.at_once / (most or RUNS_UNKNOWN * self.at_once)
        )  # of a run that nothing is known of
        tasks: list[list[Planned]] = []
        filled = 0.0
        for run in runs:
            full = len(tasks[-1]) == most if most and tasks else filled >= 60 * self.fill * self.at_once
            if not tasks or full:
                tasks.append([])
                filled = 0.0
            tasks[-1].append(run)
            filled += known[run.folder] or share
        return tasks

    def _tell(self, found: Survey, sweep: Path, tasks: Sequence[Sequence[Planned]], sizes: Sequence[int]) -> None:
        arrays = f"{len(sizes)} {'array' if len(sizes) == 1 else 'arrays'} of {', '.join(map(str, sizes))} tasks"
        most = max(map(len, tasks), default=0)
        print(f"{found}: {sweep}", file=sys.stderr)
        if tasks:
            print(f"{arrays}, up to {most} runs each, {self.at_once} at once", file=sys.stderr)
        expected = [found.expectation.guess(run.config) for task in tasks[:1] for run in task]
        if expected and None not in expected:
            whole = duration(sum(filter(None, expected)) / self.at_once)
            print(f"the longest task takes about {whole}", file=sys.stderr)
        if self.dry_run:
            told = {k: v for k, v in (self.sbatch | self.additional).items() if v is not None}
            print(f"sbatch: {' '.join(f'{k}={v}' for k, v in told.items())}; nothing was submitted", file=sys.stderr)

    def _submit(self, sweep: Path, tasks: list[list[Planned]], sizes: Sequence[int]) -> Submission:
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        folder = _new_folder(sweep.absolute() / "slurm")
        snapshot.take(folder / "source")
        (folder / "tasks").mkdir()
        for number, task in enumerate(tasks):
            write_task(folder / "tasks" / f"{number}.json", task)
        submission = Submission(folder, [[run.folder.name for run in task] for task in tasks])
        submission.write()
        try:
            for first, size in zip(range(0, len(tasks), self.max_array_size), sizes, strict=True):
                executor = SlurmExecutor(folder)
                executor.update_parameters(**self._parameters(folder))
                if size > 1:
                    executor.parameters["map_count"] = size
                told = [str(folder), first, self.at_once, self.max_requeue, *self.devices]
                command = shlex.join([sys.executable, "-uP", "-m", "creditlab.sweep.task", *map(str, told)])
                submission.arrays.append(Array(executor._submit_command(command).job_id, first, size))
                submission.write()
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            there = ", ".join(array.job for array in submission.arrays)
            words = " ".join(str(error).split())
            after = f" Jobs {there} were submitted before: creditlab-cancel {sweep}" if there else ""
            if not there:
                shutil.rmtree(folder)
            raise ConfigError(f"sbatch refused: {words}{after}") from None
        jobs = ", ".join(array.job for array in submission.arrays)
        print(f"submitted as {jobs}. creditlab-status {sweep} tells how it goes.", file=sys.stderr)
        return submission

    def _parameters(self, folder: Path) -> dict[str, Any]:
        """What submitit makes an sbatch file of."""
        path = [str(folder / "source"), *(p for p in sys.path if p)]
        return {
            **{name: value for name, value in self.sbatch.items() if value is not None},
            "job_name": "creditlab",
            "wckey": None,
            "nodes": 1,
            "ntasks_per_node": 1,
            "signal_delay_s": self.signal_delay,
            "array_parallelism": self.max_parallel,
            "stderr_to_stdout": True,
            "additional_parameters": {"requeue": True, **self.additional},
            "srun_args": [f"--cpus-per-task={self.cpus}"],  # which srun does not take from sbatch since SLURM 22.05
            "setup": [f"export PYTHONPATH={shlex.quote(':'.join(path))}"],
        }


def seconds(limit: int | str) -> int:
    """Of a time as sbatch has it: minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S. Raises ConfigError."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", str(limit))
    if not found:
        raise ConfigError(f"hydra.launcher.time={limit}: must be minutes, or as sbatch has it: 12:00:00, 2-00:00:00.")
    days, *rest = (None if part is None else int(part) for part in found.groups())
    a, b, c = rest[0] or 0, rest[1], rest[2]
    if days is not None:
        return days * 86400 + a * 3600 + (b or 0) * 60 + (c or 0)
    if c is not None:
        return a * 3600 + (b or 0) * 60 + c
    return a * 60 + (b or 0)


def _new_folder(parent: Path) -> Path:
    """`parent`/1, or the next number that is free."""
    for number in count(1):
        folder = parent / str(number)
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise AssertionError
