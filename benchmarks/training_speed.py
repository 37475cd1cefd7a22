"""How much of a hand-written loop's speed a creditlab run keeps, and what the usual data pipeline would cost.

    python -m benchmarks.training_speed                   on random images
    python -m benchmarks.training_speed --root data       on the real MNIST

Each round takes, in turn, one whole creditlab run at the default schedule (evaluations, instruments, record), a bare
PyTorch loop on normalised tensors in memory, and torchvision's data set with transforms (PIL, ToTensor, Normalize)
through a DataLoader without and with two workers. All have the same network, optimiser, batch size and one thread.

*Steps* is the loop alone: creditlab's less its evaluations and instruments, which the others do not have in it; the
DataLoaders' from their first batch on. *Whole* is from raw images in memory to trained network: set-up, steps, as many
evaluations, and for creditlab its instruments and record.

Goals: steps at least 0.9 of the bare loop's and 3 times the usual pipeline's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision import transforms

from benchmarks.anatomy import OUTSIDE, STEPS, anatomy
from benchmarks.measure import SPREAD, Seconds, console, load, now, plan, ratio, show, spread
from creditlab.datasets.base import moments
from creditlab.parts import Parts, assemble
from creditlab.training import train

CREDITLAB, BARE, USUAL, WORKERS = "creditlab", "bare PyTorch loop", "DataLoader", "DataLoader, 2 workers"
LOOPS = (CREDITLAB, BARE, USUAL, WORKERS)
MLP_GOALS, CONVNET_GOALS = ("", "≥ 0.9", "≥ 3", "≥ 3"), ("", "≥ 0.9", "", "")
CONVNET = [
    "architecture=convnet",
    "training.steps=12",
    "training.evaluations=1",
    "metrics=none",
    "dataset.test_limit=500",
]


def creditlab(config: dict) -> tuple[Seconds, Seconds]:
    """Of a real run: seconds in its steps, and in all of it."""
    with tempfile.TemporaryDirectory() as folder:
        anatomy().reset()
        train(config, Path(folder, "run"), lambda *_: None, {})
        anatomy().charge()
    parts = anatomy().parts
    return parts[STEPS], sum((s for name, s in parts.items() if name != OUTSIDE), Seconds())


def bare(parts: Parts, batch_size: int, evaluations: int) -> tuple[Seconds, Seconds]:
    """The same by hand: seconds in the steps, and in all of it."""
    began, data, network = now(), parts.dataset, parts.network
    mean, std = (t.float() for t in moments(data.train_x))
    train_x, test_x = ((raw.float() - mean) / std for raw in (data.train_x, data.test_x))
    train_y, test_y = data.train_y, data.test_y
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    in_steps = Seconds()
    for step in range(parts.steps):
        start = now()
        position = step % parts.steps_per_epoch
        if position == 0:
            order = torch.randperm(len(train_y))
        batch = order[position * batch_size : (position + 1) * batch_size]
        loss = cross_entropy(network(train_x[batch]), train_y[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        in_steps += now() - start
        if (step + 1) * evaluations % parts.steps < evaluations:
            evaluate(network, test_x, test_y)
    return in_steps, now() - began


@torch.no_grad()
def evaluate(network: nn.Module, x: Tensor, y: Tensor) -> tuple[float, float]:
    scores = torch.cat([network(part) for part in x.split(1000)])
    return (scores.argmax(1) == y).float().mean().item(), cross_entropy(scores, y).item()


class Usual(torchvision.datasets.MNIST):
    """torchvision's MNIST as tutorials use it, on images that are in memory."""

    def __init__(self, x: Tensor, y: Tensor, mean: float, std: float) -> None:
        self.data, self.targets, self.target_transform = x[:, 0], y, None
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((mean,), (std,))])


def usual(parts: Parts, batch_size: int, steps: int, workers: int) -> Seconds:
    """Seconds in `steps` steps of the usual pipeline, its workers already there."""
    data = parts.dataset
    mean, std = (t.item() / 255 for t in moments(data.train_x))
    images = Usual(data.train_x, data.train_y, mean, std)
    loader: DataLoader = DataLoader(images, batch_size, shuffle=True, drop_last=True, num_workers=workers)
    optimiser = torch.optim.AdamW(parts.network.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    batches: Iterator[tuple[Tensor, Tensor]] = iter(loader)
    next(batches)
    began = now()
    for _ in range(steps):
        x, y = next(batches)
        loss = cross_entropy(parts.network(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return now() - began


def compare(network: str, overrides: list[str], goals: Sequence[str], rounds: int, usual_steps: int) -> None:
    """Print the table of one network, from so many rounds after one to warm up."""
    with tempfile.TemporaryDirectory() as folder:
        config = plan(Path(folder), "algorithm=bp", "device=cpu", *overrides).config
    training = config["training"]
    steps, batch_size = training["steps"], training["batch_size"]
    usual_steps = min(usual_steps, steps)

    def take(loop: str) -> tuple[Seconds, Seconds]:
        """Seconds per step, and in the whole run."""
        if loop == CREDITLAB:
            in_steps, whole = creditlab(config)
            return in_steps / steps, whole
        parts = assemble(config)
        if loop == BARE:
            in_steps, whole = bare(parts, batch_size, training["evaluations"])
            return in_steps / steps, whole
        return usual(parts, batch_size, usual_steps, 2 if loop == WORKERS else 0) / usual_steps, Seconds()

    console.print(f"\n[bold]{network}[/], batch {batch_size}, {rounds} rounds of {steps} steps", end=" ")
    console.print(f"(DataLoader: {usual_steps}); {load()}")
    creditlab(config)
    taken: dict[str, list[tuple[Seconds, Seconds]]] = {loop: [] for loop in LOOPS}
    for number in range(rounds):
        for loop in LOOPS[:: -1 if number % 2 else 1]:
            taken[loop].append(take(loop))

    step = {loop: [a_step for a_step, _ in seconds] for loop, seconds in taken.items()}
    rows = []
    for loop, goal in zip(LOOPS, goals, strict=True):
        wall = [1 / s.wall for s in step[loop]]
        row = [loop, f"{statistics.median(wall):.1f}", f"{max(wall):.1f}"]
        for clock in ("wall", "cpu"):
            theirs, ours = ([getattr(s, clock) for s in step[name]] for name in (loop, CREDITLAB))
            comparable = loop != CREDITLAB and (
                loop != WORKERS or clock == "wall"
            )  # workers' time is not this process's
            row.append(ratio(theirs, ours) if comparable else "")
        rows.append([*row, goal])
    show("Steps", ["", "steps/s, median", "best", "creditlab's ratio", "of processor time", "goal"], rows)

    rows = [[loop, *spread([whole for _, whole in taken[loop]])] for loop in (CREDITLAB, BARE)]
    show("Whole run, seconds", ["", *SPREAD], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder that holds MNIST/raw; random images if not given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000, help="of a run of the MLP")
    parser.add_argument("--usual-steps", type=int, default=80, help="of a DataLoader in a round; less than an epoch")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    source = f"dataset.root={chosen.root}" if chosen.root else "dataset._target_=benchmarks.images.RandomImages"
    console.print("real MNIST" if chosen.root else "random images of MNIST's shape (--root FOLDER for the real ones)")
    mlp, convnet = ["dataset=mnist", source, f"training.steps={chosen.steps}"], ["dataset=mnist", source, *CONVNET]
    compare("MLP 784-256-128-10", mlp, MLP_GOALS, chosen.rounds, chosen.usual_steps)
    compare("Convolutional network 32-64-128-128", convnet, CONVNET_GOALS, chosen.rounds, chosen.usual_steps)


if __name__ == "__main__":
    main()
