"""What each instrument costs, and what all of them together take of a run.

    python -m benchmarks.instruments --root data       on the real MNIST and CIFAR-10; ResNet-18 takes half an hour

For the MNIST MLP (784-256-128-10), the 4-layer convnet and ResNet-18 on CIFAR-10: milliseconds of one look of each
metric of `metrics=full`, beside what several share (a pass of the probe samples, singular values, backpropagation on
the batch, the test set's accuracy at a probe, the gradients of the trajectory). What instruments take of a run does not
depend on its length, for looks are so many points; so there is a shortest run within the goal. It is printed beside the
share of a run of usual length, whose own evaluations count to its time. For the MLP real runs with `light` and `full`
are timed beside it (`seconds_metrics` of `seconds`). Milliseconds are of processor time, on one thread; each line is
printed when it is known, so a benchmark that is cut short has told something.

What a large network would take minutes for is measured on a part and scaled: the test set on one chunk, what works on
a copy of the network (landscape, attacks) on some of its samples. Labels are the network's own answers: only samples
that it gets right are attacked, after training most of them.

Goals, at the default schedules: light at most 5 %, full at most 20 % of a run's wall time.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.measure import console, load, plan, show
from creditlab import seeding
from creditlab.algorithms.base import Batch
from creditlab.metrics.observe import evaluate
from creditlab.metrics.probe import gradients
from creditlab.parts import Parts, assemble
from creditlab.scopes import SCOPES
from creditlab.training import CHUNK, train

NETWORKS = {  # overrides, steps of a usual run, samples of the part that a copy of the network is measured on
    "MLP": (["dataset=mnist", "architecture=mlp", "architecture.widths=[256,128]"], 4680, 256),  # 10 epochs
    "convnet, depth 4": (["dataset=cifar10", "architecture=convnet", "architecture.depth=4"], 50_000, 64),
    "ResNet-18": (["dataset=cifar10", "architecture=resnet18"], 39_000, 32),  # 100 epochs
}
GOALS = {"light": 0.05, "full": 0.2}
EVALUATIONS = 10  # of every run, with instruments or without
SHARED = {
    "activations (shared)": ("activations", "activation_map"),
    "singular values of W (shared)": ("weights", "singular_values"),
    "singular values of W − W₀ (shared)": ("changes", "singular_values"),
}


@dataclass
class Costs:
    """Milliseconds of a training step, of an evaluation, and by instrument of a look, with looks a run."""

    step: float
    evaluation: float
    looks: dict[str, tuple[float, int]] = field(default_factory=dict)

    def note(self, name: str, milliseconds: float, looks: int) -> None:
        self.looks[name] = milliseconds, looks
        console.print(f"  {name}: {milliseconds:.2f} ms, {looks} looks")

    def whole(self) -> float:
        return sum(ms * looks for ms, looks in self.looks.values())

    def run(self, steps: int) -> float:
        """Without instruments."""
        return steps * self.step + EVALUATIONS * self.evaluation


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """The least of `repeats`."""
    best = float("inf")
    for _ in range(repeats):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return 1000 * best


def step(parts: Parts, number: int, listening: bool) -> None:
    x, y = parts.dataset.batch(torch.arange(128) + 128 * (number % 10))
    noise = seeding.generator(0, "algorithm", number)
    readings = parts.algorithm.assign(parts.network, Batch(x, y, generator=noise, probe=listening))
    parts.instruments.assigned(number, x, y, readings, listening)
    parts.optimiser.step()
    parts.instruments.updated()


@torch.no_grad()
def test_chunk(parts: Parts) -> None:
    parts.network.eval()
    parts.algorithm.predict(parts.network, parts.dataset.normalise(parts.dataset.test_x[:CHUNK]))
    parts.network.train()


def costs(overrides: list[str], option: str, folder: Path, repeats: int, part: int) -> Costs:
    parts = assemble(plan(folder, *overrides, f"metrics={option}", "training.steps=10000", "device=cpu").config)
    instruments, chunks = parts.instruments, len(parts.dataset.test_y) / CHUNK
    instruments.begin()
    step(parts, 1, listening=False)
    measured = Costs(
        milliseconds(lambda: step(parts, 2, False), repeats), chunks * milliseconds(lambda: test_chunk(parts), repeats)
    )
    console.print(f"  a step: {measured.step:.2f} ms, an evaluation: {measured.evaluation:.2f} ms")
    looks = len(instruments.probes) + 1
    measured.note(
        "test set at a probe (shared)", measured.evaluation, len(instruments.probes) - 1
    )  # the last is a run's own
    if instruments.listens:
        listened = milliseconds(lambda: step(parts, 3, True), repeats)
        measured.note("backpropagation beside the rule (shared)", max(0.0, listened - measured.step), looks - 1)
    if (kept := instruments.trajectory) is not None:
        kept.add(gradients(parts.network))  # draws the sketch
        sketch = milliseconds(lambda: kept.add(gradients(parts.network)), repeats)
        measured.note("gradients of the trajectory (shared)", sketch, kept.length)
        for _ in range(kept.length):
            kept.add(gradients(parts.network))
        step(parts, 4, True)
    asked = {n for names in instruments.asked.values() for n in names}
    for name, (scope, thing) in SHARED.items():
        if thing in asked or thing == "activation_map":
            of_arrays = 1 + instruments.compares if thing == "activation_map" else scope == "weights"  # and for CKA
            work = lambda s=scope, t=thing: instruments.observe().find(s, t)  # noqa: E731
            measured.note(name, milliseconds(work, repeats), looks + of_arrays)
    seen = instruments.observe()
    seen.find("activations", "activation_map")  # a pass that the scores of a linear read-out share
    scores = milliseconds(lambda: seen.find("network", "scores"), 1)
    if "scores" in asked:
        measured.note("scores (shared)", scores, looks)
    for scope, names in SCOPES.items():
        for name in names:
            if name in asked:
                seen.find(scope, name)
    seen.find("changes", "singular_values")
    answers = seen.find("network", "scores")[""].argmax(1)
    instruments.samples = replace(instruments.samples, label=answers)
    answered = instruments.observe()
    for name, (metric, keys, at_ends) in instruments.metrics.items():
        copies = "network" in instruments.asked[name]
        whole = min(keys.get("samples", 0), len(answers)) if copies else 0
        scale = max(1, whole / part)
        keys = {**keys, "samples": min(whole, part)} if whole else keys
        generator = partial(seeding.generator, 0, f"metrics/{name}")
        of = answered if copies else seen
        work = partial(evaluate, name, metric, keys, of, generator)
        signals = bool(set(instruments.asked[name]) & set(SCOPES["signals"]))
        spent = milliseconds(work, 1 if at_ends else repeats)
        measured.note(name, scale * spent, 2 if at_ends else looks - signals)
    return measured


def runs(root: str, folder: Path) -> list[list[str]]:
    """Real runs of the MLP with and without instruments."""
    overrides, steps, _ = NETWORKS["MLP"]
    rows = []
    for option in ("none", *GOALS):
        planned = plan(folder / option, *overrides, f"dataset.root={root}", f"metrics={option}",
                       f"training.steps={steps}", "device=cpu", "training.keep_weights=false")  # fmt: skip
        run = train(planned.config, planned.folder, lambda *_: None, {})
        whole, metrics = run.summary["seconds"], run.summary["seconds_metrics"]
        goal = f"≤ {GOALS[option]:.0%}" if option in GOALS else ""
        rows.append([option, f"{whole:.2f}", f"{metrics:.2f}", f"{metrics / whole:.1%}", goal])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder of the real data sets")
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--set", nargs="*", default=[], help="further overrides, such as architecture.width=16")
    parser.add_argument("--options", nargs="*", default=list(GOALS), choices=list(GOALS))
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        for network in chosen.networks:
            overrides, steps, part = NETWORKS[network]
            for option in chosen.options:
                goal = GOALS[option]
                console.print(f"\n{network}, metrics={option}; {load()}")
                data = f"dataset.root={chosen.root}"
                c = costs([*overrides, *chosen.set, data], option, Path(scratch), chosen.repeats, part)
                share = c.whole() / (c.run(steps) + c.whole())
                shortest = (c.whole() * (1 - goal) / goal - EVALUATIONS * c.evaluation) / c.step
                rows = [[name, f"{ms:.2f}", str(looks), f"{ms * looks / (c.run(steps) + c.whole()):.2%}"]
                        for name, (ms, looks) in c.looks.items()]  # fmt: skip
                rows.append([f"[bold]all of {option}[/]", f"{c.whole():.0f} a run", "", f"{share:.1%}"])
                title = (
                    f"{network}, metrics={option}: {share:.1%} of a run of {steps:,} steps of {c.step:.2f} ms "
                    f"(goal ≤ {goal:.0%}, kept from {max(0, shortest):,.0f} steps on)"
                )
                show(title, ("instrument", "ms a look", "looks", "of the run"), rows)
                console.print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")
        if "MLP" in chosen.networks:
            console.print(f"\n{load()}")
            title = f"Real runs of the MLP, {NETWORKS['MLP'][1]:,} steps"
            columns = ("metrics", "seconds", "of them instruments", "share", "goal")
            show(title, columns, runs(chosen.root, Path(scratch)))


if __name__ == "__main__":
    main()
