"""The phenomena that the two studies report, as the instruments see them on real data: tables from a sweep's records.

    creditlab -m +experiment=instruments/geometry sweep=geometry dataset.root=DATA \\
        algorithm=bp,fa,ff,ff_naive 'seed=range(3)'      # es and another ff_naive: docs/phenomena.md
    python -m benchmarks.phenomena geometry multirun/geometry

    creditlab -m +experiment=instruments/signals sweep=signals dataset.root=DATA \\
        algorithm=bp,fa optimiser=adamw,muon architecture.norm=none,batch 'seed=range(2)'
    python -m benchmarks.phenomena signals multirun/signals

Mean ± standard deviation over seeds, of the finished runs. Figures and what they say: docs/phenomena.md.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import show
from creditlab import records
from creditlab.records import Run

GEOMETRY = {
    "Block fc1 at the end, and at initialisation": {
        "accuracy %": ("test/accuracy", 100),
        "stable rank": ("weights/fc1/stable_rank", 1),
        "at init": ("weights/fc1/stable_rank@init", 1),
        "of W − W₀": ("changes/fc1/stable_rank", 1),
        "‖W−W₀‖/‖W₀‖": ("weights/fc1/relative_change", 1),
        "dead %": ("activations/fc1/dead_fraction", 100),
        "zero %": ("activations/fc1/zero_fraction", 100),
        "selectivity %": ("activations/fc1/class_selectivity", 100),
    },
    "Angle between neurons of fc1, degrees, at the end": {
        "all": ("weights/fc1/neuron_angle", 1),
        "alive–alive": ("weights/fc1/neuron_angle_pairs_alive_alive", 1),
        "alive–dead": ("weights/fc1/neuron_angle_pairs_alive_dead", 1),
        "dead–dead": ("weights/fc1/neuron_angle_pairs_dead_dead", 1),
    },
}
ANGLE = "weights/fc1/neuron_angle"
BLOCKS = [f"conv{i}" for i in range(1, 5)]
SIGNALS = {
    "Effective rank of the gradient, mean over the last half of the looks": "signals/{}/gradient_effective_rank",
    "Effective rank of the error signal, likewise": "signals/{}/error_effective_rank",
    "Effective rank of the Gram matrix of the last 100 gradients, at the end": "signals/{}/trajectory_effective_rank",
    "Angle of the gradient with backpropagation's, mean over the last half": "signals/{}/gradient_to_true_angle",
    "Cosine of forward and feedback weights, at the end": "weights/{}/feedback_alignment_cosine",
}


def cell(values: Sequence[float]) -> str:
    """Mean ± standard deviation."""
    values = [v for v in values if math.isfinite(v)]
    if not values:
        return "–"
    digits = 1 if abs(statistics.mean(values)) >= 10 else 2
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def grouped(sweep: Path, factors: Sequence[str]) -> dict[str, list[Run]]:
    """Finished runs by their levels of `factors`, seeds together."""
    groups: dict[str, list[Run]] = {}
    for run in records.read_sweep(sweep):
        if run.finished and run.config is not None:
            flat = records.flatten(run.config) | run.config["choices"]
            groups.setdefault(" ".join(f"{flat[f]}" for f in factors), []).append(run)
    return groups


def last(run: Run, name: str) -> float:
    """`name` at the end."""
    return run.metrics.get(name, math.nan)


def late(run: Run, name: str) -> float:
    """The mean of `name` over the last half of the looks."""
    seen = [row["metrics"][name] for row in run.history() if name in row["metrics"]]
    return statistics.mean(seen[len(seen) // 2 :]) if seen else math.nan


def geometry(sweep: Path) -> None:
    runs = grouped(sweep, ["algorithm"])
    for title, columns in GEOMETRY.items():
        rows = [
            [
                level,
                *(cell([scale * run.metrics.get(name, math.nan) for run in group]) for name, scale in columns.values()),
            ]
            for level, group in runs.items()
        ]
        show(title, ["algorithm", *columns], rows)
    by_step: dict[str, dict[float, list[float]]] = {}
    for level, group in runs.items():
        for row in (row for run in group for row in run.history() if ANGLE in row["metrics"]):
            by_step.setdefault(level, {}).setdefault(row["epoch"], []).append(row["metrics"][ANGLE])
    epochs = sorted({epoch for seen in by_step.values() for epoch in seen})
    near = {min(epochs, key=lambda e, at=at: abs(e - at)) for at in (0, 0.01, 0.03, 0.1, 0.3, 1, 2, 5, 10, 20)}
    shown = sorted(near)
    rows = [[level, *(cell(seen.get(e, [])) for e in shown)] for level, seen in by_step.items()]
    show("Angle between neurons of fc1 by epoch, degrees", ["algorithm", *(f"{e:.2g}" for e in shown)], rows)


def signals(sweep: Path) -> None:
    runs = grouped(sweep, ["algorithm", "optimiser", "architecture.norm"])
    rows = [[level, cell([100 * run.metrics["test/accuracy"] for run in group])] for level, group in runs.items()]
    show("Accuracy, %", ["algorithm, optimiser, norm", "test"], rows)
    for title, pattern in SIGNALS.items():
        rows = []
        for level, group in runs.items():
            names = [pattern.format(block) for block in (*BLOCKS, "readout")]
            take = last if "at the end" in title else late
            rows.append([level, *(cell([take(run, name) for run in group]) for name in names)])
        show(title, ["algorithm, optimiser, norm", *BLOCKS, "readout"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=["geometry", "signals"])
    parser.add_argument("sweep", type=Path)
    chosen = parser.parse_args()
    {"geometry": geometry, "signals": signals}[chosen.which](chosen.sweep)


if __name__ == "__main__":
    main()
