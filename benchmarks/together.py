"""Seeds trained together (`hydra.launcher.together`) against one after the other, in one process.

    python -m benchmarks.together [--device cuda] [--seeds 4 16] [--root DATA]

Each round does the same runs both ways, with one thread on a CPU. *Step* is what a step of one seed takes: whole runs
of `--steps` steps less those of a quarter of them, one evaluation each, without instruments and weights kept. *Whole*
is a run of `--steps` steps as configured by default: evaluations, instruments and record, which are each run's own
either way and bound what training together can give.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.measure import Seconds, console, load, now, plan, ratio, show
from creditlab.sweep.plan import Planned
from creditlab.together import train_together
from creditlab.training import open_trainer

BARE = ["metrics=none", "training.evaluations=1", "training.keep_weights=false"]
KINDS = {
    "tiny": ("digits 64-32-10, batch 32", ["dataset=digits", "architecture.widths=[32]", "training.batch_size=32"]),
    "digits": ("digits 64-256-128-10, batch 128", ["dataset=digits"]),
    "mnist": ("MNIST 784-256-128-10, batch 128", ["dataset=mnist"]),
}
RULES = ("bp", "fa", "dfa")


def runs(folder: Path, seeds: int, *overrides: str) -> list[Planned]:
    return [plan(folder, *overrides, f"seed={seed}") for seed in range(seeds)]


def seconds(planned: list[Planned], at_once: int) -> Seconds:
    """What all of `planned` take, so many at once."""
    began = now()
    for first in range(0, len(planned), at_once):
        some = planned[first : first + at_once]
        begun = {r.folder.name: open_trainer(r.config, r.folder, lambda *_: None, {}) for r in some}
        train_together(begun, check)
    return now() - began


def check(name: str, error: BaseException | None) -> None:
    if error:
        raise error


def measure(overrides: list[str], seeds: int, at_once: int) -> Seconds:
    """The same runs in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        return seconds(runs(Path(folder), seeds, *overrides), at_once)


def row(kind: str, keys: list[str], seeds: int, chosen: argparse.Namespace) -> list[str]:
    long, short = f"training.steps={chosen.steps}", f"training.steps={chosen.steps // 4}"
    alone: list[Seconds] = []
    together: list[Seconds] = []
    whole: tuple[list[Seconds], list[Seconds]] = ([], [])
    measure([*keys, *BARE, short], 1, 1)  # to warm up
    for number in range(chosen.rounds):
        for at_once in (1, seeds) if number % 2 else (seeds, 1):
            step = measure([*keys, *BARE, long], seeds, at_once) - measure([*keys, *BARE, short], seeds, at_once)
            (alone if at_once == 1 else together).append(step / (seeds * (chosen.steps - chosen.steps // 4)))
            whole[at_once > 1].append(measure([*keys, long], seeds, at_once))
    cells = [f"{1000 * min(s.wall for s in times):.3f}" for times in (alone, together)]
    for clock in ("wall", "cpu"):
        cells.append(ratio([getattr(s, clock) for s in alone], [getattr(s, clock) for s in together]))
        cells.append(ratio([getattr(s, clock) for s in whole[0]], [getattr(s, clock) for s in whole[1]]))
    return [f"{kind}, {seeds} seeds", *cells]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rules", nargs="+", default=["bp"], choices=RULES)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--root", help="folder that holds MNIST/raw; random images if not given")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    console.print(f"{chosen.device}; {load()}")
    source = f"dataset.root={chosen.root}" if chosen.root else "dataset._target_=benchmarks.images.RandomImages"
    rows = []
    for rule in chosen.rules:
        for kind, keys in (KINDS[name] for name in chosen.kinds):
            more = [source] if "dataset=mnist" in keys else []
            given = [*keys, *more, f"device={chosen.device}", f"algorithm={rule}"]
            rows += [row(f"{rule}, {kind}", given, seeds, chosen) for seeds in chosen.seeds]
    ratios = [f"{clock}: {what}" for clock in ("ratio, wall", "ratio, processor") for what in ("step", "whole")]
    title = f"One after the other over together, {chosen.rounds} rounds of {chosen.steps} steps"
    show(title, ["", "step alone, ms", "together, ms", *ratios], rows)


if __name__ == "__main__":
    main()
