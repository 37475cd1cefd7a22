"""What a tracker is, and how training calls one. An error in a tracker never stops a run.

A tracker copies the content of `history.jsonl` and `summary.json` to another tool; nothing is read back from it. A run
that resumes continues the same copy, because the checkpoint keeps its `handle`.
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
    """Copies nothing (`tracker=none`). Subclasses copy to a tool; an exception in one ends the copy, not the run.

    The constructor takes the keys of the YAML file. It must open nothing that lasts, because it is also called only to
    check that the tracker can be used.
    """

    handle: str = ""  # names the copy of a run, if a resumed run can continue it

    def open(self, folder: Path, config: Mapping[str, Any], handle: str, past: Sequence[Mapping[str, Any]]) -> None:
        """Start the copy of the run in `folder`. A run that resumes passes the `handle` of its checkpoint, and in
        `past` the lines of its history up to the checkpoint.
        """

    def record(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        """Copy one line of the history."""

    def close(self, outcome: str, summary: Mapping[str, float]) -> None:
        """End the copy. `outcome` is complete, diverged, interrupted or failed. `summary` holds the final metrics; it
        is empty unless the run is finished.
        """


class Tracking:
    """The tracker of one run, as training uses it. If it failed, `failure` says when and how."""

    def __init__(self) -> None:
        self.tracker, self.step, self.failure = Tracker(), 0, ""

    @property
    def handle(self) -> str:
        """What a checkpoint keeps: the class of the tracker and its handle."""
        return f"{type(self.tracker).__name__} {self.tracker.handle}"

    def open(
        self, tracker: Tracker, folder: Path, config: Mapping[str, Any], handle: str, past: Sequence[Mapping[str, Any]]
    ) -> None:
        self.tracker, self.step = tracker, past[-1]["step"] if past else 0
        kind, _, copy = handle.partition(" ")
        copy = copy if kind == type(tracker).__name__ else ""  # the run may have begun with another tracker
        self._try(lambda: tracker.open(folder, config, copy, past))

    def record(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        self.step = step
        self._try(lambda: self.tracker.record(step, epoch, metrics))

    def close(self, outcome: str, summary: Mapping[str, float]) -> None:
        self._try(lambda: self.tracker.close(outcome, summary))
        self.tracker = Tracker()

    def _try(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # from a library, a server or a disk
            cause = shorten(f"{type(error).__name__}: {error}", 150, placeholder=" …")
            self.failure = f"step {self.step}: {cause}; the run continued without it"
            self.tracker = Tracker()

    def __enter__(self) -> Tracking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Interrupted):
            self.close("interrupted", {})
        elif isinstance(error, Exception) and not isinstance(
            error, Lost
        ):  # after Lost, the copy belongs to another process too
            self.close("failed", {})


def missing(option: str, package: str) -> ValueError:
    """The error for a tracker whose library is not installed."""
    return ValueError(f"needs {package}, which is not installed: pip install 'creditlab[{option}]'")


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The flat config as trackers show it: each group is represented by the chosen option."""
    groups = {k: v for k, v in config.items() if k not in ("choices", "metrics", "tracker")}
    return config["choices"] | {k: v for k, v in flatten(groups).items() if not k.endswith("_target_")}
