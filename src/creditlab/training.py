"""One run, from config to finished record: the only place where data, network, rule, optimiser and instruments meet.

    creditlab algorithm=fa optimiser=muon

`train` reads from top to bottom. Whatever is random in step s is a function of (seed, stream, s), so a run that was
stopped goes on from its checkpoint to exactly the weights of an undisturbed one (on the CPU, with the same threads).
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from creditlab import records, seeding
from creditlab.algorithms.base import Algorithm
from creditlab.architectures.block import parameter_groups, weights
from creditlab.config import ConfigError, function, keys, partial
from creditlab.metrics.activations import class_means
from creditlab.metrics.observe import Observation, measure, probe_steps
from creditlab.optimisers.noise import add_update_noise
from creditlab.optimisers.schedule import factor, set_lr

CHUNK = 1000  # test samples evaluated at once

Report = Callable[[int, int, Mapping[str, float]], None]  # step, steps, metrics


@dataclass
class Parts:
    """What a config names, built."""

    dataset: Any
    network: nn.Sequential
    algorithm: Algorithm
    optimiser: torch.optim.Optimizer
    device: torch.device
    bfloat16: bool
    steps: int
    steps_per_epoch: int

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)


@contextlib.contextmanager
def _blame(what: str) -> Iterator[None]:
    """Name the part of the config in which a mistake shows."""
    try:
        yield
    except (ValueError, TypeError, ImportError, AttributeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{what}: {error}") from error


def assemble(config: Mapping[str, Any]) -> Parts:
    """Build every part of the run, which shows whether they fit together. Raises ConfigError where they do not."""
    choices, training, seed = config["choices"], config["training"], config["seed"]
    device = _device(config["device"])
    dtype = torch.float64 if config["precision"] == "float64" else torch.float32
    with _blame(f"dataset={choices['dataset']}"):
        dataset = partial(config["dataset"])()
        dataset.split(seed)
    with _blame(f"architecture={choices['architecture']} on dataset={choices['dataset']}"):
        draw = partial(config["architecture"])
        network = draw(dataset.task, seeding.generator(seed, "init"))
    with _blame(f"algorithm={choices['algorithm']} with architecture={choices['architecture']}"):
        algorithm = partial(config["algorithm"])(
            network, dataset.task, lambda g: draw(dataset.task, g), seeding.generator(seed, "feedback")
        )
    dataset.to(device, dtype)
    network.to(device, dtype)
    algorithm.to(device, dtype)
    groups = parameter_groups(network)
    if heads := list(algorithm.named_parameters()):
        groups.append({"params": [p for _, p in heads], "names": [n for n, _ in heads], "role": "last"})
    with _blame(f"optimiser={choices['optimiser']}"):
        optimiser = partial(config["optimiser"])(groups)
    samples, batch = len(dataset.train_y), training["batch_size"]
    if batch > samples:
        raise ConfigError(f"training.batch_size={batch}: dataset={choices['dataset']} has {samples} training samples.")
    per_epoch = samples // batch
    steps = training["steps"] or max(1, round(training["epochs"] * per_epoch))
    with _blame("training"):
        factor(0, steps, training["schedule"], training["warmup"])
    bfloat16 = config["precision"] == "bfloat16"
    return Parts(dataset, network, algorithm, optimiser, device, bfloat16, steps, per_epoch)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    there += ["mps"] if torch.backends.mps.is_available() else []
    if name not in there and not (name == "cuda" and len(there) > 1):
        raise ConfigError(f"device={name}: not on this machine, which has {', '.join(there)} (or auto).")
    return torch.device(name)


@torch.no_grad()
def evaluate(parts: Parts) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Accuracy and mean cross-entropy of the scores on the test set (and the validation set, where there is one), and
    both by test sample. A sample with a score that is not finite counts as wrong.
    """
    data = parts.dataset
    means: dict[str, float] = {}
    by_sample: dict[str, Tensor] = {}
    sets = [("validation", data.validation_x, data.validation_y), ("test", data.test_x, data.test_y)]
    parts.network.eval()
    for name, raw, label in (s for s in sets if len(s[2])):
        with parts.autocast():
            chunks = [parts.algorithm.predict(parts.network, data.normalise(c)) for c in raw.split(CHUNK)]
        scores = torch.cat(chunks).double()
        predicted, loss = scores.argmax(1), cross_entropy(scores, label, reduction="none")
        correct = (predicted == label) & scores.isfinite().all(1)
        means |= {f"{name}/accuracy": correct.double().mean().item(), f"{name}/loss": loss.mean().item()}
        by_sample = {"loss": loss, "correct": correct, "predicted": predicted, "label": label}
    parts.network.train()
    return means, {f"test/{name}": values.cpu().numpy() for name, values in by_sample.items()}


@dataclass
class Moment:
    """Where a run stands, beside the state of its parts."""

    step: int = 0
    loss_sum: float = 0.0  # of the steps since the last record
    loss_count: int = 0
    seconds: float = 0.0
    seconds_metrics: float = 0.0
    history_size: int = 0
    first: dict[str, float] = field(default_factory=dict)  # metrics at initialisation


def train(config: Mapping[str, Any], folder: Path, report: Report, hydra: Mapping[str, str]) -> records.Run:
    """Do the run of `config` (checked) in `folder` unless it is finished there, from its checkpoint if there is one.

    `report` is told of every point that is recorded; `hydra` holds the files to put under `.hydra/`. A mistake of the
    user's is a ConfigError or RecordError; whatever stops the run is written to `error.txt` and raised on.
    """
    run = records.open_run(folder, config)
    if run.finished:
        return run
    records.begin(folder, config, hydra)
    moment = Moment()
    try:
        _train(config, folder, report, moment)
    except Exception as error:
        records.fail(folder, config, error, moment.step)
        raise
    return records.read_run(folder)


def _train(config: Mapping[str, Any], folder: Path, report: Report, moment: Moment) -> None:
    torch.set_num_threads(config["threads"])
    began = time.perf_counter()
    seed, training = config["seed"], config["training"]
    parts = assemble(config)
    dataset, network, algorithm, optimiser = parts.dataset, parts.network, parts.algorithm, parts.optimiser
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    initial = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    instruments = Instruments(config["metrics"], parts)
    count = training["evaluations"]
    evaluations = {round(parts.steps * i / count) for i in range(1, count + 1)}
    probes = set(probe_steps(parts.steps, config["metrics"]["points"]))

    @lru_cache(maxsize=1)
    def order(epoch: int) -> Tensor:
        shuffled = torch.randperm(len(dataset.train_y), generator=seeding.generator(seed, "order", epoch))
        return shuffled.to(parts.device)

    network.train()
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        _restore(checkpoint, parts, moment)
    history = records.History(folder / "history.jsonl", moment.history_size)
    if not moment.first:
        moment.first = evaluate(parts)[0] | instruments.measure(moment)
        history.append(0, 0.0, moment.first)
    began, saved = began - moment.seconds, time.perf_counter()

    status = "running"
    while status == "running":
        set_lr(optimiser, factor(moment.step, parts.steps, training["schedule"], training["warmup"]))
        epoch, position = divmod(moment.step, parts.steps_per_epoch)
        batch = order(epoch)[position * training["batch_size"] : (position + 1) * training["batch_size"]]
        augmentation = seeding.generator(seed, "augmentation", moment.step) if dataset.augments else None
        x, y = dataset.batch(batch, augmentation)
        noise = seeding.generator(seed, "algorithm", moment.step, parts.device)
        with parts.autocast():
            readings = algorithm.assign(network, x, y, generator=noise, progress=moment.step / parts.steps)
        before = [p.detach().clone() for p in parameters] if training["update_noise"] else []
        optimiser.step()
        if before:
            noise = seeding.generator(seed, "update", moment.step, parts.device)
            add_update_noise(before, parameters, training["update_noise"], noise)
        moment.step += 1
        moment.loss_sum, moment.loss_count = moment.loss_sum + readings.loss.item(), moment.loss_count + 1

        if moment.step in evaluations or moment.step in probes:
            found, by_sample = evaluate(parts)
            found["train/loss"] = moment.loss_sum / moment.loss_count
            moment.loss_sum, moment.loss_count = 0.0, 0
            target = training["stop_at_accuracy"] if moment.step in evaluations else None  # whatever the instruments
            status = _status(found, moment.step == parts.steps, target)
            if status == "complete" or (status == "running" and moment.step in probes):
                found |= instruments.measure(moment)
            history.append(moment.step, moment.step / parts.steps_per_epoch, found)
            report(moment.step, parts.steps, found)
        every = training["checkpoint_seconds"]
        if status == "running" and every is not None and time.perf_counter() - saved > every:
            moment.seconds, moment.history_size = time.perf_counter() - began, history.size
            _save(checkpoint, parts, moment)
            saved = time.perf_counter()

    history.close()
    final = {f"final/{name}": tensor for name, tensor in network.state_dict().items()}
    kept = {f"init/{name}": tensor for name, tensor in initial.items()} | final
    if training["keep_weights"]:
        records.write_whole(folder / "weights.safetensors", lambda file: file.write(save(kept)))
    records.write_arrays(folder / "arrays.npz", by_sample | instruments.arrays(status))
    metrics = found | {f"{name}@init": value for name, value in moment.first.items()}
    seconds = {"seconds": time.perf_counter() - began, "seconds_metrics": moment.seconds_metrics}
    records.finish(folder, config, status, moment.step, metrics, seconds)


def _status(found: Mapping[str, float], last: bool, target: float | None) -> str:
    """`diverged` where a loss is not finite, `complete` at the last step or at the accuracy to stop at."""
    if not (math.isfinite(found["train/loss"]) and math.isfinite(found["test/loss"])):
        return "diverged"
    reached = target is not None and found.get("validation/accuracy", found["test/accuracy"]) >= target
    return "complete" if last or reached else "running"


class Instruments:
    """The metrics of a run and the samples that they look at: the same ones for every run on a data set."""

    def __init__(self, config: Mapping[str, Any], parts: Parts) -> None:
        self.parts = parts
        self.metrics = {name: (function(node), keys(node)) for name, node in config["instruments"].items()}
        self.initial = {layer: w.detach().clone() for layer, w in weights(parts.network).items()}
        every = torch.randperm(len(parts.dataset.test_y), generator=seeding.generator(0, "metrics"))
        self.samples = every[: config["samples"]].to(parts.device)

    def observe(self) -> Observation:
        data = self.parts.dataset
        x, label = data.normalise(data.test_x[self.samples]), data.test_y[self.samples]
        return Observation(self.parts.network, self.parts.algorithm, x, label, self.initial)

    def measure(self, moment: Moment) -> dict[str, float]:
        began = time.perf_counter()
        found = measure(self.metrics, self.observe())
        moment.seconds_metrics += time.perf_counter() - began
        return found

    def arrays(self, status: str) -> dict[str, np.ndarray]:
        """By layer, the class means of the activations and the singular values of the weights."""
        if not self.metrics or status == "diverged":
            return {}
        seen = self.observe()
        found = {f"representation/{n}": class_means(h["activation"], h["label"]) for n, h in seen.activations.items()}
        found |= {f"spectrum/{n}": w["singular_values"] for n, w in seen.weights.items()}
        return {name: values.cpu().numpy() for name, values in found.items()}


def _save(path: Path, parts: Parts, moment: Moment) -> None:
    state = {
        "moment": asdict(moment),
        "network": parts.network.state_dict(),
        "algorithm": parts.algorithm.state_dict(),
        "optimiser": parts.optimiser.state_dict(),
    }
    records.write_whole(path, lambda file: torch.save(state, file))


def _restore(path: Path, parts: Parts, moment: Moment) -> None:
    state = torch.load(path, map_location=parts.device, weights_only=True)
    parts.network.load_state_dict(state["network"])
    parts.algorithm.load_state_dict(state["algorithm"])
    parts.optimiser.load_state_dict(state["optimiser"])
    for name, value in state["moment"].items():
        setattr(moment, name, value)
