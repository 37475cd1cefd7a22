"""What a sweep shows as it goes: a live bar in a terminal, a line a finished run elsewhere; failures at the end."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from creditlab import records
from creditlab.sweep.plan import Planned

MARK = {"complete": "[green]✓[/]", "diverged": "[yellow]∞[/]", "failed": "[red]✗[/]"}


class Display:
    """Tells of `total` runs to do, beside `finished` ones that were there before."""

    def __init__(self, total: int, finished: int, sweep: Path) -> None:
        self.total, self.before, self.sweep = total, finished, sweep
        self.console = Console(stderr=True, highlight=False)
        self.failures: list[tuple[Planned, str]] = []
        self.counts: Counter[str] = Counter()
        self.shares: dict[str, float] = {}
        self.began = time.monotonic()
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self.bar = Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=self.console)
        self.task = self.bar.add_task("runs", total=total)

    def __enter__(self) -> Display:
        known = f", {self.before} finished before" if self.before else ""
        self.console.print(
            f"{self.total} {'run' if self.total == 1 else 'runs'} to do{known}: {escape(str(self.sweep))}",
            soft_wrap=True,
        )
        self.live = self.console.is_terminal and self.total > 0
        if self.live:
            self.bar.start()
        return self

    def progress(self, run: Planned, share: float) -> None:
        self.shares[run.folder.name] = share
        self.bar.update(self.task, completed=sum(self.counts.values()) + sum(self.shares.values()))

    def finished(self, run: Planned, status: str, problem: str) -> None:
        self.shares.pop(run.folder.name, None)
        self.counts[status] += 1
        if status not in records.FINISHED:
            self.failures.append((run, problem))
        done = sum(self.counts.values())
        summary = records.read_run(run.folder)
        accuracy = summary.metrics.get("test/accuracy")
        said = problem if accuracy is None else f"accuracy {accuracy:.4f}, {summary.summary['seconds']:.1f} s"
        counter = "" if self.console.is_terminal else f"[{done}/{self.total}] "
        line = f"{MARK.get(status, MARK['failed'])} {escape(counter + run.folder.name)} {status} {escape(said)}"
        self.console.print(line, soft_wrap=True)
        self.bar.update(self.task, completed=done + sum(self.shares.values()), description=self._tally())

    def _tally(self) -> str:
        return ", ".join(f"{self.counts[status]} {status}" for status in MARK if self.counts[status])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            self.bar.stop()
        done = sum(self.counts.values())
        if kind is not None:
            self.console.print(f"stopped: {done} of {self.total} done. The same command goes on from here.")
        elif self.total:
            self.console.print(
                f"{self._tally()} in {time.monotonic() - self.began:.0f} s: {escape(str(self.sweep))}", soft_wrap=True
            )
        for run, problem in self.failures:
            self.console.print(
                f"{MARK['failed']} {escape(str(run.folder / 'error.txt'))}\n    {escape(problem)}", soft_wrap=True
            )
