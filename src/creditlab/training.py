"""One run, from config to finished record: the only place where data, network, rule, optimiser and instruments meet.

    creditlab algorithm=fa optimiser=muon

`train` reads from top to bottom. Whatever is random in step s is a function of (seed, stream, s), so a run that was
stopped goes on from its checkpoint to exactly the weights of an undisturbed one (on the CPU, with the same threads).
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from pickle import PickleError
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from creditlab import interrupt, records, seeding
from creditlab.algorithms.base import Algorithm
from creditlab.architectures.block import parameter_groups, tensors
from creditlab.config import ConfigError, function, keys, partial
from creditlab.datasets.base import Dataset
from creditlab.lock import Lock, Lost, hold
from creditlab.metrics.behaviour import confusion
from creditlab.metrics.instruments import Instruments
from creditlab.optimisers.noise import add_update_noise
from creditlab.optimisers.schedule import factor, set_lr
from creditlab.trackers.base import Tracker, Tracking

CHUNK = 1000  # test samples evaluated at once, or tokens of them
CONFUSED = 1000  # classes of which a confusion matrix is kept at most
SAMPLING = {"root", "download", "limit", "test_limit", "validation", "crop", "flip"}  # no matter to what an input is
SPOILT = (
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    PickleError,
)  # checkpoint

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of malloc.h

T = TypeVar("T")
Report = Callable[[int, int, Mapping[str, float]], None]  # step, steps, metrics


@dataclass
class Parts:
    """What a config names, built."""

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
def _blame(what: str) -> Iterator[None]:
    """Name the part of the config in which a mistake shows, whatever it raises: it may be in a user's own code."""
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
    """Build every part of the run, which shows whether they fit together. Raises ConfigError where they do not."""
    choices, training, seed = config["choices"], config["training"], config["seed"]
    device = find_device(config["device"])
    dtype = torch.float64 if config["precision"] == "float64" else torch.float32
    with _blame(f"dataset={choices['dataset']}"):
        dataset = _made(partial(config["dataset"])(), Dataset)
        dataset.split(seed)
    with _blame(f"architecture={choices['architecture']} on dataset={choices['dataset']}"):
        draw = partial(config["architecture"])
        network = _made(draw(dataset.task, seeding.generator(seed, "init")), nn.Sequential)
        groups = parameter_groups(network)
    with _blame(f"algorithm={choices['algorithm']} with architecture={choices['architecture']}"):
        feedback = seeding.generator(seed, "feedback")
        rule = partial(config["algorithm"])(network, dataset.task, lambda g: draw(dataset.task, g), feedback)
        algorithm = _made(rule, Algorithm)
    dataset.to(device, dtype)
    network.to(device, dtype)
    algorithm.to(device, dtype)
    groups += algorithm.parameter_groups()
    with _blame(f"optimiser={choices['optimiser']}"):
        optimiser = _made(partial(config["optimiser"])(groups), torch.optim.Optimizer)
    samples, batch = len(dataset.train_y), training["batch_size"]
    if batch > samples:
        raise ConfigError(f"training.batch_size={batch}: dataset={choices['dataset']} has {samples} training samples.")
    if batch == 1:
        _try_one_sample(network, algorithm, dataset, f"algorithm={choices['algorithm']} and {choices['architecture']}")
    per_epoch = samples // batch
    steps = training["steps"] or max(1, round(training["epochs"] * per_epoch))
    with _blame("training"):
        factor(0, steps, training["schedule"], training["warmup"])
    with _blame("metrics"):
        instruments = Instruments(
            config["metrics"],
            {n: (function(m), keys(m), m.get("_at_") == "ends") for n, m in config["metrics"]["instruments"].items()},
            network,
            algorithm,
            dataset,
            seed=seed,
            steps=steps,
            steps_per_epoch=per_epoch,
            surrogate=_surrogate(config) if config["metrics"]["surrogate"] else None,
        )
    with _blame("tracker"):
        tracker = _made(partial(config["tracker"])(), Tracker)
    bfloat16 = config["precision"] == "bfloat16"
    return Parts(dataset, network, algorithm, optimiser, instruments, tracker, device, bfloat16, steps, per_epoch)


def _try_one_sample(network: nn.Sequential, algorithm: Algorithm, dataset: Dataset, what: str) -> None:
    """Refuse what cannot do with one sample a step, such as normalisation over a batch."""
    x, y = dataset.batch(torch.zeros(1, dtype=torch.int64, device=dataset.train_y.device))
    noise = seeding.generator(0, "algorithm", 0, x.device)
    try:
        copy.deepcopy(algorithm).assign(copy.deepcopy(network), x, y, generator=noise)
    except ValueError as error:
        raise ConfigError(f"training.batch_size=1 with {what}: {error}. Give 2 or more.") from error


def _made(part: T, kind: type[T]) -> T:
    """`part`, if what made it made one of `kind`."""
    if not isinstance(part, kind):
        raise ValueError(f"gave a {type(part).__name__}, not a {kind.__module__}.{kind.__name__}")
    return part


def _surrogate(config: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    """The scores of the trained network in the folder that `metrics.surrogate` names. Raises ConfigError."""
    said = f"metrics.surrogate={config['metrics']['surrogate']}"
    folder = Path(config["metrics"]["surrogate"])
    of_sweep = list(records.run_folders(folder)) if folder.is_dir() else []
    if len(of_sweep) > 1:
        raise ConfigError(f"{said}: a sweep of {len(of_sweep)} runs. Name one, such as {of_sweep[0]}.")
    run = records.read_run(of_sweep[0] if of_sweep else folder)
    path = run.folder / "weights.safetensors"
    if not run.finished or run.config is None:
        raise ConfigError(
            f"{said}: no finished run there ({run.problem or run.status}). Do it first: an experiment's file says how."
        )
    if not path.exists():
        raise ConfigError(f"{said}: it kept no weights. Give it training.keep_weights=true.")
    mine, other = config["dataset"], run.config["dataset"]
    differ = sorted(k for k in mine.keys() | other.keys() if k not in SAMPLING and mine.get(k) != other.get(k))
    if differ:
        shown = "; ".join(f"dataset.{k}: {other.get(k)!r} there, {mine.get(k)!r} here" for k in differ)
        raise ConfigError(f"{said}: its inputs are others ({shown}). Name a run on the same data.")
    alike = {key: config[key] for key in ("device", "precision", "threads", "tracker")}
    blind = {**run.config["metrics"], "instruments": {}, "surrogate": None}
    parts = assemble({**run.config, **alike, "dataset": mine, "metrics": blind})
    final = {k.removeprefix("final/"): w for k, w in load_file(path).items() if k.startswith("final/")}
    parts.network.load_state_dict(parts.network.state_dict() | final)  # which has a tied tensor once
    parts.network.eval().requires_grad_(False)
    return lambda x: parts.algorithm.predict(parts.network, x)


def find_device(name: str) -> torch.device:
    """`device` of a config. Raises ConfigError where this machine has none of that name."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    there += ["mps"] if torch.backends.mps.is_available() else []
    if name not in there and not (name == "cuda" and len(there) > 1):
        raise ConfigError(f"device={name}: not on this machine, which has {', '.join(there)} (or auto).")
    return torch.device(name)


@torch.no_grad()
def evaluate(parts: Parts) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Accuracy and mean cross-entropy of the scores on the test set (and the validation set, where there is one); both
    by test sample, and the confusion matrix of up to CONFUSED classes. A sample with a score that is not
    finite counts as wrong.
    """
    data = parts.dataset
    means: dict[str, float] = {}
    found: dict[str, Tensor] = {}
    rows = CHUNK if data.task.tokens is None else max(1, CHUNK // math.prod(data.task.input_shape))
    sets = [("validation", data.validation_x, data.validation_y), ("test", data.test_x, data.test_y)]
    parts.network.eval()
    for name, raw, label in (s for s in sets if len(s[2])):
        chunks = []
        for x, y in zip(raw.split(rows), label.split(rows), strict=True):
            with parts.autocast():
                scores = parts.algorithm.predict(parts.network, data.normalise(x))
            scores = scores.double()
            best = scores.argmax(1)
            right = (best == y) & scores.isfinite().all(1)
            chunks.append((best, cross_entropy(scores, y, reduction="none"), right))
        predicted, loss, correct = map(torch.cat, zip(*chunks, strict=True))
        means |= {f"{name}/accuracy": correct.double().mean().item(), f"{name}/loss": loss.mean().item()}
        found = {"loss": loss, "correct": correct, "predicted": predicted, "label": label}
    if data.task.classes <= CONFUSED:
        found["confusion"] = confusion(predicted, label, data.task.classes)
    parts.network.train()
    return means, {f"test/{name}": values.cpu().numpy() for name, values in found.items()}


@dataclass
class Moment:
    """Where a run stands, beside the state of its parts."""

    step: int = 0
    loss_sum: float = 0.0  # of the steps since the last evaluation
    loss_count: int = 0
    seconds: float = 0.0
    history_size: int = 0
    tracked: str = ""  # the mirror to go on with
    first: dict[str, float] = field(default_factory=dict)  # metrics at initialisation


def train(config: Mapping[str, Any], folder: Path, report: Report, hydra: Mapping[str, str]) -> records.Run:
    """Do the run of `config` (checked) in `folder` unless it is finished there, from its checkpoint if there is one.

    `report` is told of every point that is recorded; `hydra` holds the files to put under `.hydra/`. A mistake of the
    user's is a ConfigError or RecordError; whatever stops the run is written to `error.txt` and raised on. Held says
    that another process is at it, Lost that one has taken over, Interrupted that this process was asked to stop.
    """
    if (run := records.open_run(folder, config)).finished:
        return run
    with hold(folder) as lock, Tracking() as tracking:
        if (run := records.find_run(folder, config)).finished:  # by another process, just now
            return run
        for key in ("device", "threads"):
            if (folder / "checkpoint.pt").exists() and run.config and run.config[key] != config[key]:
                begun = f"{key}={config[key]}, begun with {key}={run.config[key]}"
                _say(f"{folder} goes on with {begun}: the result may differ in its last digits.")
        records.begin(folder, config, hydra)
        moment = Moment()
        try:
            _train(config, folder, report, moment, lock, tracking)
        except Lost:
            raise
        except Exception as error:
            lock.check()
            with contextlib.suppress(OSError):  # of a full disk, which `error` then tells of
                records.fail(folder, config, error, moment.step)
            raise
        return records.read_run(folder)


def _keep_memory() -> None:
    """Let glibc keep freed memory: handing each step's tensors back to the system takes a tenth of a run's time."""
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for option in (TRIM_THRESHOLD, MMAP_THRESHOLD):
            mallopt(option, 1 << 30)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _train(
    config: Mapping[str, Any], folder: Path, report: Report, moment: Moment, lock: Lock, tracking: Tracking
) -> None:
    torch.set_num_threads(config["threads"])
    _keep_memory()
    began = time.perf_counter()
    seed, training = config["seed"], config["training"]
    parts = assemble(config)
    dataset, network, algorithm, optimiser = parts.dataset, parts.network, parts.algorithm, parts.optimiser
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    initial = {name: tensor.detach().clone() for name, tensor in tensors(network).items()}
    instruments, target = parts.instruments, training["stop_at_accuracy"]
    count = min(training["evaluations"], parts.steps)
    evaluations = {round(parts.steps * i / count) for i in range(1, count + 1)}
    may_end = {parts.steps} if target is None else evaluations

    @lru_cache(maxsize=1)
    def order(epoch: int) -> Tensor:
        shuffled = torch.randperm(len(dataset.train_y), generator=seeding.generator(seed, "order", epoch))
        return shuffled.to(parts.device)

    network.train()
    instruments.begin()
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        try:
            _restore(checkpoint, parts, moment)
        except SPOILT as error:
            _say(f"{checkpoint} cannot be used ({error}): the run starts over.")
            checkpoint.unlink()
            return _train(config, folder, report, moment, lock, tracking)
    history = records.History(folder / "history.jsonl", moment.history_size)
    tracking.open(parts.tracker, folder, config, moment.tracked, records.read_history(folder / "history.jsonl"))
    if not moment.first:
        moment.first = evaluate(parts)[0]
        with _blame("metrics"):
            moment.first |= instruments.measure(0, end=False)
        lock.check()
        history.append(0, 0.0, moment.first)
        tracking.record(0, 0.0, moment.first)
    began, saved = began - moment.seconds, time.perf_counter()

    status = "running"
    while status == "running":
        set_lr(optimiser, factor(moment.step, parts.steps, training["schedule"], training["warmup"]))
        epoch, position = divmod(moment.step, parts.steps_per_epoch)
        batch = order(epoch)[position * training["batch_size"] : (position + 1) * training["batch_size"]]
        augmentation = seeding.generator(seed, "augmentation", moment.step) if dataset.augments else None
        x, y = dataset.batch(batch, augmentation)
        noise = seeding.generator(seed, "algorithm", moment.step, parts.device)
        listening = instruments.listening(moment.step + 1, moment.step + 1 in may_end)
        with parts.autocast():
            readings = algorithm.assign(
                network, x, y, generator=noise, progress=moment.step / parts.steps, probe=listening
            )
            instruments.assigned(moment.step + 1, x, y, readings, listening)
        before = [p.detach().clone() for p in parameters] if training["update_noise"] else []
        optimiser.step()
        if before:
            noise = seeding.generator(seed, "update", moment.step, parts.device)
            add_update_noise(before, parameters, training["update_noise"], noise)
        instruments.updated()
        moment.step += 1
        moment.loss_sum, moment.loss_count = moment.loss_sum + readings.loss.item(), moment.loss_count + 1

        evaluation, probing = moment.step in evaluations, moment.step in instruments.probes
        if evaluation or probing:
            with contextlib.nullcontext() if evaluation else instruments.clocked():
                found, by_sample = evaluate(parts)
            found["train/loss"] = moment.loss_sum / moment.loss_count
            if evaluation:  # and not at probes: what a run comes to does not depend on its instruments
                status = _status(found, moment.step == parts.steps, target)
                moment.loss_sum, moment.loss_count = 0.0, 0
            if status == "complete" or (status == "running" and probing):
                found |= instruments.measure(moment.step, end=status == "complete")
            if moment.step == 1:  # the signals of the first step are those at initialisation
                moment.first |= {k: v for k, v in found.items() if k.startswith("signals/")}
            lock.check()
            history.append(moment.step, moment.step / parts.steps_per_epoch, found)
            tracking.record(moment.step, moment.step / parts.steps_per_epoch, found)
            report(moment.step, parts.steps, found)
        every = training["checkpoint_seconds"]
        due = every is not None and time.perf_counter() - saved > every
        if status == "running" and (due or interrupt.asked()):
            moment.seconds, moment.history_size = time.perf_counter() - began, history.size
            moment.tracked = tracking.handle
            lock.check()
            history.sync()
            _save(checkpoint, parts, moment)
            saved = time.perf_counter()
            if interrupt.asked():
                raise interrupt.Interrupted

    lock.check()
    history.close()
    final = {f"final/{name}": tensor for name, tensor in tensors(network).items()}
    kept = {f"init/{name}": tensor for name, tensor in initial.items()} | final
    if training["keep_weights"]:
        records.write_whole(folder / "weights.safetensors", lambda file: file.write(save(kept)))
    arrays = by_sample if status == "diverged" else by_sample | instruments.arrays()
    records.write_arrays(folder / "arrays.npz", arrays)
    metrics = found | {f"{name}@init": value for name, value in moment.first.items()}
    seconds = {"seconds": time.perf_counter() - began, "seconds_metrics": instruments.seconds}
    lock.check()
    tracking.close(status, metrics | seconds | {"steps": moment.step})
    absent = instruments.absent | ({"tracker": tracking.failure} if tracking.failure else {})
    records.finish(folder, config, status, moment.step, metrics, seconds | {"absent": absent})


def _status(found: Mapping[str, float], last: bool, target: float | None) -> str:
    """`diverged` where a loss is not finite, `complete` at the last step or at the accuracy to stop at."""
    if not (math.isfinite(found["train/loss"]) and math.isfinite(found["test/loss"])):
        return "diverged"
    reached = target is not None and found.get("validation/accuracy", found["test/accuracy"]) >= target
    return "complete" if last or reached else "running"


def _save(path: Path, parts: Parts, moment: Moment) -> None:
    state = {
        "moment": asdict(moment),
        "instruments": parts.instruments.state(),
        "network": parts.network.state_dict(),
        "algorithm": parts.algorithm.state_dict(),
        "optimiser": parts.optimiser.state_dict(),
    }
    records.write_whole(path, lambda file: torch.save(state, file))


def _restore(path: Path, parts: Parts, moment: Moment) -> None:
    """Raises one of many errors if the checkpoint is spoilt; `moment` is touched last."""
    state = torch.load(path, map_location=parts.device, weights_only=True)
    if path.with_name("history.jsonl").stat().st_size < state["moment"]["history_size"]:
        raise ValueError("history.jsonl is shorter than it was")
    parts.network.load_state_dict(state["network"])
    parts.algorithm.load_state_dict(state["algorithm"])
    parts.optimiser.load_state_dict(state["optimiser"])
    parts.instruments.restore(state["instruments"])
    for name, value in state["moment"].items():
        setattr(moment, name, value)
