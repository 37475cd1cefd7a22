"""Builds the parts that a config names, and checks that they fit together."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from creditlab import seeding, surrogate
from creditlab.algorithms.base import Algorithm, Batch
from creditlab.architectures.block import parameter_groups
from creditlab.config import ConfigError, arguments, bind_target, import_target
from creditlab.datasets.base import Dataset
from creditlab.metrics.instruments import Instruments
from creditlab.optimisers.schedule import factor
from creditlab.trackers.base import Tracker

T = TypeVar("T")


@dataclass(eq=False)
class Parts:
    """The parts of one run."""

    dataset: Dataset
    network: nn.Sequential
    algorithm: Algorithm
    optimiser: torch.optim.Optimizer
    instruments: Instruments
    tracker: Tracker
    device: torch.device
    bfloat16: bool
    steps: int
    steps_per_epoch: int

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)


@contextlib.contextmanager
def as_config_error(what: str) -> Iterator[None]:
    """Turn every error into a ConfigError that names `what`, the part of the config in which it happened. The error may
    come from a user's own code.
    """
    try:
        yield
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{what}: {error}") from error
    except Exception as error:
        raise ConfigError(
            f"{what}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        ) from error


def assemble(config: Mapping[str, Any]) -> Parts:
    """Build every part of the run. Raises ConfigError if they do not fit together."""
    choices, training, seed = config["choices"], config["training"], config["seed"]
    device = find_device(config["device"])
    dtype = torch.float64 if config["precision"] == "float64" else torch.float32
    with as_config_error(f"dataset={choices['dataset']}"):
        dataset = _made(bind_target(config["dataset"])(), Dataset)
        dataset.split(seed)
    with as_config_error(f"architecture={choices['architecture']} on dataset={choices['dataset']}"):
        draw = bind_target(config["architecture"])
        network = _made(draw(dataset.task, seeding.generator(seed, "init")), nn.Sequential)
        groups = parameter_groups(network)
    with as_config_error(f"algorithm={choices['algorithm']} with architecture={choices['architecture']}"):
        feedback = seeding.generator(seed, "feedback")
        rule = bind_target(config["algorithm"])(network, dataset.task, lambda g: draw(dataset.task, g), feedback)
        algorithm = _made(rule, Algorithm)
        algorithm.verify(network, dataset.batch(torch.arange(min(2, len(dataset.train_y))))[0])
    dataset.to(device, dtype)
    network.to(device, dtype)
    algorithm.to(device, dtype)
    groups += algorithm.parameter_groups()
    with as_config_error(f"optimiser={choices['optimiser']}"):
        optimiser = _made(bind_target(config["optimiser"])(groups), torch.optim.Optimizer)
    samples, batch = len(dataset.train_y), training["batch_size"]
    if batch > samples:
        raise ConfigError(f"training.batch_size={batch}: dataset={choices['dataset']} has {samples} training samples.")
    if batch == 1:
        _try_one_sample(network, algorithm, dataset, f"algorithm={choices['algorithm']} and {choices['architecture']}")
    per_epoch = samples // batch
    steps = training["steps"] or max(1, round(training["epochs"] * per_epoch))
    with as_config_error("training"):
        factor(0, steps, training["schedule"], training["warmup"])
    with as_config_error("metrics"):
        instruments = Instruments(
            config["metrics"],
            {
                name: (import_target(node), arguments(node), node.get("_at_") == "ends")
                for name, node in config["metrics"]["instruments"].items()
            },
            network,
            algorithm,
            dataset,
            seed=seed,
            steps=steps,
            steps_per_epoch=per_epoch,
            surrogate=surrogate.scores(config, assemble) if config["metrics"]["surrogate"] else None,
        )
    with as_config_error("tracker"):
        tracker = _made(bind_target(config["tracker"])(), Tracker)
    bfloat16 = config["precision"] == "bfloat16"
    return Parts(dataset, network, algorithm, optimiser, instruments, tracker, device, bfloat16, steps, per_epoch)


def _try_one_sample(network: nn.Sequential, algorithm: Algorithm, dataset: Dataset, what: str) -> None:
    """Raise ConfigError for what cannot train with one sample per step, such as normalisation over a batch."""
    x, y = dataset.batch(torch.zeros(1, dtype=torch.int64, device=dataset.train_y.device))
    noise = seeding.generator(0, "algorithm", 0, x.device)
    try:
        copy.deepcopy(algorithm).assign(copy.deepcopy(network), Batch(x, y, noise))
    except ValueError as error:
        raise ConfigError(f"training.batch_size=1 with {what}: {error}. Give 2 or more.") from error


def _made(part: T, kind: type[T]) -> T:
    """`part`. Raises ValueError if it is not a `kind`."""
    if not isinstance(part, kind):
        raise ValueError(f"returned a {type(part).__name__}, not a {kind.__module__}.{kind.__name__}")
    return part


def find_device(name: str) -> torch.device:
    """The device that a config calls `name`. Raises ConfigError if this machine has no such device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    available += ["mps"] if torch.backends.mps.is_available() else []
    if name not in available and not (name == "cuda" and len(available) > 1):
        raise ConfigError(f"device={name}: not on this machine, which has {', '.join(available)} (or auto).")
    return torch.device(name)
