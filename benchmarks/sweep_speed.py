"""What a sweep costs beside training: a run's overhead on a warm worker by part, start-up, and scaling over workers.

    python -m benchmarks.sweep_speed

Gives real command lines in a temporary folder: an MLP on digits, with the default evaluations, instruments and files.

*Overhead* is all of a warm worker's time but the training steps, from the start of a run to the start of the next
(`benchmarks.anatomy` sits in the worker as a user's own rule would). *Start-up* is from the command to the first run,
and what a worker's first run takes longer than its next. *Scaling* is the rate of runs from the start of the first to
the end of the last, sweeps with one and two workers taking turns.

Goals: overhead below 0.2 s a run; two workers 1.8 times as fast as one where two cores are idle.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.anatomy import STEPS
from benchmarks.measure import ROOT, Seconds, console, load, ratio, show
from creditlab import records

OVERHEAD_STEPS = 200  # steps do not count, but evaluations and probes need some
ASKED = ("evaluation", "instruments")  # parts that do what the config asks for, as a script by hand would


@dataclass
class Sweep:
    """When things happened in a sweep, in seconds from the command."""

    folder: Path
    starts: dict[int, list[float]]  # of runs, in order, by worker
    last: float  # end of the last run
    end: float  # of the command

    @property
    def first(self) -> float:
        return min(s[0] for s in self.starts.values())

    @property
    def rate(self) -> float:
        """Runs a second."""
        return sum(map(len, self.starts.values())) / (self.last - self.first)

    @property
    def warming(self) -> float:
        """What the first run of the first worker took longer than its next ones."""
        starts = max(self.starts.values(), key=len)
        periods = [b - a for a, b in zip(starts, starts[1:], strict=False)]
        return periods[0] - statistics.median(periods[1:])


def sweep(folder: Path, name: str, runs: int, workers: int, steps: int, *overrides: str) -> Sweep:
    """Give the command line of a sweep over seeds in `folder`."""
    command = [sys.executable, "-m", "creditlab", "-m", f"sweep={name}", f"seed=range({runs})", "device=cpu"]
    keys = [f"training.steps={steps}", f"hydra.launcher.workers={workers}", *overrides]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    began = time.time()
    done = subprocess.run(
        [*command, *keys], cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    end = time.time() - began
    if done.returncode:
        raise SystemExit(done.stderr)
    starts: dict[int, list[float]] = {}
    found = records.read_sweep(folder / "multirun" / name)
    for run in sorted(found, key=lambda run: run.record["started"]):
        starts.setdefault(run.record["pid"], []).append(run.record["started"] - began)
    last = max((run.folder / "summary.json").stat().st_mtime for run in found) - began
    return Sweep(folder / "multirun" / name, starts, last, end)


def overhead(folder: Path, runs: int) -> None:
    console.print(f"\n[bold]Overhead[/] of {runs} runs of {OVERHEAD_STEPS} steps on one worker; {load()}")
    target = "algorithm._target_=benchmarks.anatomy.Timed"
    done = sweep(folder, "overhead", runs + 2, 1, OVERHEAD_STEPS, target)
    lines = [json.loads(line)["parts"] for line in (done.folder / "anatomy.jsonl").read_text().splitlines()]
    told = [{part: Seconds(*seconds) for part, seconds in line.items()} for line in lines]
    parts = {part: [one.get(part, Seconds()) for one in told] for part in dict.fromkeys(p for one in told for p in one)}
    del parts[STEPS]
    total = [sum(each, Seconds()) for each in zip(*parts.values(), strict=True)]
    asked = [sum(each, Seconds()) for each in zip(*(s for p, s in parts.items() if p.endswith(ASKED)), strict=True)]
    ordered = sorted(parts.items(), key=lambda item: -statistics.median(s.wall for s in item[1]))
    rows = [[f"  {part}", *_milliseconds(seconds), ""] for part, seconds in ordered]
    rows.append(["all but the training steps", *_milliseconds(total), "< 200"])
    rows.append(["… evaluations and instruments left out", *_milliseconds([t - a for t, a in zip(total, asked)]), ""])
    show("Milliseconds a run", ["", "wall, median", "least", "processor, median", "least", "goal"], rows)
    start = [f"{seconds:.1f}" for seconds in (done.first, done.warming, done.end - done.last)]
    show("Start-up, seconds", ["command to first run", "first run longer by", "last run to prompt"], [start])


def _milliseconds(seconds: list[Seconds]) -> list[str]:
    clocks = ([s.wall for s in seconds], [s.cpu for s in seconds])
    return [f"{1000 * of(clock):.1f}" for clock in clocks for of in (statistics.median, min)]


def scaling(folder: Path, rounds: int, runs: int, steps: int) -> None:
    console.print(f"\n[bold]Scaling[/] of sweeps of {runs} runs of {steps} steps; {load()}")
    rates: dict[int, list[float]] = {1: [], 2: []}
    for number in range(rounds):
        for workers in (1, 2) if number % 2 == 0 else (2, 1):
            rates[workers].append(sweep(folder, f"{workers}-{number}", runs, workers, steps).rate)
    rows = [[f"{w}", f"{statistics.median(r):.2f}", f"{max(r):.2f}", "", ""] for w, r in rates.items()]
    rows[1][3:] = [ratio(rates[2], rates[1]), "≥ 1.8"]
    show("Runs a second", ["workers", "median", "best", "ratio", "goal when idle"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=12, help="of a sweep; even")
    parser.add_argument("--steps", type=int, default=400, help="of a run in the sweeps that scale")
    parser.add_argument("--rounds", type=int, default=2, help="of sweeps with one worker and with two")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        overhead(Path(folder), chosen.runs)
        scaling(Path(folder), chosen.rounds, chosen.runs, chosen.steps)


if __name__ == "__main__":
    main()
