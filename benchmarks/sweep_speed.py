"""What a sweep costs beside training: a run's overhead on a warm worker by part, start-up, and scaling over workers.

    python -m benchmarks.sweep_speed

Gives real command lines in a temporary folder: an MLP on digits, with the default evaluations, instruments and files;
`benchmarks.anatomy` sits in the workers as a user's own rule would.

*Overhead* is all of a warm worker's time but the training steps, from the start of a run to the start of the next.
*Start-up* is from the command to the first run, and what a worker's first run takes longer than its next ones.
*Planning* is what the parent takes to compose and check one more seed before anything starts: the command of a hundred
runs of which the last is invalid, less the command of that one alone. *Scaling* is the rate of runs of warm workers,
one and two of them taking turns. Where others use the cores too, read it *by processor time*: twice what a run takes
with one worker over what it takes with two, which is what idle cores would give.

Goals: overhead of at most 0.1 s a run beside the evaluations and instruments that the config asks for; two
workers 1.8 times as fast as one where two cores are idle.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.anatomy import STEPS
from benchmarks.measure import SPREAD, Seconds, call, console, load, ratio, show, spread
from creditlab import records

CREDITLAB = ["-m", "creditlab", "-m", "device=cpu", "algorithm._target_=benchmarks.anatomy.Timed"]
OVERHEAD_STEPS = 200  # steps do not count, but evaluations and probes need some
ASKED = ("evaluation", "instruments")  # parts that do what the config asks for, as a script by hand would


@dataclass
class Sweep:
    """What a sweep took. Times are in seconds from the command."""

    starts: dict[int, list[float]]  # of the runs of each worker
    ends: dict[int, float]  # of its last run
    end: float  # of the command
    anatomy: list[dict[str, Seconds]]  # parts of each run but the first and the last of a worker

    @property
    def rate(self) -> float:
        """Runs a second of warm workers: each from the start of its second run on."""
        return sum((len(s) - 1) / (self.ends[worker] - s[1]) for worker, s in self.starts.items() if len(s) > 1)

    @property
    def processor(self) -> float:
        """Processor seconds of a run in a worker, by the median."""
        return statistics.median(total(parts.values()).cpu for parts in self.anatomy)


def total(parts: Iterable[Seconds]) -> Seconds:
    return sum(parts, Seconds())


def sweep(folder: Path, name: str, runs: int, workers: int, steps: int) -> Sweep:
    """Give the command line of a sweep over seeds."""
    keys = [f"sweep={name}", f"seed=range({runs})", f"training.steps={steps}", f"hydra.launcher.workers={workers}"]
    began = time.time()
    done, seconds = call([*CREDITLAB, *keys], folder)
    if done.returncode:
        raise SystemExit(done.stderr)
    starts: dict[int, list[float]] = defaultdict(list)
    ends: dict[int, float] = defaultdict(float)
    for run in records.read_sweep(folder / "multirun" / name):
        worker = run.record["pid"]
        starts[worker].append(run.record["started"] - began)
        ends[worker] = max(ends[worker], (run.folder / "summary.json").stat().st_mtime - began)
    lines = (folder / "multirun" / name / "anatomy.jsonl").read_text().splitlines()
    anatomy = [{part: Seconds(*s) for part, s in json.loads(line)["parts"].items()} for line in lines]
    return Sweep({worker: sorted(s) for worker, s in starts.items()}, ends, seconds.wall, anatomy)


def overhead(folder: Path, runs: int) -> None:
    console.print(f"\n[bold]Overhead[/] of {runs} runs on a warm worker; {load()}")
    done = sweep(folder, "overhead", runs + 2, 1, OVERHEAD_STEPS)
    parts_of_runs = [{part: s for part, s in parts.items() if part != STEPS} for parts in done.anatomy]
    by_part = {
        part: [parts.get(part, Seconds()) for parts in parts_of_runs]
        for part in dict.fromkeys(itertools.chain(*parts_of_runs))
    }
    rows = [[f"  {part}", *spread(s, 1000, 1), ""] for part, s in by_part.items()]
    rows.sort(key=lambda row: -float(row[1]))
    everything = [total(parts.values()) for parts in parts_of_runs]
    not_asked = [total(s for part, s in parts.items() if not part.endswith(ASKED)) for parts in parts_of_runs]
    rows.append(["all but the training steps", *spread(everything, 1000, 1), ""])
    rows.append(["… less evaluations and instruments", *spread(not_asked, 1000, 1), "≤ 100"])
    show("Milliseconds per run", ["", *SPREAD, "goal"], rows)

    (starts,), (last,) = done.starts.values(), done.ends.values()
    periods = [b - a for a, b in itertools.pairwise(starts)]
    warming = periods[0] - statistics.median(periods[1:])
    row = [f"{starts[0]:.1f}", f"{warming:.1f}", f"{done.end - last:.1f}"]
    show("Start-up, seconds", ["command to first run", "first run longer by", "last run to prompt"], [row])


def planning(folder: Path, rounds: int, runs: int = 100) -> None:
    console.print(f"\n[bold]Planning[/]; {load()}")
    taken = []
    for _ in range(rounds):
        many, one = (
            call([*CREDITLAB, f"seed={','.join(seeds)}"], folder) for seeds in ([*map(str, range(runs)), "x"], "x")
        )
        assert many[0].returncode == one[0].returncode == 2, many[0].stderr
        taken.append((many[1] - one[1]) / runs)
    show("Milliseconds per run, in the parent", SPREAD, [spread(taken, 1000, 1)])


def scaling(folder: Path, rounds: int, runs: int, steps: int) -> None:
    console.print(f"\n[bold]Scaling[/] of sweeps of {runs} runs of {steps} steps; {load()}")
    done: dict[int, list[Sweep]] = {1: [], 2: []}
    for number in range(rounds):
        for workers in (1, 2) if number % 2 == 0 else (2, 1):
            done[workers].append(sweep(folder, f"{workers}-{number}", runs, workers, steps))
    rates = {workers: [s.rate for s in sweeps] for workers, sweeps in done.items()}
    processor = {workers: [s.processor for s in sweeps] for workers, sweeps in done.items()}
    rows = [
        [f"{w}", f"{statistics.median(rates[w]):.2f}", f"{max(rates[w]):.2f}", f"{statistics.median(processor[w]):.2f}"]
        for w in done
    ]
    idle = ratio([2 * seconds for seconds in processor[1]], processor[2])
    rows[1] += [ratio(rates[2], rates[1]), idle, "≥ 1.8"]
    columns = ["workers", "runs/s, median", "best", "processor s", "ratio", "by processor time", "goal, idle"]
    show("Warm workers", columns, [rows[0] + [""] * 3, rows[1]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=12, help="of a sweep; even, at least 6")
    parser.add_argument("--steps", type=int, default=400, help="of a run in the sweeps that scale")
    parser.add_argument("--rounds", type=int, default=2, help="of planning, and of sweeps with one worker and with two")
    chosen = parser.parse_args()
    if chosen.runs % 2 or chosen.runs < 6:  # the first and the last run of a worker do not count
        parser.error(f"--runs {chosen.runs}: give an even number of at least 6")
    with tempfile.TemporaryDirectory() as folder:
        overhead(Path(folder), chosen.runs)
        planning(Path(folder), chosen.rounds)
        scaling(Path(folder), chosen.rounds, chosen.runs, chosen.steps)


if __name__ == "__main__":
    main()
