"""What each instrument costs, and what all of them together take of a run.

    python -m benchmarks.instruments --root data       on the real MNIST and CIFAR-10

For the MNIST MLP (784-256-128-10), the 4-layer convnet and ResNet-18 on CIFAR-10: milliseconds of one look of each
metric of `metrics=full`, beside what several share (a pass of the probe samples, singular values, backpropagation on
the batch). From these and the milliseconds of a training step follows the share of a run of so many steps; for the MLP
real runs with `light` and `full` are timed beside it (`seconds_metrics` of `seconds`).

Goals, at the default schedules: light at most 5 %, full at most 20 % of a run's wall time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.measure import console, load, plan, show
from creditlab import seeding
from creditlab.metrics import SCOPES
from creditlab.metrics.observe import Observation, evaluate
from creditlab.metrics.probe import gradients
from creditlab.training import Parts, assemble, train

NETWORKS = {
    "MLP": (["dataset=mnist", "architecture=mlp", "architecture.widths=[256,128]"], 4680),  # 10 epochs
    "convnet, depth 4": (["dataset=cifar10", "architecture=convnet", "architecture.depth=4"], 50_000),
    "ResNet-18": (["dataset=cifar10", "architecture=resnet18"], 39_000),  # 100 epochs
}
SHARED = {
    "activations (shared)": ("activations", "activation_map"),
    "singular values of W (shared)": ("weights", "singular_values"),
    "singular values of W − W₀ (shared)": ("changes", "singular_values"),
    "scores (shared)": ("network", "scores"),
}


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """The least of `repeats`."""
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return 1000 * best


def step(parts: Parts, number: int, listening: bool) -> None:
    x, y = parts.dataset.batch(torch.arange(128) + 128 * (number % 10))
    noise = seeding.generator(0, "algorithm", number)
    readings = parts.algorithm.assign(parts.network, x, y, generator=noise, probe=listening)
    parts.instruments.assigned(number, x, y, readings, listening)
    parts.optimiser.step()
    parts.instruments.updated()


def costs(
    overrides: list[str], option: str, folder: Path, repeats: int
) -> tuple[dict[str, float], dict[str, int], float]:
    """Milliseconds of a look by instrument, looks a run, and milliseconds of a training step."""
    parts = assemble(plan(folder, *overrides, f"metrics={option}", "training.steps=1000", "device=cpu").config)
    instruments = parts.instruments
    instruments.begin()
    for number in range(1, 4):
        step(parts, number, listening=False)
    if instruments.trajectory is not None:
        for _ in range(instruments.trajectory.length):
            instruments.trajectory.add(gradients(parts.network))
    train_step = milliseconds(lambda: step(parts, 5, False), 5)
    listened = milliseconds(lambda: step(parts, 5, True), 3) if instruments.listens else train_step
    looks = len(instruments.probes) + 1
    found, times = {"backpropagation beside the rule (shared)": listened - train_step}, {}
    asked = {n for names in instruments.asked.values() for n in names}
    fresh = instruments.observe
    for name, (scope, thing) in SHARED.items():
        if thing in asked or thing == "activation_map":
            found[name] = milliseconds(lambda s=scope, t=thing: fresh().find(s, t), repeats)
    seen: Observation = fresh()
    for scope, names in SCOPES.items():
        for name in names:
            if name in asked:
                seen.find(scope, name)
    seen.find("changes", "singular_values")
    for name, (metric, keys, at_ends) in instruments.metrics.items():
        work = lambda n=name, m=metric, k=keys: evaluate(n, m, k, seen, lambda: seeding.generator(0, f"metrics/{n}"))  # noqa: E731
        found[name] = milliseconds(work, 1 if at_ends else repeats)
        times[name] = 2 if at_ends else looks
    return found, dict.fromkeys(found, looks) | times, train_step


def runs(root: str, folder: Path) -> list[list[str]]:
    """Real runs of the MLP with and without instruments."""
    overrides, steps = NETWORKS["MLP"]
    rows = []
    for option in ("none", "light", "full"):
        planned = plan(folder / option, *overrides, f"dataset.root={root}", f"metrics={option}",
                       f"training.steps={steps}", "device=cpu", "training.keep_weights=false")  # fmt: skip
        run = train(planned.config, planned.folder, lambda *_: None, {})
        whole, metrics = run.summary["seconds"], run.summary["seconds_metrics"]
        goal = {"none": "", "light": "≤ 5 %", "full": "≤ 20 %"}[option]
        rows.append([option, f"{whole:.2f}", f"{metrics:.2f}", f"{metrics / whole:.1%}", goal])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder of the real data sets")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        for network in chosen.networks:
            overrides, steps = NETWORKS[network]
            rows = []
            for option in ("light", "full"):
                found, looks, train_step = costs(
                    [*overrides, f"dataset.root={chosen.root}"], option, Path(scratch), chosen.repeats
                )
                spent = {name: looks[name] * ms for name, ms in found.items()}
                if option == "full":
                    rows += [[name, f"{ms:.2f}", str(looks[name]), f"{spent[name] / (steps * train_step):.2%}"]
                             for name, ms in found.items()]  # fmt: skip
                whole = sum(spent.values())
                share = whole / (steps * train_step + whole)
                goal = "≤ 5 %" if option == "light" else "≤ 20 %"
                rows.append([f"[bold]all of {option}[/]", f"{whole:.0f} a run", "", f"{share:.1%} (goal {goal})"])
            console.print(f"\n{load()}")
            title = f"{network}: a step {train_step:.2f} ms, a run {steps:,} steps"
            show(title, ("instrument", "ms a look", "looks", "of the run"), rows)
        if "MLP" in chosen.networks:
            console.print(f"\n{load()}")
            title = f"Real runs of the MLP, {NETWORKS['MLP'][1]:,} steps"
            show(
                title, ("metrics", "seconds", "of them instruments", "share", "goal"), runs(chosen.root, Path(scratch))
            )


if __name__ == "__main__":
    main()
