"""How soon the command line answers: help, and a mistake in the configuration. Goal: under 1 s each.

python -m benchmarks.command_line
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.measure import console, load, show

CREDITLAB = ["-m", "creditlab"]
CALLS = {
    "python -c pass (for comparison)": (["-c", "pass"], 0),
    "creditlab --help": ([*CREDITLAB, "--help"], 0),
    "creditlab algorithm=bpp": ([*CREDITLAB, "algorithm=bpp"], 2),
    "creditlab optimiser.lrr=3": ([*CREDITLAB, "optimiser.lrr=3"], 2),
    "creditlab -m seed=1,x": ([*CREDITLAB, "-m", "seed=1,x"], 2),
}


def call(arguments: list[str], status: int, folder: str) -> tuple[float, float]:
    """Wall and processor seconds of a call of python, which must end with `status`."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == status, done.stderr.decode()
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=7)
    chosen = parser.parse_args()
    console.print(load())
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in CALLS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(chosen.calls):
            for name, (arguments, status) in CALLS.items():
                taken[name].append(call(arguments, status, folder))
    rows = []
    for name, seconds in taken.items():
        clocks = [f"{of(clock):.2f}" for clock in zip(*seconds, strict=True) for of in (statistics.median, min)]
        rows.append([name, *clocks, "< 1" if "creditlab" in name else ""])
    show(f"Seconds, {chosen.calls} calls", ["", "wall, median", "least", "processor, median", "least", "goal"], rows)


if __name__ == "__main__":
    main()
