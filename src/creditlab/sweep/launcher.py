"""What every launcher does before the first run starts: compose, check, and tell apart what is already done.

A launcher is a subclass that says how runs are started. Nothing is written before all runs are known to be valid, and
giving the same command again does what is missing: finished runs are left alone, and those that another process is at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from creditlab import records
from creditlab.config import ConfigError
from creditlab.hints import did_you_mean
from creditlab.lock import claim
from creditlab.sweep.compose import Composer
from creditlab.sweep.expect import Expectation
from creditlab.sweep.plan import Planned, preflight, swept, write_plan


class SweepFailed(RuntimeError):
    """Some runs of a sweep failed; the message says how many."""


@dataclass
class Survey:
    """How the runs of a sweep stand before it starts."""

    to_do: list[Planned] = field(default_factory=list)
    again: list[Planned] = field(default_factory=list)  # of these, the finished ones that are to be done anew
    finished: int = 0
    failed: int = 0  # and to be left so
    elsewhere: list[tuple[Planned, str]] = field(default_factory=list)  # and who is at it
    expectation: Expectation = field(default_factory=Expectation)

    def __str__(self) -> str:
        told = [f"{len(self.to_do)} {'run' if len(self.to_do) == 1 else 'runs'} to do"]
        told += [f"{self.finished} finished before"] if self.finished else []
        told += [f"{self.failed} failed before"] if self.failed else []
        told += [f"{len(self.elsewhere)} under way elsewhere"] if self.elsewhere else []
        return ", ".join(told)


def wanted(run: records.Run, retry: str) -> bool:
    """Whether a run that is there is to be done (again): `retry` is the key of that name."""
    match run.status:
        case "complete":
            return retry == "all"
        case "diverged":
            return retry in ("diverged", "all")
        case "failed":
            return retry != "none"
        case _:
            return True


def survey(runs: Sequence[Planned], submitted: dict[str, str]) -> Survey:
    """Tell `runs` apart; `submitted` names the job of each run that waits in a queue. Raises RecordError where a folder
    holds another config.
    """
    found = Survey()
    for run in runs:
        there = records.find_run(run.folder, run.config)
        if there.finished:
            found.expectation.learn(run.config, there.summary.get("seconds"))
        if not wanted(there, run.config["retry"]):
            found.finished += there.finished
            found.failed += not there.finished
            continue
        if not there.finished:
            at_it = claim(run.folder)
            if at_it is not None and at_it.alive:
                found.elsewhere.append((run, str(at_it.holder)))
                continue
        if run.folder.name in submitted:
            found.elsewhere.append((run, f"job {submitted[run.folder.name]}"))
            continue
        found.to_do.append(run)
        if there.finished:
            found.again.append(run)
    return found


class Returned(JobReturn):
    """What a sweeper that searches reads: the objective of a run, when it asks."""

    def __init__(self, overrides: Sequence[str], run: Planned) -> None:
        super().__init__(overrides=overrides, status=JobStatus.COMPLETED)
        self.run = run

    @property
    def return_value(self) -> Any:
        found = records.read_run(self.run.folder)
        if not found.finished:
            raise ConfigError(f"{self.run.folder} is {found.status}: a sweeper that searches needs finished runs.")
        return objective(found, self.run.config["training"]["objective"])

    @return_value.setter
    def return_value(self, value: Any) -> None:
        raise AttributeError("a run's objective is in its folder")


def objective(run: records.Run, name: str) -> float:
    """The metric of a finished run that `training.objective` names. Raises ConfigError if it has none of that name."""
    if name not in run.metrics:
        raise ConfigError(
            f"training.objective={name}: the run recorded no such metric.{did_you_mean(name, run.metrics)}"
        )
    return run.metrics[name]


class SweepLauncher(Launcher):
    """A launcher but for `start`."""

    preflight_devices: Sequence[str] = ()  # where runs may be done instead of on their own device
    together = 1  # runs that differ in nothing but the seed and are trained at once

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config
        self.composer = Composer(hydra_context, config)

    def check_keys(self) -> None:
        """Raise ConfigError for keys of the launcher that cannot be together, or on this machine."""

    def submitted(self, sweep: Path) -> dict[str, str]:
        """The jobs in which runs of the sweep, by name, wait for a cluster."""
        return {}

    def start(self, found: Survey, sweep: Path) -> None:
        """Do, or have done, the runs of `found.to_do`. Raises SweepFailed when it knows that some failed."""
        raise NotImplementedError

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        self.check_keys()
        sweep = Path(self.config.hydra.sweep.dir)
        with records.without_garbage_collection():
            asked = [self.composer.planned(overrides, sweep) for overrides in job_overrides]
            runs = list({run.folder: run for run in asked}.values())
            found = survey(runs, self.submitted(sweep))
        preflight(found.to_do, self.preflight_devices, self.together)
        self.prepare(sweep, runs, found)
        self.start(found, sweep)
        return [Returned(overrides, run) for overrides, run in zip(job_overrides, asked, strict=True)]

    def prepare(self, sweep: Path, runs: Sequence[Planned], found: Survey) -> None:
        """Write what was planned, and clear what is to be done anew."""
        records.make_folder(sweep)
        write_plan(sweep, runs, swept(self.config.hydra))
        for run in found.again:
            records.forget(run.folder)
