"""What the benchmarks share: clocks, configs as a command line makes them, tables.

A shared machine lengthens wall time by whatever else runs; the processor time of this process it hardly touches. So
every ratio is given of both, what is compared takes turns round by round, and each table names the load.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.table import Table

from creditlab.__main__ import CONF
from creditlab.sweep.plan import Planned, planned

SPREAD = ("wall, median", "least", "processor, median", "least")
ROOT = Path(__file__).parents[1]
console = Console(width=110, highlight=False)


@dataclass(frozen=True)
class Seconds:
    wall: float = 0.0
    cpu: float = 0.0  # of this process, all its threads

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)

    def __truediv__(self, number: float) -> Seconds:
        return Seconds(self.wall / number, self.cpu / number)


def now() -> Seconds:
    return Seconds(time.perf_counter(), time.process_time())


def call(arguments: Sequence[str], folder: Path) -> tuple[subprocess.CompletedProcess[str], Seconds]:
    """Run python with `arguments` in `folder`, creditlab and the benchmarks at hand; what it and its children took."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, Seconds(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def plan(folder: Path, *overrides: str) -> Planned:
    """The run that `creditlab overrides…` stands for, with its record in `folder`."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return planned(compose("config", list(overrides), return_hydra_config=True), folder)


def ratio(above: Sequence[float], below: Sequence[float]) -> str:
    """`median (least to greatest)` of the ratios, round by round."""
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def spread(seconds: Sequence[Seconds], scale: float = 1, digits: int = 2) -> list[str]:
    """Four cells: median and least of wall time, then of processor time."""
    clocks = ([s.wall for s in seconds], [s.cpu for s in seconds])
    return [f"{scale * of(clock):.{digits}f}" for clock in clocks for of in (statistics.median, min)]


def load() -> str:
    """A line on how busy the machine is before a measurement."""
    cores, (recent, *_) = len(os.sched_getaffinity(0)), os.getloadavg()
    verdict = "idle" if recent < 0.3 else "NOT idle: trust ratios of processor time, not of wall time"
    return f"load average {recent:.2f} on {cores} cores: {verdict}"


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, its first column to the left and the others to the right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
