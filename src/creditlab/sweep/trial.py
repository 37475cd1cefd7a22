"""One step of each distinct rule of a sweep that has parts of the user's own, tried before the first run in a process
of its own. That creditlab's own parts take their step together is what its tests are for.

    in    for each trial: the config, the task, the inputs and labels of one batch, as `torch.save` writes them
    out   {"trial": 3} when the trial with this number begins, {"trial": 3, "problem": "…"} if it raised an error

A rule may take its process down. That stops the trial of this rule alone, and the run itself will show it. The same
holds for a trial that takes too long, or that lacks memory. So only an error of the rule or of its loss is a refusal.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from creditlab.parts import Parts

SECONDS = 20.0  # for all trials of a sweep together
COMMAND = [sys.executable, "-P", "-m", "creditlab.sweep.trial"]
PARTS = ("algorithm", "architecture", "dataset", "precision")  # that decide whether a rule can take its step


class Trials:
    """The trials of a sweep. With the first one a process starts to import, while this one builds further parts."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.names: list[str] = []  # by trial: the part of the config that an error would be in
        self.orders: list[bytes] = []

    def add(self, config: Mapping[str, Any], parts: Parts) -> None:
        """Try the rule of `config` on a batch of its own size."""
        import torch

        self.process = self.process or _start()
        samples = min(config["training"]["batch_size"], len(parts.dataset.train_y))
        x, y = parts.dataset.batch(torch.arange(samples, device=parts.dataset.train_y.device))
        content = {"config": json.dumps(config), "task": asdict(parts.dataset.task), "x": x.cpu(), "y": y.cpu()}
        buffer = BytesIO()
        torch.save(content, buffer)
        choices = config["choices"]
        on = f"architecture={choices['architecture']} on dataset={choices['dataset']}"
        self.names.append(f"algorithm={choices['algorithm']} with {on}")
        self.orders.append(buffer.getvalue())

    def problem(self) -> str | None:
        """The first error of a trial, with the part of the config in which it happened; None if there is none."""
        first, until = 0, time.monotonic() + SECONDS
        while first < len(self.orders) and (process := self.process or _start()):
            self.process = process
            orders = b"".join(len(order).to_bytes(8, "big") + order for order in self.orders[first:])
            try:
                answers, _ = process.communicate(orders, timeout=max(0.0, until - time.monotonic()))
            except (subprocess.TimeoutExpired, OSError):  # OSError: the clock jumped while this process waited
                return None
            begun = 0
            for line in answers.split(b"\n")[:-1]:
                answer = json.loads(line)
                if "problem" in answer:
                    return f"{self.names[first + answer['trial']]}: {answer['problem']}"
                begun = answer["trial"] + 1
            if not begun or not process.returncode:
                return None
            first += begun  # the last one that began has taken the process down
            self.process = None
        return None

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process:
            self.process.kill()
            self.process.communicate()


def is_own(config: Mapping[str, Any]) -> bool:
    """Whether a part of PARTS is not creditlab's."""

    def targets(value: Any) -> Iterator[str]:
        if isinstance(value, Mapping):
            if "_target_" in value:
                yield str(value["_target_"])
            for inner in value.values():
                yield from targets(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                yield from targets(inner)

    return any(not target.startswith("creditlab.") for target in targets([config[part] for part in PARTS]))


def _start() -> subprocess.Popen[bytes] | None:
    """A process of this module; None if this machine gives no more."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    pipe = subprocess.PIPE
    with contextlib.suppress(OSError):  # then nothing is tried
        return subprocess.Popen(
            COMMAND, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
        )
    return None


def orders(content: bytes) -> Iterator[bytes]:
    """The orders in `content`, each after its length."""
    while content:
        end = 8 + int.from_bytes(content[:8], "big")
        yield content[8:end]
        content = content[end:]


def take_step(order: bytes) -> None:
    """Build the network and the rule of an order, and have the rule assign the gradients of one step."""
    import torch

    from creditlab import seeding
    from creditlab.algorithms.base import Batch
    from creditlab.config import bind_target
    from creditlab.parts import find_device
    from creditlab.task import Task

    content = torch.load(BytesIO(order), weights_only=True)
    config, task = json.loads(content["config"]), Task(**content["task"])
    torch.set_num_threads(config["threads"])
    device, seed = find_device(config["device"]), config["seed"]
    dtype = torch.float64 if config["precision"] == "float64" else torch.float32
    draw = bind_target(config["architecture"])
    network = draw(task, seeding.generator(seed, "init"))
    rule = bind_target(config["algorithm"])(network, task, lambda g: draw(task, g), seeding.generator(seed, "feedback"))
    network.to(device, dtype).train()
    rule.to(device, dtype)
    batch = Batch(content["x"].to(device), content["y"].to(device), seeding.generator(seed, "algorithm", 0, device))
    with torch.autocast(device.type, torch.bfloat16, enabled=config["precision"] == "bfloat16"):
        rule.assign(network, batch)


def main() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # output of a user's code must not get into the answers
    import torch

    received = sys.stdin.buffer.read()
    for number, order in enumerate(orders(received)):
        answers.write(json.dumps({"trial": number}) + "\n")
        try:
            take_step(order)
        except (MemoryError, torch.OutOfMemoryError):
            continue
        except Exception as error:
            lines = str(error).splitlines()
            cause = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            answers.write(json.dumps({"trial": number, "problem": cause + (lines[0] if lines else "")}) + "\n")
            return


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):  # the command has ended meanwhile
        main()
