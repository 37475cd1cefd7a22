"""TensorBoard: event files in each run's own folder.

creditlab -m tracker=tensorboard sweep=s … ;  tensorboard --logdir multirun/s
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from creditlab.trackers.base import Tracker, missing, settings


class TensorBoard(Tracker):
    """Scalars by step, the summary as text, and the config with the final accuracy and loss (HPARAMS). A run that
    resumes writes the events before the checkpoint again into an empty folder, so no event appears twice.
    """

    def __init__(self) -> None:
        try:
            import tensorboard  # noqa: F401
        except ImportError:
            raise missing("tensorboard", "tensorboard") from None

    def open(self, folder: Path, config: Mapping[str, Any], handle: str, past: Sequence[Mapping[str, Any]]) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        self.writer = SummaryWriter(str(folder / "tensorboard"))
        shown = {
            k: v if isinstance(v, bool | int | float | str) else json.dumps(v) for k, v in settings(config).items()
        }
        *start, self.end = hparams(shown, {"test/accuracy": 0, "test/loss": 0})
        for summary in start:
            self.writer._get_file_writer().add_summary(summary)
        for line in past:
            self.record(line["step"], line["epoch"], line["metrics"])

    def record(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        for name, value in {**metrics, "epoch": epoch}.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self, outcome: str, summary: Mapping[str, float]) -> None:
        self.writer.add_text("outcome", outcome)
        if summary:
            self.writer.add_text("summary", json.dumps(summary))
            self.writer._get_file_writer().add_summary(self.end)
        self.writer.close()
