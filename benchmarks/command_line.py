"""How soon the command line answers: help, and a mistake in the configuration. Goal: under 1 s each.

python -m benchmarks.command_line
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.measure import SPREAD, Seconds, call, console, load, show, spread

CREDITLAB = ["-m", "creditlab"]
CALLS = {
    "python -c pass (for comparison)": (["-c", "pass"], 0),
    "creditlab --help": ([*CREDITLAB, "--help"], 0),
    "creditlab algorithm=bpp": ([*CREDITLAB, "algorithm=bpp"], 2),
    "creditlab optimiser.lrr=3": ([*CREDITLAB, "optimiser.lrr=3"], 2),
    "creditlab -m seed=1,x": ([*CREDITLAB, "-m", "seed=1,x"], 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=7)
    chosen = parser.parse_args()
    console.print(load())
    taken: dict[str, list[Seconds]] = {name: [] for name in CALLS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(chosen.calls):
            for name, (arguments, status) in CALLS.items():
                done, seconds = call(arguments, Path(folder))
                assert done.returncode == status, done.stderr
                taken[name].append(seconds)
    rows = [[name, *spread(seconds), "< 1" if "creditlab" in name else ""] for name, seconds in taken.items()]
    show(f"Seconds, {chosen.calls} calls", ["", *SPREAD, "goal"], rows)


if __name__ == "__main__":
    main()
