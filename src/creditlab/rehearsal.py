"""One real step of training before a sweep starts, so that parts which build but cannot train together are refused.

    the rule assigns gradients · the optimiser takes a step · its state is saved and loaded · it takes another step

Thrown-away parts do it. An error names the part of the config in which it happened: a loss that does not fit the
labels, an optimiser whose `step` needs a closure or a mode, a schedule that a wrapped optimiser does not notice.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch

from creditlab import seeding
from creditlab.algorithms.base import Batch
from creditlab.config import ConfigError
from creditlab.optimisers.schedule import set_lr
from creditlab.parts import Parts, as_config_error

SAMPLES = 8  # at most, in the step


def rehearse(config: Mapping[str, Any], parts: Parts) -> None:
    """Take a step with `parts`, which are of no use afterwards. Raises ConfigError."""
    choices, training, optimiser = config["choices"], config["training"], parts.optimiser
    samples = min(training["batch_size"], SAMPLES)
    rule = f"algorithm={choices['algorithm']} with architecture={choices['architecture']}"
    name = f"optimiser={choices['optimiser']}"
    with as_config_error(f"{rule} on dataset={choices['dataset']}"):
        x, y = parts.dataset.batch(torch.arange(samples, device=parts.dataset.train_y.device))
        noise = seeding.generator(config["seed"], "algorithm", 0, parts.device)
        with parts.autocast():
            parts.algorithm.assign(parts.network, Batch(x, y, noise))
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    if not any(p.grad is not None for p in parameters):
        raise ConfigError(f"{rule}: the rule writes no gradient for any parameter that {name} has.")
    with as_config_error(name):
        optimiser.step()
        buffer = io.BytesIO()
        torch.save(optimiser.state_dict(), buffer)
    with as_config_error(f"{name}, loading its saved state"):
        buffer.seek(0)
        optimiser.load_state_dict(torch.load(buffer, weights_only=True))
    with as_config_error(f"{name}, after loading its saved state"):
        optimiser.step()
    if training["schedule"] != "constant" or training["warmup"]:
        _check_schedule(f"training.schedule={training['schedule']}", name, parts, parameters)


def _check_schedule(schedule: str, name: str, parts: Parts, parameters: list[torch.Tensor]) -> None:
    """Raise ConfigError if the optimiser moves the parameters at a learning rate of zero."""
    before = [p.detach().clone() for p in parameters]
    with as_config_error(f"{name}, at a learning rate of zero"):
        set_lr(parts.optimiser, 0.0)
        parts.optimiser.step()
    if any(not torch.equal(p, old) for p, old in zip(parameters, before, strict=True)):
        raise ConfigError(
            f"{schedule}: has no effect on {name}, which moves the weights at a learning rate of zero. Give "
            "training.schedule=constant and training.warmup=0, or an optimiser that takes its rate from its groups."
        )
