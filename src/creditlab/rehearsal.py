"""What the optimiser of a run does, tried before a sweep starts, so that one which builds and cannot train is refused.

    a step with backpropagation's gradients · its state is saved and loaded · another step · a step at a rate of zero

Thrown-away parts do it. An error names the part of the config in which it happened: an optimiser whose `step` needs a
closure or a mode, one whose state cannot be loaded, a schedule that a wrapped optimiser does not notice. The rule takes
no part: a rule that takes its process down must stop its own run only, so `sweep.trial` tries it in another process.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from creditlab.config import ConfigError
from creditlab.optimisers.schedule import set_lr
from creditlab.parts import Parts, as_config_error

SAMPLES = 8  # at most, in the step


def rehearse(config: Mapping[str, Any], parts: Parts) -> None:
    """Take steps with the optimiser of `parts`, which are of no use afterwards. Raises ConfigError."""
    choices, training, optimiser = config["choices"], config["training"], parts.optimiser
    name = f"optimiser={choices['optimiser']}"
    with as_config_error(f"architecture={choices['architecture']} on dataset={choices['dataset']}"):
        samples = min(max(2, training["batch_size"]), SAMPLES, len(parts.dataset.train_y))
        x, y = parts.dataset.batch(torch.arange(samples, device=parts.dataset.train_y.device))
        with parts.autocast():
            loss = cross_entropy(parts.network(x), y)
        loss.backward()
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
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
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
