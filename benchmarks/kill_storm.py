"""A sweep under a storm of SIGKILLs, which must end bit for bit as the same sweep does without one.

    python -m benchmarks.kill_storm [--kills 200]

The sweep has two workers. At random moments some of its processes are killed: the command itself, a worker, or several
of them at once, while they start, train, write a checkpoint or end. The same command is then given again, until enough
kills were made and all runs are finished. At the end the weights, the history, the arrays and the metrics of each run
are compared with those of an undisturbed sweep. Ctrl-C ends the storm early, but not the comparison. The exit status is
1 if anything differs or if there were fewer kills than asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from benchmarks.measure import console
from creditlab import interrupt, records

KEYS = [
    *("-m", "sweep=storm", "algorithm=bp,fa", "optimiser=sgd,adamw", "hydra.launcher.workers=2"),
    *("training.steps=400", "training.evaluations=8", "training.batch_size=32", "training.checkpoint_seconds=0.2"),
    *("metrics=none", "device=cpu"),
]
FILES = ("weights.safetensors", "history.jsonl", "arrays.npz")
ATTEMPTS = 1000  # commands, at most


@dataclass
class Storm:
    """What was killed, and how the commands ended."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)  # by process and by what it was doing
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def total(self) -> int:
        return self.kills.total()


def command(folder: Path, seeds: int) -> subprocess.Popen[bytes]:
    keys = [*KEYS, f"seed=range({seeds})"]
    with open(folder / "output.txt", "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "creditlab", *keys],
            cwd=folder, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip


def workers_of(parent: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    return []


def activity(pid: int, sweep: Path) -> str:
    """What a worker is doing: it trains if it holds the lock of a run."""
    for path in sweep.glob("*/lock"):
        with contextlib.suppress(OSError):
            if f'"pid": {pid},' in path.read_text():
                return "trains"
    return "starts or is between runs"


def kill_some(parent: int, sweep: Path, rng: random.Random, storm: Storm) -> None:
    """Kill the command `parent`, some of its workers, both or none. The chances are such that workers get to train."""
    workers = workers_of(parent)
    victims = [pid for pid in workers if rng.random() < 0.5] + [parent] * (rng.random() < 0.25)
    activities = {pid: ("worker", activity(pid, sweep)) for pid in workers}
    activities[parent] = ("command", "has workers" if workers else "starts")
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            storm.kills[activities[pid]] += 1
            print(f"\r{storm.total} kills", end="", file=sys.stderr, flush=True)


def calm_seconds(folder: Path, seeds: int) -> float:
    """Give the command without a storm. Returns the seconds until its workers train."""
    began = time.monotonic()
    process = command(folder, seeds)
    while process.poll() is None and not list(folder.glob("multirun/storm/*/history.jsonl")):
        time.sleep(0.05)
    start = time.monotonic() - began
    if process.wait():
        raise SystemExit((folder / "output.txt").read_text())
    return start


def rage(folder: Path, seeds: int, kills: int, pause: float, rng: random.Random) -> Storm:
    """Give the command, kill its processes every 0 to `pause` seconds and give it again, until there were `kills` and
    all runs are finished. When all runs are finished too early, some of them start over.
    """
    interrupt.watch(signal.SIGINT)
    storm, began, sweep = Storm(), time.monotonic(), folder / "multirun" / "storm"
    for _ in range(ATTEMPTS):
        process = command(folder, seeds)
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, pause))
            if process.poll() is None and storm.total < kills and not interrupt.asked():
                kill_some(process.pid, sweep, rng, storm)
        storm.statuses[process.wait()] += 1
        if process.returncode == 0:
            if storm.total >= kills or interrupt.asked():
                break
            for run in records.read_sweep(sweep):
                if rng.random() < 0.5:
                    records.forget(run.folder)
    storm.seconds = time.monotonic() - began
    return storm


def differences(folder: Path, undisturbed: Path) -> list[str]:
    """What the runs of `folder` have otherwise than those of `undisturbed`."""
    stormy, calm = (
        {run.name: run for run in records.read_sweep(f / "multirun" / "storm")} for f in (folder, undisturbed)
    )
    differing = [f"{name}: there is no such run" for name in sorted(stormy.keys() ^ calm.keys())]
    for name in sorted(stormy.keys() & calm.keys()):
        one, other = stormy[name], calm[name]
        if not one.finished:
            differing.append(f"{name}: {one.status} {one.problem}")
            continue
        differing += [
            f"{name}: {file}"
            for file in FILES
            if (one.folder / file).read_bytes() != (other.folder / file).read_bytes()
        ]
        differing += [f"{name}: metrics of the summary"] if one.metrics != other.metrics else []
        left = [p.name for p in one.folder.iterdir() if p.name in ("lock", "checkpoint.pt", "error.txt")]
        left += [p.name for p in one.folder.glob(".*.tmp")]
        differing += [f"{name}: {file} was left" for file in left]
    return differing


def show(storm: Storm, runs: int, differing: list[str]) -> None:
    print(file=sys.stderr)
    table = Table(title=f"{storm.total} SIGKILLs, {runs} runs, {storm.seconds:.0f} s")
    for column in ("killed", "while it", "times"):
        table.add_column(column, justify="right" if column == "times" else "left")
    for (process, doing), times in sorted(storm.kills.items()):
        table.add_row(process, doing, str(times))
    console.print(table)
    names = {0: "all finished", 1: "runs failed", 4: "runs left to others", -signal.SIGKILL: "killed"}
    statuses = [f"{names.get(status, f'exit status {status}')} {n} ×" for status, n in sorted(storm.statuses.items())]
    console.print(f"commands: {', '.join(statuses)}")
    for difference in differing:
        console.print(difference)
    console.print(f"{len(differing)} differences from the undisturbed sweep")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3, help="there are four runs per seed")
    parser.add_argument("--random-seed", type=int, default=0, help="of the moments and the victims")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        calm, stormy = Path(folder) / "calm", Path(folder) / "stormy"
        calm.mkdir()
        stormy.mkdir()
        pause = 0.5 * calm_seconds(calm, chosen.seeds)
        storm = rage(stormy, chosen.seeds, chosen.kills, pause, random.Random(chosen.random_seed))
        differing = differences(stormy, calm)
        show(storm, 4 * chosen.seeds, differing)
        if differing:
            console.print((stormy / "output.txt").read_text()[-5000:])
        return 1 if differing or storm.total < chosen.kills else 0


if __name__ == "__main__":
    sys.exit(main())
