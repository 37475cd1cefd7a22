"""What a tracker is, and how training speaks to one: nothing that it does wrong stops a run.

A tracker mirrors what `history.jsonl` and `summary.json` hold; nothing is read back from it. A run that resumes goes on
in the same mirror: its `handle` is kept in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from types import TracebackType
from typing import Any

from creditlab.interrupt import Interrupted
from creditlab.lock import Lost
from creditlab.records import flatten


class Tracker:
    """Mirrors nothing (`tracker=none`). Its subclasses mirror somewhere; an exception of theirs ends the mirror only.

    The constructor takes the keys of the YAML. It opens nothing that lasts: it is called to see whether it can be.
    """

    handle: str = ""  # names the mirror of a run, if it can be gone on with

    def open(self, folder: Path, config: Mapping[str, Any], handle: str, past: Sequence[Mapping[str, Any]]) -> None:
        """Start the mirror of the run in `folder`. A run that goes on gives the `handle` that there was at its
        checkpoint and the lines of its history up to there, `past`.
        """

    def record(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """A line of the history."""

    def close(self, outcome: str, summary: Mapping[str, float]) -> None:
        """The run has ended: complete, diverged, interrupted or failed. `summary`: what it came to; empty unless it is
        finished.
        """


class Tracking:
    """The tracker of one run as training uses it. `failure` says when and how it failed, if it did."""

    def __init__(self) -> None:
        self.tracker, self.step, self.failure = Tracker(), 0, ""

    @property
    def handle(self) -> str:
        """What a checkpoint keeps: the tracker's kind and its handle."""
        return f"{type(self.tracker).__name__} {self.tracker.handle}"

    def open(
        self, tracker: Tracker, folder: Path, config: Mapping[str, Any], handle: str, past: Sequence[Mapping[str, Any]]
    ) -> None:
        self.tracker, self.step = tracker, past[-1]["step"] if past else 0
        kind, _, own = handle.partition(" ")
        own = own if kind == type(tracker).__name__ else ""  # else another tracker had begun
        self._try(lambda: tracker.open(folder, config, own, past))

    def record(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        self.step = step
        self._try(lambda: self.tracker.record(step, epoch, metrics))

    def close(self, outcome: str, summary: Mapping[str, float]) -> None:
        self._try(lambda: self.tracker.close(outcome, summary))
        self.tracker = Tracker()

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # whatever a library, a server or a disk may do
            cause = shorten(f"{type(error).__name__}: {error}", 150, placeholder=" …")
            self.failure = f"step {self.step}: {cause}; the run went on without it"
            self.tracker = Tracker()

    def __enter__(self) -> Tracking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Interrupted):
            self.close("interrupted", {})
        elif isinstance(error, Exception) and not isinstance(error, Lost):  # then the mirror is another's, too
            self.close("failed", {})


def missing(option: str, package: str) -> ValueError:
    """What to say where the library that a tracker stands for is not installed."""
    return ValueError(f"needs {package}, which is not installed: pip install 'creditlab[{option}]'")


def told(config: Mapping[str, Any]) -> dict[str, Any]:
    """The flat config as people look for it: the option chosen stands for its group."""
    groups = {k: v for k, v in config.items() if k not in ("choices", "metrics", "tracker")}
    return config["choices"] | {k: v for k, v in flatten(groups).items() if not k.endswith("_target_")}
