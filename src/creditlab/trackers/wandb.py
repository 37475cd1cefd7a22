"""Weights & Biases: a run of a project for each run of a sweep, online or offline.

creditlab -m tracker=wandb tracker.mode=offline sweep=s … ;  wandb sync multirun/s/*/wandb/offline-run-*
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from creditlab.trackers.base import Tracker, missing, settings


class WandB(Tracker):
    """Metrics by step, the config, and the summary; the sweep is the group. Files are in the folder of the run, under
    `wandb/`. A run that resumes continues the same run of wandb.
    """

    def __init__(self, *, project: str, entity: str | None, mode: Literal["online", "offline"]) -> None:
        try:
            import wandb
        except ImportError:
            raise missing("wandb", "wandb") from None
        self.wandb, self.project, self.entity, self.mode = wandb, project, entity, mode

    def open(self, folder: Path, config: Mapping[str, Any], handle: str, past: Sequence[Mapping[str, Any]]) -> None:
        quiet = self.wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True)
        self.run = self.wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            dir=str(folder),
            group=folder.parent.name,
            name=folder.name,
            config=settings(config),
            id=handle or None,
            resume="allow" if handle else None,
            reinit="create_new",
            settings=quiet,
        )
        self.handle = self.run.id
        for line in [] if handle else past:
            self.record(line["step"], line["epoch"], line["metrics"])

    def record(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        self.run.log({**metrics, "epoch": epoch}, step=step)

    def close(self, outcome: str, summary: Mapping[str, float]) -> None:
        self.run.summary.update({**summary, "outcome": outcome})
        self.run.finish(exit_code=int(outcome in ("failed", "interrupted")))
