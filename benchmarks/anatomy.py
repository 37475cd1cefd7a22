"""Where the seconds of a run go: every moment of the process is charged to exactly one part, so the parts add up.

`Anatomy().install()` wraps the functions that `creditlab.training.train` calls. `Timed` does so in the worker of a real
sweep, which it gets into as any user's own rule does, by `algorithm._target_=benchmarks.anatomy.Timed`; a line of
`anatomy.jsonl` in the sweep's folder then tells of each run but the first of a worker.
"""

from __future__ import annotations

import functools
import json
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

from torch import Generator, nn

from benchmarks.measure import Seconds, now
from creditlab import records, training
from creditlab.algorithms.base import Draw
from creditlab.algorithms.bp import Backpropagation
from creditlab.metrics.instruments import Instruments
from creditlab.task import Task

OUTSIDE, STEPS, RECORDS = "messages and waiting", "training steps", "records in JSON and YAML"
TEXT = (".json", ".yaml")


class Anatomy:
    """`parts`: seconds by part since `reset`."""

    def __init__(self) -> None:
        self.stack = [OUTSIDE]
        self.reset()

    def reset(self) -> None:
        self.parts: dict[str, Seconds] = defaultdict(Seconds)
        self.mark = now()

    def charge(self) -> None:
        """Book the time since the last call to the part that is going on."""
        moment = now()
        self.parts[self.stack[-1]] += moment - self.mark
        self.mark = moment

    def push(self, part: str) -> None:
        self.charge()
        self.stack.append(part)

    def pop(self) -> None:
        self.charge()
        self.stack.pop()

    def wrap(self, owner: Any, name: str, part: str | Callable[..., str]) -> None:
        """Charge calls of `owner.name` to `part`, less what is charged to parts within."""
        call = getattr(owner, name)

        @functools.wraps(call)
        def timed(*args: Any, **keys: Any) -> Any:
            self.push(part if isinstance(part, str) else part(*args))
            try:
                return call(*args, **keys)
            finally:
                self.pop()

        setattr(owner, name, timed)

    def install(self) -> None:
        self.wrap(training, "assemble", "assemble the parts")
        self.wrap(training, "evaluate", lambda *_: f"{self.first()} evaluation")
        self.wrap(Instruments, "measure", lambda *_: f"{self.first()} instruments")
        self.wrap(Instruments, "arrays", "arrays.npz")
        for name in ("open_run", "begin", "finish", "read_run"):
            self.wrap(records, name, RECORDS)
        for name in ("append", "close"):
            self.wrap(records.History, name, RECORDS)
        self.wrap(records, "write_whole", lambda path, _: RECORDS if path.suffix in TEXT else path.name)
        self.wrap(os, "fsync", "waiting for the disk (fsync)")
        self.watch_steps()

    def first(self) -> str:
        return "later" if STEPS in self.stack else "first"

    def watch_steps(self) -> None:
        """The steps are what a run does between its beginning and its end."""
        begin, finish = training.Trainer.__init__, training.Trainer._finish

        def begun(trainer: training.Trainer, *args: Any) -> None:
            self.push("rest of train")
            begin(trainer, *args)
            self.pop()
            self.push(STEPS)

        def finished(trainer: training.Trainer) -> None:
            if self.stack[-1] == STEPS:  # unless this run had begun before
                self.pop()
            self.push("rest of train")
            finish(trainer)
            self.pop()

        training.Trainer.__init__, training.Trainer._finish = begun, finished  # type: ignore[method-assign]


@functools.cache
def anatomy() -> Anatomy:
    """The one of this process, installed."""
    one = Anatomy()
    one.install()
    return one


class Timed(Backpropagation):
    """Backpropagation in a worker that tells where its time goes."""

    def __init__(self, network: nn.Sequential, task: Task, draw: Draw, generator: Generator) -> None:
        super().__init__(network, task, draw, generator)
        if not anatomy.cache_info().currsize:
            report_runs(anatomy())


def report_runs(one: Anatomy) -> None:
    """From the second run of this process on, tell of each from where it is opened to where the next one is."""
    open_run = records.open_run
    seen: list[Path] = []

    def opened(folder: Path, config: Any) -> records.Run:
        one.charge()
        if seen:
            line = {"pid": os.getpid(), "parts": {name: astuple(s) for name, s in one.parts.items()}}
            with open(folder.parent / "anatomy.jsonl", "a") as file:
                file.write(json.dumps(line) + "\n")
        seen.append(folder)
        one.reset()
        return open_run(folder, config)

    records.open_run = opened  # type: ignore[assignment]
