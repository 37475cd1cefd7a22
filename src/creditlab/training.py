"""One run, from config to finished record: the only place where data, network, rule, optimiser and instruments meet.

    creditlab algorithm=fa optimiser=muon

A run is a `Course`: it hands out its steps, and does all else between them. `train` has each step taken as it comes;
`creditlab.together` takes those of several runs at once. Whatever is random in step s is a function of (seed, stream,
s), so a run that was stopped goes on from its checkpoint to exactly the weights of an undisturbed one (on the CPU, with
the same threads).
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from pickle import PickleError
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import cross_entropy

from creditlab import interrupt, records, seeding
from creditlab.algorithms.base import Batch, Readings
from creditlab.architectures.block import tensors
from creditlab.lock import Lock, Lost, hold
from creditlab.metrics.behaviour import confusion
from creditlab.optimisers.noise import add_update_noise
from creditlab.optimisers.schedule import factor, set_lr
from creditlab.parts import Parts, assemble, blame
from creditlab.trackers.base import Tracking

CHUNK = 1000  # test samples evaluated at once, or tokens of them
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

Report = Callable[[int, int, Mapping[str, float]], None]  # step, steps, metrics


@torch.no_grad()
def evaluate(parts: Parts) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Accuracy and mean cross-entropy of the scores on the test set (and the validation set, where there is one); both
    by test sample, and the confusion matrix of up to `records.CONFUSED` classes. A sample with a score that is not
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
    if data.task.classes <= records.CONFUSED:
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


@dataclass
class Step:
    """A step of a run as it is handed out: first for its gradients, which are there once it has `readings`, then for
    the update. `waited`: seconds from handing it out to going on that were spent on other runs.
    """

    parts: Parts
    seed: int
    done: int  # steps before it
    indices: Tensor  # of its batch
    listening: bool  # whether instruments want the error signals
    x: Tensor = field(default_factory=lambda: torch.empty(0))
    y: Tensor = field(default_factory=lambda: torch.empty(0))
    readings: Readings | None = None
    waited: float = 0.0

    def take(self) -> None:
        """Do what it is handed out for."""
        if self.readings is None:
            self.load()
            self.assign()
        else:
            self.parts.optimiser.step()

    def load(self) -> None:
        data = self.parts.dataset
        augmentation = seeding.generator(self.seed, "augmentation", self.done) if data.augments else None
        self.x, self.y = data.batch(self.indices, augmentation)

    def assign(self) -> None:
        parts = self.parts
        noise = seeding.generator(self.seed, "algorithm", self.done, parts.device)
        with parts.autocast():
            batch = Batch(self.x, self.y, noise, self.done / parts.steps, self.listening)
            self.readings = parts.algorithm.assign(parts.network, batch)


Steps = Generator[Step, None, None]


def train(config: Mapping[str, Any], folder: Path, report: Report, hydra: Mapping[str, str]) -> records.Run:
    """Do the run of `config` (checked) in `folder` unless it is finished there, from its checkpoint if there is one.

    `report` is told of every point that is recorded; `hydra` holds the files to put under `.hydra/`. A mistake of the
    user's is a ConfigError or RecordError; whatever stops the run is written to `error.txt` and raised on. Held says
    that another process is at it, Lost that one has taken over, Interrupted that this process was asked to stop.
    """
    with contextlib.closing(steps(config, folder, report, hydra)) as wanted:
        for step in wanted:
            try:
                step.take()
            except Exception as error:
                wanted.throw(error)
    return records.read_run(folder)


def steps(config: Mapping[str, Any], folder: Path, report: Report, hydra: Mapping[str, str]) -> Steps:
    """The steps of `train`, for the caller to take: each twice, as `Step` says. An error in taking one is to be thrown
    in, for the run to record.
    """
    if records.open_run(folder, config).finished:
        return
    with hold(folder) as lock, Tracking() as tracking:
        if (run := records.find_run(folder, config)).finished:  # by another process, just now
            return
        for key in ("device", "threads"):
            if (folder / "checkpoint.pt").exists() and run.config and run.config[key] != config[key]:
                begun = f"{key}={config[key]}, begun with {key}={run.config[key]}"
                _say(f"{folder} goes on with {begun}: the result may differ in its last digits.")
        records.begin(folder, config, hydra)
        course = Course(config, folder, report, lock, tracking)
        try:
            yield from course.steps()
        except Lost:
            raise
        except Exception as error:
            lock.check()
            with contextlib.suppress(OSError):  # of a full disk, which `error` then tells of
                records.fail(folder, config, error, course.moment.step)
            raise


class Course:
    """A run under way, its folder held."""

    def __init__(self, config: Mapping[str, Any], folder: Path, report: Report, lock: Lock, tracking: Tracking) -> None:
        self.config, self.folder, self.report, self.lock, self.tracking = config, folder, report, lock, tracking
        self.seed, self.training = config["seed"], config["training"]
        self.checkpoint = folder / "checkpoint.pt"
        self.moment, self.status = Moment(), "running"
        self.found: dict[str, float] = {}  # metrics of the last point
        self.by_sample: dict[str, np.ndarray] = {}

    def steps(self) -> Steps:
        torch.set_num_threads(self.config["threads"])
        keep_memory()
        self.began = time.perf_counter()
        self._begin()
        while self.status == "running":
            step = self._next()
            yield step
            assert step.readings is not None
            with self.parts.autocast():
                self.parts.instruments.assigned(step.done + 1, step.x, step.y, step.readings, step.listening)
            before = [p.detach().clone() for p in self.parameters] if self.training["update_noise"] else []
            yield step
            if before:
                noise = seeding.generator(self.seed, "update", step.done, self.parts.device)
                add_update_noise(before, self.parameters, self.training["update_noise"], noise)
            self.parts.instruments.updated()
            self._count(step)
            self._look()
            self._keep()
        self._finish()

    def _begin(self) -> None:
        """From the config, and the checkpoint if there is one, to where the run stands."""
        self._assemble()
        if self.checkpoint.exists():
            try:
                _restore(self.checkpoint, self.parts, self.moment)
            except SPOILT as error:
                _say(f"{self.checkpoint} cannot be used ({error}): the run starts over.")
                self.checkpoint.unlink()
                self._assemble()
        moment, history = self.moment, self.folder / "history.jsonl"
        self.history = records.History(history, moment.history_size)
        past = records.read_history(history)
        self.tracking.open(self.parts.tracker, self.folder, self.config, moment.tracked, past)
        if not moment.first:
            moment.first = evaluate(self.parts)[0]
            with blame("metrics"):
                moment.first |= self.parts.instruments.measure(0, end=False)
            self._record(moment.first)
        self.began, self.saved = self.began - moment.seconds, time.perf_counter()

    def _assemble(self) -> None:
        self.parts = parts = assemble(self.config)
        self.parameters = [p for group in parts.optimiser.param_groups for p in group["params"]]
        self.initial = {name: tensor.detach().clone() for name, tensor in tensors(parts.network).items()}
        count = min(self.training["evaluations"], parts.steps)
        self.evaluations = {round(parts.steps * i / count) for i in range(1, count + 1)}
        self.may_end = {parts.steps} if self.training["stop_at_accuracy"] is None else self.evaluations

        @lru_cache(maxsize=1)
        def order(epoch: int) -> Tensor:
            generator = seeding.generator(self.seed, "order", epoch)
            return torch.randperm(len(parts.dataset.train_y), generator=generator).to(parts.device)

        self.order = order
        parts.network.train()
        parts.instruments.begin()

    def _next(self) -> Step:
        done, parts, size = self.moment.step, self.parts, self.training["batch_size"]
        set_lr(parts.optimiser, factor(done, parts.steps, self.training["schedule"], self.training["warmup"]))
        epoch, position = divmod(done, parts.steps_per_epoch)
        batch = self.order(epoch)[position * size : (position + 1) * size]
        return Step(parts, self.seed, done, batch, parts.instruments.listening(done + 1, done + 1 in self.may_end))

    def _count(self, step: Step) -> None:
        assert step.readings is not None
        self.moment.step += 1
        self.moment.loss_sum += step.readings.loss.item()
        self.moment.loss_count += 1
        self.began += step.waited

    def _look(self) -> None:
        """Evaluate and measure where it is time to, and tell whether the run goes on."""
        moment, parts = self.moment, self.parts
        evaluation, probing = moment.step in self.evaluations, moment.step in parts.instruments.probes
        if not (evaluation or probing):
            return
        with contextlib.nullcontext() if evaluation else parts.instruments.clocked():
            self.found, self.by_sample = evaluate(parts)
        self.found["train/loss"] = moment.loss_sum / moment.loss_count
        if evaluation:  # and not at probes: what a run comes to does not depend on its instruments
            self.status = _status(self.found, moment.step == parts.steps, self.training["stop_at_accuracy"])
            moment.loss_sum, moment.loss_count = 0.0, 0
        if self.status == "complete" or (self.status == "running" and probing):
            self.found |= parts.instruments.measure(moment.step, end=self.status == "complete")
        if moment.step == 1:  # the signals of the first step are those at initialisation
            moment.first |= {k: v for k, v in self.found.items() if k.startswith("signals/")}
        self._record(self.found)
        self.report(moment.step, parts.steps, self.found)

    def _record(self, found: Mapping[str, float]) -> None:
        self.lock.check()
        for record in (self.history.append, self.tracking.record):
            record(self.moment.step, self.moment.step / self.parts.steps_per_epoch, found)

    def _keep(self) -> None:
        """Write a checkpoint where one is due. Raises Interrupted after it if this process was asked to stop."""
        every = self.training["checkpoint_seconds"]
        due = every is not None and time.perf_counter() - self.saved > every
        if self.status != "running" or not (due or interrupt.asked()):
            return
        self.moment.seconds, self.moment.history_size = time.perf_counter() - self.began, self.history.size
        self.moment.tracked = self.tracking.handle
        self.lock.check()
        self.history.sync()
        _save(self.checkpoint, self.parts, self.moment)
        self.saved = time.perf_counter()
        if interrupt.asked():
            raise interrupt.Interrupted

    def _finish(self) -> None:
        self.lock.check()
        self.history.close()
        folder, instruments = self.folder, self.parts.instruments
        if self.training["keep_weights"]:
            final = {f"final/{name}": tensor for name, tensor in tensors(self.parts.network).items()}
            kept = {f"init/{name}": tensor for name, tensor in self.initial.items()} | final
            records.write_whole(folder / "weights.safetensors", lambda file: file.write(save(kept)))
        arrays = self.by_sample if self.status == "diverged" else self.by_sample | instruments.arrays()
        records.write_arrays(folder / "arrays.npz", arrays)
        metrics = self.found | {f"{name}@init": value for name, value in self.moment.first.items()}
        seconds = {"seconds": time.perf_counter() - self.began, "seconds_metrics": instruments.seconds}
        self.lock.check()
        self.tracking.close(self.status, metrics | seconds | {"steps": self.moment.step})
        absent = instruments.absent | ({"tracker": self.tracking.failure} if self.tracking.failure else {})
        records.finish(folder, self.config, self.status, self.moment.step, metrics, seconds | {"absent": absent})


def keep_memory() -> None:
    """Let glibc keep freed memory: handing each step's tensors back to the system takes a tenth of a run's time."""
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for option in (TRIM_THRESHOLD, MMAP_THRESHOLD):
            mallopt(option, 1 << 30)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


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
        # copies, for runs that train together share storage, all of which would be written
        "network": {name: tensor.clone() for name, tensor in parts.network.state_dict().items()},
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
