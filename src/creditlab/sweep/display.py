"""What a sweep shows while it runs: a live bar in a terminal, else one line per finished run; failures at the end."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from creditlab import records
from creditlab.sweep.plan import Planned

MARK = {
    "complete": "[green]✓[/]",
    "diverged": "[yellow]∞[/]",
    "failed": "[red]✗[/]",
    "interrupted": "[yellow]…[/]",
    "held": "[cyan]→[/]",
    "lost": "[cyan]→[/]",
}
DONE = ("complete", "diverged", "failed")
SHOWN_AS = {"held": "under way elsewhere", "lost": "taken over"}  # by another process
CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def safe(text: str) -> str:
    """Text of a user's code or files, made safe for a terminal: no colours, no cursor movements, no markup."""
    return escape(CONTROL.sub("", text))


def duration(seconds: float) -> str:
    """12 s, 3 min, 2.5 h, 1.2 days."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.{0 if unit == 'min' else 1}f} {unit}"
    return f"{seconds:.0f} s"


class Display:
    """Shows how far `total` runs are. `plan` is the sentence that describes them."""

    def __init__(self, plan: str, total: int, sweep: Path) -> None:
        self.plan, self.total, self.sweep = plan, total, sweep
        self.console = Console(stderr=True, highlight=False)
        self.failures: list[tuple[Planned, str]] = []
        self.counts: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()  # metrics that failed during a run
        self.shares: dict[str, float] = {}  # how much of each run that is under way is done
        self.began = time.monotonic()
        self.remaining: float | None = None
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self.bar = Progress(*columns, console=self.console)
        self.task = self.bar.add_task("runs", total=total)

    @property
    def done(self) -> int:
        """How many runs need nothing more of this sweep. An interrupted run does."""
        return sum(self.counts[status] for status in DONE)

    def __enter__(self) -> Display:
        self.say(f"{self.plan}: {self.sweep}")
        self.live = self.console.is_terminal and self.total > 0
        if self.live:
            self.bar.start()
        return self

    def say(self, text: str) -> None:
        self.console.print(safe(text), soft_wrap=True)

    def started(self, run: Planned) -> None:
        self.progress(run, 0.0)

    def withdrawn(self, run: Planned) -> None:
        """A run waits again: its worker died before it began the run."""
        self.shares.pop(run.folder.name, None)
        self._draw()

    def progress(self, run: Planned, share: float) -> None:
        self.shares[run.folder.name] = share
        self._draw()

    def left(self, seconds: float | None) -> None:
        """How long the rest will take; None if that is not known."""
        self.remaining = seconds
        self._draw()

    def finished(self, run: Planned, status: str, problem: str) -> float | None:
        """A run has ended. Returns the seconds that it took, if it is finished."""
        self.shares.pop(run.folder.name, None)
        self.counts[status] += 1
        if status == "failed":
            self.failures.append((run, problem))
        record = records.read_run(run.folder) if status in records.FINISHED else None
        result = problem
        if record and record.finished:
            result = f"accuracy {record.metrics['test/accuracy']:.4f}, {record.summary['seconds']:.1f} s"
            self.broken.update(f"{name}, {reason}" for name, reason in record.broken.items())
        counter = "" if self.console.is_terminal else f"[{self.done}/{self.total}] "
        name = SHOWN_AS.get(status, status)
        line = f"{MARK[status]} {escape(counter)}{safe(run.folder.name)} {name} {safe(result)}"
        self.console.print(line, soft_wrap=True)
        self._draw()
        return record.summary.get("seconds") if record else None

    def _draw(self) -> None:
        done = self.done
        parts = [self._tally()] if self.counts else []
        parts += [f"{len(self.shares)} running"] if self.shares else []
        parts += [f"{60 * done / (time.monotonic() - self.began):.1f} per minute"] if done else []
        parts += [f"about {duration(self.remaining)} left"] if self.remaining is not None else []
        self.bar.update(self.task, completed=done + sum(self.shares.values()), description=", ".join(parts))

    def _tally(self) -> str:
        return ", ".join(
            f"{self.counts[status]} {SHOWN_AS.get(status, status)}" for status in MARK if self.counts[status]
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.bar.stop()
        if kind is not None or self.done + self.counts["held"] < self.total:
            self.say(f"stopped: {self.done} of {self.total} done. The same command resumes from here.")
        if self.counts:
            self.say(f"{self._tally()} in {duration(time.monotonic() - self.began)}: {self.sweep}")
        for reason, count in self.broken.most_common():
            self.say(f"not computed in {count} {'run' if count == 1 else 'runs'}: {reason}")
        for run, problem in self.failures:
            self.console.print(f"{MARK['failed']} {safe(evidence(run))}\n    {safe(problem)}", soft_wrap=True)


def evidence(run: Planned) -> str:
    """The file or folder that shows more about a failure."""
    trace = run.folder / "error.txt"
    return str(trace if trace.exists() else run.folder)
