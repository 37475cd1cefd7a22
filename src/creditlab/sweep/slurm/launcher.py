"""`hydra/launcher=slurm`: a sweep on a SLURM cluster.

Its runs are packed into the tasks of job arrays. A task does many runs, as a pool on the node that it gets. The command
returns when everything is submitted. The folder of a run alone shows what became of it, never a result file or `sacct`,
so the same command resumes from any state.
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
from creditlab.files import write_whole
from creditlab.keys import Count, Positive, PositiveInt
from creditlab.records import Claims
from creditlab.sweep.display import duration
from creditlab.sweep.launcher import LeftToOthers, SweepLauncher, Worklist
from creditlab.sweep.plan import Planned, absent_folders, remove_empty
from creditlab.sweep.slurm import snapshot
from creditlab.sweep.slurm.follow import follow
from creditlab.sweep.slurm.queue import Array, NoAnswer, Submission, waiting
from creditlab.sweep.slurm.sbatch import NotSubmitted, submit
from creditlab.sweep.slurm.task import write_task

START_UP = 60  # seconds that a task may need before its runs take steps
SIGNAL_EARLY = 30  # seconds: SLURM checks time limits this often, so its signal may come this much too early
RUNS_UNKNOWN = 4  # runs per worker in a task, where no run has finished yet


class SlurmLauncher(SweepLauncher):
    """The keys are described in `conf/hydra/launcher/slurm.yaml`."""

    preflight_devices = ("cpu",)  # this machine may lack the devices of the nodes

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
        limit, least = seconds(self.time), self.signal_delay + SIGNAL_EARLY + START_UP
        if limit < least:
            raise ConfigError(
                f"hydra.launcher.time={self.time}: too short. SLURM may signal {SIGNAL_EARLY} s early, signal_delay is "
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

    def prepare(self, sweep: Path, runs: Sequence[Planned], worklist: Worklist, claims: Claims | None = None) -> None:
        if self.dry_run:
            return
        self.absent = absent_folders(sweep / "slurm")
        paths = [run.folder / name for run in worklist.again for name in ("summary.json", "error.txt")]
        self.before = {p: p.read_bytes() if p.exists() else None for p in [sweep / "sweep.json", *paths]}
        super().prepare(sweep, runs, worklist, claims)

    def restore(self, submission: Path) -> None:
        """Remove all that a refused submission has written, and write again what `prepare` has removed."""
        shutil.rmtree(submission)
        for path, content in self.before.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                write_whole(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
        remove_empty(self.absent)

    def start(self, worklist: Worklist, sweep: Path) -> None:
        tasks = list(self.pack(worklist))
        sizes = [min(self.max_array_size, len(tasks) - i) for i in range(0, len(tasks), self.max_array_size)]
        self._announce(worklist, sweep, tasks, sizes)
        if self.dry_run:
            return
        if tasks:
            submission = self._submit(sweep, tasks, sizes)
            if self.wait:
                follow(worklist, submission, sweep)
        if self.wait and (elsewhere := worklist.left_to_others()):
            raise LeftToOthers(len(elsewhere), f"creditlab-status {sweep} shows when they have ended.")

    @property
    def at_once(self) -> int:
        return self.workers or self.cpus

    def pack(self, worklist: Worklist) -> list[list[Planned]]:
        """The runs of each task: the longest first, as many as fill the time of a task."""
        guesses = {run.folder: worklist.expectation.guess(run.config) for run in worklist.to_do}
        runs = sorted(worklist.to_do, key=lambda run: -(guesses[run.folder] or 0))
        most, capacity = self.runs_per_task, 60 * self.fill * self.at_once
        default = capacity / (most or RUNS_UNKNOWN * self.at_once)  # the seconds of a run without a guess
        tasks: list[list[Planned]] = []
        filled = 0.0
        for run in runs:
            full = len(tasks[-1]) == most if most and tasks else filled >= capacity
            if not tasks or full:
                tasks.append([])
                filled = 0.0
            tasks[-1].append(run)
            filled += guesses[run.folder] or default
        return tasks

    def _announce(
        self, worklist: Worklist, sweep: Path, tasks: Sequence[Sequence[Planned]], sizes: Sequence[int]
    ) -> None:
        arrays = f"{len(sizes)} {'array' if len(sizes) == 1 else 'arrays'} of {', '.join(map(str, sizes))} tasks"
        most = max(map(len, tasks), default=0)
        print(f"{worklist}: {sweep}", file=sys.stderr)
        if tasks:
            print(f"{arrays}, up to {most} runs each, {self.at_once} at once", file=sys.stderr)
        expected = [worklist.expectation.guess(run.config) for task in tasks[:1] for run in task]
        if expected and None not in expected:
            whole = duration(sum(filter(None, expected)) / self.at_once)
            print(f"the longest task takes about {whole}", file=sys.stderr)
        if self.dry_run:
            options = " ".join(f"{k}={v}" for k, v in (self.sbatch | self.additional).items() if v is not None)
            print(f"sbatch: {options}; nothing was submitted", file=sys.stderr)

    def _submit(self, sweep: Path, tasks: list[list[Planned]], sizes: Sequence[int]) -> Submission:
        folder = _new_folder(sweep.absolute() / "slurm")
        snapshot.take(folder / "source")
        (folder / "tasks").mkdir()
        for number, task in enumerate(tasks):
            write_task(folder / "tasks" / f"{number}.json", task)
        submission = Submission(folder, [[run.folder.name for run in task] for task in tasks])
        submission.write()
        try:
            for first, size in zip(range(0, len(tasks), self.max_array_size), sizes, strict=True):
                job = submit(self._command(folder, first), size, folder, self._parameters(folder))
                submission.arrays.append(Array(job, first, size))
                submission.write()
        except NotSubmitted as error:
            jobs = ", ".join(array.job for array in submission.arrays)
            remedy = f" Jobs {jobs} were submitted before: creditlab-cancel {sweep}" if jobs else ""
            if not jobs:
                self.restore(folder)
            raise ConfigError(f"sbatch refused: {error}{remedy}") from None
        jobs = ", ".join(array.job for array in submission.arrays)
        print(f"submitted as {jobs}. creditlab-status {sweep} shows progress.", file=sys.stderr)
        return submission

    def _command(self, folder: Path, first: int) -> str:
        """What each task of an array runs; its first task is number `first` of the submission."""
        arguments = [folder, first, self.at_once, self.max_requeue, *self.devices]
        return shlex.join([sys.executable, "-uP", "-m", "creditlab.sweep.slurm.task", *map(str, arguments)])

    def _parameters(self, folder: Path) -> dict[str, Any]:
        """From these submitit makes the sbatch file."""
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
            "srun_args": [f"--cpus-per-task={self.cpus}"],  # since SLURM 22.05 srun does not take it from sbatch
            "setup": [f"export PYTHONPATH={shlex.quote(':'.join(path))}"],
        }


def seconds(limit: int | str) -> int:
    """A time limit as sbatch reads it: minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S. Raises ConfigError."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", str(limit))
    if not match:
        raise ConfigError(f"hydra.launcher.time={limit}: must be minutes, or as for sbatch: 12:00:00, 2-00:00:00.")
    days, *rest = (None if part is None else int(part) for part in match.groups())
    a, b, c = rest[0] or 0, rest[1], rest[2]
    if days is not None:
        return days * 86400 + a * 3600 + (b or 0) * 60 + (c or 0)
    if c is not None:
        return a * 3600 + (b or 0) * 60 + c
    return a * 60 + (b or 0)


def _new_folder(parent: Path) -> Path:
    """Make `parent`/1, or with the next number that is free."""
    for number in count(1):
        folder = parent / str(number)
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise AssertionError
