"""What a sweep shows as it goes: a live bar in a terminal, a line a finished run elsewhere; failures at the end."""

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
    "held": "[cyan]→[/]",  # another process is at it
    "lost": "[cyan]→[/]",  # another process has taken over
}
CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def safe(text: str) -> str:
    """Text of a user's code or files for a terminal: no colours, no cursor movements, no markup."""
    return escape(CONTROL.sub("", text))


def duration(seconds: float) -> str:
    """12 s, 3 min, 2.5 h, 1.2 days."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.{0 if unit == 'min' else 1}f} {unit}"
    return f"{seconds:.0f} s"


class Display:
    """Tells of `total` runs to do; `plan` says so in words."""

    def __init__(self, plan: str, total: int, sweep: Path) -> None:
        self.plan, self.total, self.sweep = plan, total, sweep
        self.console = Console(stderr=True, highlight=False)
        self.failures: list[tuple[Planned, str]] = []
        self.counts: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()  # instruments that failed under way
        self.shares: dict[str, float] = {}  # of the runs under way, what is done
        self.began = time.monotonic()
        self.remaining: float | None = None
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self.bar = Progress(*columns, console=self.console)
        self.task = self.bar.add_task("runs", total=total)

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

    def progress(self, run: Planned, share: float) -> None:
        self.shares[run.folder.name] = share
        self._draw()

    def left(self, seconds: float | None) -> None:
        """How long the rest will take, if it is known."""
        self.remaining = seconds
        self._draw()

    def finished(self, run: Planned, status: str, problem: str) -> float | None:
        """A run has ended; the seconds that it took, if it is finished."""
        self.shares.pop(run.folder.name, None)
        self.counts[status] += 1
        if status == "failed":
            self.failures.append((run, problem))
        found = records.read_run(run.folder) if status in records.FINISHED else None
        said = problem
        if found and found.finished:
            said = f"accuracy {found.metrics['test/accuracy']:.4f}, {found.summary['seconds']:.1f} s"
            self.broken.update(f"{name}, {reason}" for name, reason in found.broken.items())
        counter = "" if self.console.is_terminal else f"[{self.counts.total()}/{self.total}] "
        line = f"{MARK[status]} {escape(counter)}{safe(run.folder.name)} {status} {safe(said)}"
        self.console.print(line, soft_wrap=True)
        self._draw()
        return found.summary.get("seconds") if found else None

    def _draw(self) -> None:
        done = self.counts.total()
        told = [self._tally()] if done else []
        told += [f"{len(self.shares)} running"] if self.shares else []
        told += [f"{60 * done / (time.monotonic() - self.began):.1f} a minute"] if done else []
        told += [f"about {duration(self.remaining)} left"] if self.remaining is not None else []
        self.bar.update(self.task, completed=done + sum(self.shares.values()), description=", ".join(told))

    def _tally(self) -> str:
        return ", ".join(f"{self.counts[status]} {status}" for status in MARK if self.counts[status])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.bar.stop()
        done = sum(self.counts[status] for status in ("complete", "diverged", "failed"))
        if kind is not None or done < self.total:
            self.say(f"stopped: {done} of {self.total} done. The same command goes on from here.")
        if self.counts:
            self.say(f"{self._tally()} in {duration(time.monotonic() - self.began)}: {self.sweep}")
        for reason, count in self.broken.most_common():
            self.say(f"absent in {count} {'run' if count == 1 else 'runs'}: {reason}")
        for run, problem in self.failures:
            self.console.print(f"{MARK['failed']} {safe(_evidence(run))}\n    {safe(problem)}", soft_wrap=True)


def _evidence(run: Planned) -> str:
    """Where to read on about a failure."""
    trace = run.folder / "error.txt"
    return str(trace if trace.exists() else run.folder)
