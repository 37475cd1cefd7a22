"""What every launcher does before the first run starts: compose all runs, check them, and find those that are done.

A launcher is a subclass that defines how runs are started. Nothing is written before all runs are known to be valid.
Giving the same command again runs what is missing: finished runs are left alone, and so are runs that another process
is working on.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from creditlab import records
from creditlab.config import ConfigError
from creditlab.hints import did_you_mean
from creditlab.lock import claim
from creditlab.provenance import provenance
from creditlab.sources import changed_code
from creditlab.sweep.compose import Composer
from creditlab.sweep.plan import Planned, check_devices, preflight, swept, write_plan
from creditlab.sweep.schedule import Expectation
from creditlab.sweep.stated import claims_of, print_unknown


class SweepFailed(RuntimeError):
    """Runs failed, or a single one; the message says how many, or why."""


class LeftToOthers(RuntimeError):
    """Runs of a sweep are left to other commands, which are working on them; the message says how many."""

    def __init__(self, number: int, remedy: str) -> None:
        runs = "1 run is" if number == 1 else f"{number} runs are"
        super().__init__(f"{runs} left to other commands, which are working on them. {remedy}")


CHANGED = "{thing} has changed since {runs} finished. retry=changed trains again what has changed."
RESTARTED = "{thing} has changed since {runs} stopped. What has changed starts over, from step 0."
RESUMED = "{thing} has changed since {runs} stopped. The result may differ from that of an undisturbed run."
WITHOUT_EFFECT = "{runs} finished before, so {thing} has no effect there."


@dataclass
class Worklist:
    """The runs that a sweep has to do, and how many of its runs need nothing."""

    to_do: list[Planned] = field(default_factory=list)
    again: list[Planned] = field(default_factory=list)  # those of `to_do` that start over: finished, or of other code
    finished: int = 0
    failed: int = 0  # and not to be repeated
    elsewhere: list[tuple[Planned, str]] = field(default_factory=list)  # and the process or job that works on it
    expectation: Expectation = field(default_factory=Expectation)
    notes: Counter[tuple[str, str]] = field(default_factory=Counter)  # what the user should know, and of how many runs

    def __str__(self) -> str:
        parts = [f"{len(self.to_do)} {'run' if len(self.to_do) == 1 else 'runs'} to do"]
        parts += [f"{self.finished} finished before"] if self.finished else []
        parts += [f"{self.failed} failed before"] if self.failed else []
        parts += [f"{len(self.elsewhere)} under way elsewhere"] if self.elsewhere else []
        return ", ".join(parts)

    def left_to_others(self) -> list[Planned]:
        """The runs among `elsewhere` that are not finished by now."""
        return [run for run, _ in self.elsewhere if not records.read_run(run.folder).finished]

    def print_notes(self) -> None:
        """Print the notes on standard error."""
        for (thing, note), number in self.notes.items():
            message = note.format(thing=thing, runs="a run" if number == 1 else f"{number} runs")
            print(f"creditlab: {message}", file=sys.stderr)


def must_run(run: records.Run, retry: str, changes: Sequence[str] = ()) -> bool:
    """Whether a run must start, or start again. `retry` is the key of that name. `changes`: what has changed since of
    the code that the run used.
    """
    match run.status:
        case "complete":
            return retry == "all" or (retry == "changed" and bool(changes))
        case "diverged":
            return retry in ("diverged", "all") or (retry == "changed" and bool(changes))
        case "failed":
            return retry != "none"
        case _:
            return True


def version_change(run: records.Run) -> list[str]:
    """That another version of creditlab started `run`; empty if it did not."""
    versions = run.record.get("versions")
    before = versions.get("creditlab") if isinstance(versions, Mapping) else None
    now = provenance()["versions"].get("creditlab")
    return [f"creditlab {before} (now {now})"] if before and now and before != now else []


def without_effect(run: records.Run, config: Mapping[str, Any]) -> list[str]:
    """What `config` asks for besides the result, and the finished `run` was trained without."""
    before = run.config or {}
    asked = {key: str(config[key]) for key in ("device", "threads") if config[key] not in ("auto", before.get(key))}
    if config["tracker"] != before.get("tracker"):
        asked["tracker"] = config["tracker"]["_target_"].rpartition(".")[2]
    return [f"{key}={value}" for key, value in asked.items() if value != "Tracker"]  # which tracks nothing


def worklist_of(runs: Sequence[Planned], submitted: dict[str, str]) -> Worklist:
    """What is to do of `runs`. `submitted` gives the job of each run that waits in a queue. Raises RecordError if a
    folder holds another config.
    """
    worklist = Worklist()
    for run in runs:
        existing_run = records.find_run(run.folder, run.config)
        if existing_run.finished:
            worklist.expectation.learn(run.config, existing_run.summary.get("seconds"))
        code, version = changed_code(existing_run.record.get("code"), run.config), version_change(existing_run)
        if not must_run(existing_run, run.config["retry"], [*code, *version]):
            if existing_run.finished:
                worklist.notes.update((change, CHANGED) for change in [*code, *version])
                worklist.notes.update((thing, WITHOUT_EFFECT) for thing in without_effect(existing_run, run.config))
            worklist.finished += existing_run.finished
            worklist.failed += not existing_run.finished
            continue
        if not existing_run.finished:
            lock_claim = claim(run.folder)
            if lock_claim is not None and lock_claim.alive:
                worklist.elsewhere.append((run, str(lock_claim.holder)))
                continue
        if run.folder.name in submitted:
            worklist.elsewhere.append((run, f"job {submitted[run.folder.name]}"))
            continue
        worklist.to_do.append(run)
        if existing_run.finished:
            worklist.again.append(run)
        elif (run.folder / "checkpoint.pt").exists():
            worklist.again += [run] if code else []
            worklist.notes.update((change, RESTARTED) for change in code)
            worklist.notes.update((change, RESUMED) for change in ([] if code else version))
    return worklist


class Returned(JobReturn):
    """What a sweeper that searches reads: the objective of a run, at the moment when it asks. If the run has diverged,
    or the objective is not a number, it reads `worst`: the search goes on, and avoids such runs.
    """

    def __init__(self, overrides: Sequence[str], run: Planned, worst: float) -> None:
        super().__init__(overrides=overrides, status=JobStatus.COMPLETED)
        self.run, self.worst = run, worst

    @property
    def return_value(self) -> Any:
        existing_run = records.read_run(self.run.folder)
        if not existing_run.finished:
            raise ConfigError(
                f"{self.run.folder} is {existing_run.status}: a sweeper that searches needs finished runs."
            )
        return score(existing_run, self.run.config["training"]["objective"], self.worst)

    @return_value.setter
    def return_value(self, value: Any) -> None:
        raise AttributeError("a run's objective is in its folder")


def worst_objective(hydra: DictConfig) -> float:
    """The value that no search prefers: infinity, or minus infinity for a sweeper that maximises."""
    sweeper = hydra.sweeper
    direction = str(OmegaConf.select(sweeper, "direction", default="")).lower()
    maximises = direction.endswith("maximize")  # Optuna; below, Nevergrad and Ax
    maximises = maximises or bool(OmegaConf.select(sweeper, "optim.maximize"))
    maximises = maximises or OmegaConf.select(sweeper, "ax_config.experiment.minimize") is False
    return -math.inf if maximises else math.inf


def check_best(sweep: Path) -> None:
    """Raise SweepFailed, and remove the results of a search, if the best value that it found is that of a run without
    one: then all its runs diverged.
    """
    path = sweep / "optimization_results.yaml"
    if not path.exists():
        return
    results = OmegaConf.to_container(OmegaConf.load(path))
    values = list(results.values()) if isinstance(results, dict) else []
    if any(isinstance(value, float) and not math.isfinite(value) for value in values):
        path.unlink()
        raise SweepFailed("all runs of the search diverged, so there is no best value.")


def score(run: records.Run, objective: str, worst: float) -> float:
    """The metric of a finished run that `training.objective` names. It is `worst` if the run has diverged, or if the
    metric is not a number. Raises ConfigError if the run lacks the metric.
    """
    if run.status == "diverged":
        return worst
    if objective not in run.metrics:
        raise ConfigError(
            f"training.objective={objective}: the run recorded no such metric.{did_you_mean(objective, run.metrics)}"
        )
    value = run.metrics[objective]
    return worst if math.isnan(value) else value


class SweepLauncher(Launcher):
    """A launcher without `start`, which each subclass adds. `folder`: where this process has started a sweep."""

    folder: ClassVar[Path | None] = None
    preflight_devices: Sequence[str] = ()  # runs may use these instead of their own device
    together = 1  # how many runs that differ in the seed alone are trained at once

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config
        self.composer = Composer(hydra_context, config)

    def check_keys(self) -> None:
        """Raise ConfigError for keys of the launcher that do not work together, or not on this machine."""

    def submitted(self, sweep: Path) -> dict[str, str]:
        """The jobs in which runs of the sweep, by name, wait for a cluster."""
        return {}

    def start(self, worklist: Worklist, sweep: Path) -> None:
        """Start the runs of `worklist.to_do`. Raises SweepFailed if some are known to have failed, and LeftToOthers if
        runs should have been finished by now, but other commands are still working on them.
        """
        raise NotImplementedError

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        self.check_keys()
        if (subdir := self.config.hydra.sweep.subdir) != ".":
            raise ConfigError(
                f"hydra.sweep.subdir={subdir}: a run's folder is named after its config. Give sweep=NAME to name the "
                "folder of the sweep, or hydra.sweep.dir=FOLDER."
            )
        sweep = Path(self.config.hydra.sweep.dir)
        claims = claims_of(self.config.hydra)
        with records.without_garbage_collection():
            requested = [self.composer.planned(overrides, sweep) for overrides in job_overrides]
            runs = list({run.folder: run for run in requested}.values())
            worklist = worklist_of(runs, self.submitted(sweep))
        check_devices(self.preflight_devices or {run.config["device"] for run in runs})
        preflight(worklist.to_do, self.preflight_devices, self.together)
        worklist.print_notes()
        self.prepare(sweep, runs, worklist, claims)
        SweepLauncher.folder = sweep
        self.start(worklist, sweep)
        worst = worst_objective(self.config.hydra)
        return [Returned(overrides, run, worst) for overrides, run in zip(job_overrides, requested, strict=True)]

    def prepare(
        self, sweep: Path, runs: Sequence[Planned], worklist: Worklist, claims: records.Claims | None = None
    ) -> None:
        """Write the plan with the claims of the sweep, and clear the runs that start over."""
        records.make_folder(sweep)
        write_plan(sweep, runs, swept(self.config.hydra), claims)
        if claims:
            print_unknown(claims, [run.config for run in runs], records.read_plan(sweep) or {})
        for run in worklist.again:
            records.forget(run.folder)
