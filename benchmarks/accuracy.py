"""Accuracy on MNIST of the recipes in conf/experiment/mnist, beside the goal and the published figure.

    python benchmarks/accuracy.py --root DATA [--only bp fa] [--seeds 1] [--workers 2]

One sweep in multirun/accuracy: a recipe that is finished is not trained again. DATA holds MNIST/raw. Evolution
strategies and forward-forward take some tens of minutes on one core, the others a few.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from creditlab import records

GOALS = {  # recipe: our goal in %, published accuracy in % and where
    "bp": ("≥ 98.3", "98.4 to 98.6, two hidden layers (Hinton 2022; Nøkland 2016)"),
    "fa": ("≥ 97.5", "97.8, 784-500-10, 400 epochs (Akrout's logs)"),
    "dfa": ("≥ 97.5", "98.3, 2 × 800 tanh, 300 epochs (Nøkland 2016)"),
    "es": ("≥ 95", "97, a convolutional net, 512 generations of 256 (evosax notebook)"),
    "ff": ("≥ 98.3", "98.6 (Hinton 2022), 98.55, 3 × 1000, 100 epochs (loeweX)"),
    "ff_naive": ("85 to 93", "93.2, 2 × 500 (the most-copied port); about 86 (others)"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, type=Path, help="folder that holds MNIST/raw")
    parser.add_argument("--only", nargs="+", choices=GOALS, default=list(GOALS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", default="null")
    parser.add_argument("--sweep", default="accuracy", help="name of the sweep's folder in multirun")
    parser.add_argument("--set", nargs="*", default=[], help="further overrides, such as training.epochs=0.1")
    chosen = parser.parse_args()
    for recipe in chosen.only:
        keys = [
            f"+experiment=mnist/{recipe}",
            f"dataset.root={chosen.root.resolve()}",
            "metrics=none",
            f"sweep={chosen.sweep}",
        ]
        keys += [f"seed=range({chosen.seeds})", f"hydra.launcher.workers={chosen.workers}"]
        keys += chosen.set
        command = [sys.executable, "-m", "creditlab", "-m", *keys]
        subprocess.run(command, check=True)
    runs = records.read_sweep(Path("multirun") / chosen.sweep)
    table = Table(
        "recipe", "network", "epochs or steps", "runs", "test accuracy %", "goal", "published", "minutes per run"
    )
    for recipe in chosen.only:
        finished = [r for r in runs if r.finished and r.config and r.config["choices"]["algorithm"] == recipe]
        if not finished:
            continue
        config = finished[0].config
        assert config is not None
        widths = "-".join(map(str, config["architecture"]["widths"]))
        training = config["training"]
        length = f"{training['epochs']:g} epochs" if training["epochs"] else f"{training['steps']} steps"
        accuracies = [100 * r.metrics["test/accuracy"] for r in finished]
        spread = f" ± {statistics.stdev(accuracies):.2f}" if len(finished) > 1 else ""
        minutes = statistics.mean(r.summary["seconds"] for r in finished) / 60
        mean = f"{statistics.mean(accuracies):.2f}{spread}"
        table.add_row(recipe, f"784-{widths}-10", length, str(len(finished)), mean, *GOALS[recipe], f"{minutes:.1f}")
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
