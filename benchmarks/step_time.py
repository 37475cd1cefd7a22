"""A training step of convolutional networks: plain, channels last, and channels last in bfloat16.

    python -m benchmarks.step_time [--device cuda] [--networks convnet resnet18]

Forward and backward pass and a step of fused AdamW on random images of CIFAR's shape, the three ways taking turns.
*Plain* is `torch.nn.Conv2d` as it is; *channels last* the library's own, which runs use; *bfloat16* that under autocast
(`precision=bfloat16`), whose numbers are others.
"""

from __future__ import annotations

import argparse
import copy
from functools import partial as bound
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.measure import SPREAD, Seconds, console, load, now, plan, ratio, show, spread
from creditlab import seeding
from creditlab.architectures.convolution import Conv2d
from creditlab.config import bind_target
from creditlab.process import keep_memory
from creditlab.task import Task

SIZES = {  # overrides, batch
    "convnet": (["architecture=convnet", "architecture.channels=[16,32,32,64]"], 64),
    "resnet18": (["architecture=resnet18"], 32),
}
PLAIN, LAST, HALF = "plain", "channels last", "channels last, bfloat16"


def plain(network: nn.Module) -> nn.Module:
    """A copy whose convolutions are torch's own."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, Conv2d):
            module.forward = bound(nn.Conv2d.forward, module)  # type: ignore[method-assign]
    return network


def step(network: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor, half: bool) -> Seconds:
    began = now()
    with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
        loss = cross_entropy(network(x), y)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    loss.item()  # waits for the device
    return now() - began


def compare(name: str, device: str, rounds: int) -> list[list[str]]:
    """A row for each way."""
    overrides, batch = SIZES[name]
    draw = bind_target(plan(Path(), *overrides).config["architecture"])
    task = Task(input_shape=(3, 32, 32), classes=10, low=-2.0, high=2.0)
    network = draw(task, seeding.generator(0, "init")).to(device)
    networks = {PLAIN: plain(network), LAST: network, HALF: copy.deepcopy(network)}
    optimisers = {way: torch.optim.AdamW(n.parameters(), lr=1e-4, fused=True) for way, n in networks.items()}
    x = torch.randn(batch, *task.input_shape, device=device)
    y = torch.randint(10, (batch,), device=device)
    torch.testing.assert_close(networks[PLAIN](x), network(x), rtol=1e-3, atol=1e-3)
    taken: dict[str, list[Seconds]] = {way: [] for way in networks}
    for number in range(rounds + 2):
        for way in list(networks)[:: -1 if number % 2 else 1]:
            seconds = step(networks[way], optimisers[way], x, y, way == HALF)
            if number > 1:  # the first two are to warm up
                taken[way].append(seconds)
    rows = []
    for way, times in taken.items():
        ratios = ["", ""]
        if way != PLAIN:
            ratios = [
                ratio([getattr(s, c) for s in taken[PLAIN]], [getattr(s, c) for s in times]) for c in ("wall", "cpu")
            ]
        rows.append([f"{name}, batch {batch}: {way}", *spread(times, 1000, 1), *ratios])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()
    console.print(load())
    rows = [row for name in chosen.networks for row in compare(name, chosen.device, chosen.rounds)]
    columns = ("", *SPREAD, "plain over it, wall", "processor")
    show(f"Milliseconds per step, {chosen.device}, {chosen.rounds} rounds", columns, rows)


if __name__ == "__main__":
    main()
