"""Evolution strategies of full rank against rank 1: processor time until equal accuracy.

    python -m benchmarks.es_rank                              on digits: a minute or so
    python -m benchmarks.es_rank --dataset mnist --root DATA  on MNIST: an hour or so

Both have the same network, population, batches and seeds; each its faster way of evaluating (`algorithm.chunk`) and the
learning rate, of `--rates`, that takes it to the last of `--targets` soonest (median over seeds; a seed that does not
get there counts as never). Time is that of the steps alone, without evaluations, which are every fifth step.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from benchmarks.measure import console, load, now, plan, ratio, show
from creditlab.training import open_trainer

EVERY = 5  # steps between evaluations
RANKS = {"full": 1, "1": 128}  # and the chunk


def times(config: Mapping, targets: list[float]) -> list[float]:
    """Processor seconds until each accuracy of `targets`, infinite for those not reached."""
    spent, reached = 0.0, dict.fromkeys(targets, math.inf)

    def report(step: int, of: int, metrics: Mapping[str, float]) -> None:
        for target, seconds in reached.items():
            if metrics["test/accuracy"] >= target and seconds == math.inf:
                reached[target] = spent

    with tempfile.TemporaryDirectory() as folder, open_trainer(config, Path(folder), report, {}) as trainer:
        while trainer is not None and trainer.running:
            began = now()
            x, y = trainer.load(trainer.begin_step())
            readings = trainer.assign(x, y)
            trainer.before_update(x, y, readings)
            trainer.update()
            spent += (now() - began).cpu
            trainer.after_update(readings)
    return list(reached.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits", choices=("digits", "mnist"))
    parser.add_argument("--root", help="folder that holds MNIST/raw")
    parser.add_argument("--population", type=int, default=128)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.01, 0.03, 0.1])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--targets", type=float, nargs="+", default=[0.85, 0.9])
    parser.add_argument("--steps", type=int, default=400, help="at most")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    console.print(load())
    data = [f"dataset={chosen.dataset}", *([f"dataset.root={chosen.root}"] if chosen.root else [])]
    keys = [*data, "algorithm=es", f"algorithm.population={chosen.population}", "architecture.widths=[64]"]
    keys += ["dataset.normalise=unit", "metrics=none", "device=cpu", f"training.steps={chosen.steps}"]
    keys += [f"training.evaluations={chosen.steps // EVERY}", f"training.stop_at_accuracy={max(chosen.targets)}"]

    def run(rank: str, rate: float, seed: int) -> list[float]:
        keys_of_run = [
            f"algorithm.rank={rank}",
            f"algorithm.chunk={RANKS[rank]}",
            f"optimiser.lr={rate}",
            f"seed={seed}",
        ]
        return times(plan(Path(), *keys, *keys_of_run).config, sorted(chosen.targets))

    seconds = {  # the ranks take turns
        (rank, rate): [] for rate in chosen.rates for rank in RANKS
    }
    for seed in range(chosen.seeds):
        for (rank, rate), taken in seconds.items():
            taken.append(run(rank, rate, seed))
    best = {r: min(chosen.rates, key=lambda rate: statistics.median(t[-1] for t in seconds[r, rate])) for r in RANKS}
    rows = []
    for number, target in enumerate(sorted(chosen.targets)):
        full, low = ([t[number] for t in seconds[rank, best[rank]]] for rank in RANKS)
        spread = [f"{statistics.median(s):.2f} ({min(s):.2f} to {max(s):.2f})" for s in (full, low)]
        rows.append([f"accuracy {target:g}", *spread, ratio(full, low)])
    title = f"Processor seconds on {chosen.dataset}, population {chosen.population}, {chosen.seeds} seeds"
    columns = ["until", *(f"rank {rank}, lr {best[rank]:g}" for rank in RANKS), "full over 1"]
    show(title, columns, rows)


if __name__ == "__main__":
    main()
