"""Hydra's callbacks of a run (`hydra.callbacks`), called by the worker process that trains it.

    on_job_start(config, task_function)      before the run is opened
    on_job_end(config, job_return)           when it is finished or has failed, not when it was interrupted

As in Hydra, an error in a callback is a warning and stops nothing. `hydra.runtime.output_dir` is the folder of the run.
The other callbacks (`on_multirun_start`, …) are called by Hydra itself, in the command's process.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from creditlab import records
from creditlab.config import ConfigError
from creditlab.sweep.launcher import score, worst_objective
from creditlab.sweep.plan import job
from creditlab.training import train


class RunCallbacks:
    """The callbacks of the run in `folder`. `files`: what Hydra writes about the run, by name."""

    def __init__(self, files: Mapping[str, str], folder: Path) -> None:
        composed = OmegaConf.merge(OmegaConf.create(files["hydra.yaml"]), OmegaConf.create(files["config.yaml"]))
        assert isinstance(composed, DictConfig)
        self.config = composed
        self.folder = folder
        hydra = self.config.hydra
        hydra.run.dir, hydra.sweep.dir = str(folder), str(folder.parent)
        hydra.runtime.output_dir = str(folder.absolute())
        self.callbacks: Sequence[Any] = []
        try:
            self.callbacks = [instantiate(node) for node in hydra.callbacks.values()]
        except Exception as error:
            warnings.warn(f"hydra.callbacks: {type(error).__name__}: {error}", stacklevel=1)

    def start(self) -> None:
        self._notify("on_job_start", self.callbacks, task_function=train)

    def end(self, error: BaseException | None) -> None:
        """The run is finished, or has failed with `error`."""
        value: Any = error
        if error is None:
            try:
                run, objective = records.read_run(self.folder), self.config.training.objective
                value = score(run, objective, worst_objective(self.config.hydra))
            except ConfigError as lacking:  # the run recorded no such metric
                value = lacking
        answer = JobReturn(
            overrides=list(self.config.hydra.overrides.task),
            cfg=job(self.config),
            hydra_cfg=OmegaConf.masked_copy(self.config, ["hydra"]),
            working_dir=str(Path.cwd()),
            task_name=self.config.hydra.job.name,
            status=JobStatus.FAILED if isinstance(value, BaseException) else JobStatus.COMPLETED,
        )
        answer.return_value = value
        self._notify("on_job_end", self.callbacks[::-1], job_return=answer)

    def _notify(self, name: str, callbacks: Sequence[Any], **arguments: Any) -> None:
        before, HydraConfig.instance().cfg = HydraConfig.instance().cfg, self.config  # type: ignore[assignment]
        for callback in callbacks:
            try:
                getattr(callback, name)(config=self.config, **arguments)
            except Exception as error:
                problem = f"{type(callback).__name__}.{name} raised {type(error).__name__}: {error}"
                warnings.warn(f"Callback {problem}", stacklevel=1)
        HydraConfig.instance().cfg = before


def callbacks_of(files: Mapping[str, str], folder: Path) -> RunCallbacks | None:
    """The callbacks of a run; None if it has none. That is seen from the text, without reading the YAML."""
    has_none = "\n  callbacks: {}\n" in files.get("hydra.yaml", "\n  callbacks: {}\n")
    return None if has_none else RunCallbacks(files, folder)
