"""One run, from its config to its finished record. Data, network, rule, optimiser and metrics meet only here.

    creditlab algorithm=fa optimiser=muon

`train` is the training loop: in each step the rule assigns the gradients, then the optimiser updates the weights. A
`Trainer` does what surrounds these two: batches, evaluations, metrics, records and checkpoints. `creditlab.together`
takes the same steps for several seeds at once.

All that is random in step s is a function of (seed, stream, s). So an interrupted run resumes from its checkpoint and
ends with exactly the weights of an undisturbed run (on the CPU, with the same number of threads).
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as as_safetensors
from torch import Tensor
from torch.nn.functional import cross_entropy

from creditlab import interrupt, records, seeding
from creditlab.algorithms.base import Batch, Readings
from creditlab.architectures.block import tensors
from creditlab.checkpoint import DAMAGED, TrainState, restore, save
from creditlab.lock import Lock, Lost, hold
from creditlab.metrics.behaviour import confusion
from creditlab.optimisers.noise import add_update_noise
from creditlab.optimisers.schedule import factor, set_lr
from creditlab.parts import Parts, as_config_error, assemble
from creditlab.trackers.base import Tracking

CHUNK = 1000  # test samples, or tokens of them, that are evaluated at once

Report = Callable[[int, int, Mapping[str, float]], None]  # step, number of steps, metrics


def train(config: Mapping[str, Any], folder: Path, report: Report, hydra: Mapping[str, str]) -> records.Run:
    """Train the run of `config` (checked) in `folder`, from its checkpoint if there is one. A finished run is returned
    as it is.

    `report` is called at every recorded point; `hydra` holds the files to write under `.hydra/`. Raises ConfigError or
    RecordError for mistakes of the user, Held if another process is working on the run, Lost if another process has
    taken it over, and Interrupted if this process was asked to stop. What stops the run is written to `error.txt`.

    The process is the caller's: `creditlab.process.prepare_process` gives it the threads that `config` names.
    """
    with open_trainer(config, folder, report, hydra) as trainer:
        while trainer is not None and trainer.running:
            x, y = trainer.load(trainer.begin_step())
            readings = trainer.assign(x, y)  # the rule writes the gradients
            trainer.before_update(x, y, readings)
            trainer.update()  # the optimiser changes the weights
            trainer.after_update(readings)
    return records.read_run(folder)


@contextlib.contextmanager
def open_trainer(
    config: Mapping[str, Any], folder: Path, report: Report, hydra: Mapping[str, str]
) -> Iterator[Trainer | None]:
    """The trainer of a run, which holds the run's folder while it is open; None if the run is finished. The arguments
    and errors are those of `train`.
    """
    if records.open_run(folder, config).finished:
        yield None
        return
    with hold(folder) as lock, Tracking() as tracking:
        run = records.find_run(folder, config)
        if run.finished:  # by another process, before this one got the lock
            yield None
            return
        _warn_of_differences(folder, config, run)
        records.begin(folder, config, hydra)
        state = TrainState()
        try:
            yield Trainer(config, folder, report, lock, tracking, state)
        except Lost:
            raise
        except Exception as error:
            lock.check()
            with contextlib.suppress(OSError):  # the disk may be full, which `error` then says
                records.fail(folder, config, error, state.step)
            raise


def _warn_of_differences(folder: Path, config: Mapping[str, Any], run: records.Run) -> None:
    """Say on standard error what may change the last digits of the result."""
    threads = torch.get_num_threads()
    if threads != config["threads"]:
        wanted = f"the config says threads={config['threads']}, but this process computes with {threads}"
        _say(f"{folder}: {wanted}. Call creditlab.process.prepare_process first.")
    for key in ("device", "threads"):
        if (folder / "checkpoint.pt").exists() and run.config and run.config.get(key) != config[key]:
            change = f"{key}={config[key]}, but was begun with {key}={run.config.get(key)}"
            _say(f"{folder} resumes with {change}: the result may differ in its last digits.")


class Trainer:
    """An unfinished run: its parts, its state, and all that happens before and after the updates of its weights."""

    def __init__(
        self,
        config: Mapping[str, Any],
        folder: Path,
        report: Report,
        lock: Lock,
        tracking: Tracking,
        state: TrainState,
    ) -> None:
        self.config, self.folder, self.report = config, folder, report
        self.lock, self.tracking, self.state = lock, tracking, state
        self.seed, self.settings = config["seed"], config["training"]
        self.checkpoint = folder / "checkpoint.pt"
        self.parts, self.initial = _new_parts(config)
        if self.checkpoint.exists():
            try:
                restore(self.checkpoint, self.parts, state)
            except DAMAGED as error:
                _say(f"{self.checkpoint} cannot be used ({error}): the run starts over.")
                self.checkpoint.unlink()
                self.parts, self.initial = _new_parts(config)
        self.parameters = [p for group in self.parts.optimiser.param_groups for p in group["params"]]
        count = min(self.settings["evaluations"], self.parts.steps)
        self.evaluations = {round(self.parts.steps * i / count) for i in range(1, count + 1)}
        self.may_end = {self.parts.steps} if self.settings["stop_at_accuracy"] is None else self.evaluations
        self.order = lru_cache(maxsize=1)(self._new_order)
        self.history = records.History(folder / "history.jsonl", state.history_size)
        past = records.read_history(folder / "history.jsonl")
        tracking.open(self.parts.tracker, folder, config, state.tracked, past)
        if not state.first:
            self._measure_at_initialisation()
        state.began, state.saved = state.began - state.seconds, time.perf_counter()

    @property
    def running(self) -> bool:
        """Whether there is a step to take."""
        return self.state.status == "running"

    @property
    def listening(self) -> bool:
        """Whether the metrics ask for the error signals of the step that is under way."""
        number = self.state.step + 1
        return self.parts.instruments.listening(number, number in self.may_end)

    # One step, in this order

    def begin_step(self) -> Tensor:
        """Set the learning rate of the step. Returns the indices (batch,) of its training samples."""
        step, parts, size = self.state.step, self.parts, self.settings["batch_size"]
        set_lr(parts.optimiser, factor(step, parts.steps, self.settings["schedule"], self.settings["warmup"]))
        epoch, position = divmod(step, parts.steps_per_epoch)
        return self.order(epoch)[position * size : (position + 1) * size]

    def load(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (batch, *input_shape) and labels of the samples `indices`, augmented where the config asks for it."""
        data = self.parts.dataset
        augmentation = seeding.generator(self.seed, "augmentation", self.state.step) if data.augments else None
        return data.batch(indices, augmentation)

    def assign(self, x: Tensor, y: Tensor) -> Readings:
        """Have the rule write the gradients."""
        parts, step = self.parts, self.state.step
        noise = seeding.generator(self.seed, "algorithm", step, parts.device)
        with parts.autocast():
            batch = Batch(x, y, noise, progress=step / parts.steps, probe=self.listening)
            return parts.algorithm.assign(parts.network, batch)

    def before_update(self, x: Tensor, y: Tensor, readings: Readings) -> None:
        """Let the metrics see the gradients, and keep the weights if noise is to be added to their update."""
        with self.parts.autocast():
            self.parts.instruments.assigned(self.state.step + 1, x, y, readings, self.listening)
        if self.settings["update_noise"]:
            self.state.weights_before = [p.detach().clone() for p in self.parameters]

    def update(self) -> None:
        """Have the optimiser change the weights by their gradients."""
        self.parts.optimiser.step()

    def after_update(self, readings: Readings) -> None:
        """Count the step; evaluate, record and save what is due after it; finish the run if it was the last one. Raises
        Interrupted, after a checkpoint, if this process was asked to stop.
        """
        state, parts = self.state, self.parts
        if state.weights_before:
            noise = seeding.generator(self.seed, "update", state.step, parts.device)
            add_update_noise(state.weights_before, self.parameters, self.settings["update_noise"], noise)
        parts.instruments.updated()
        state.step += 1
        state.loss_sum += readings.loss.item()
        state.loss_count += 1
        evaluation, probe = state.step in self.evaluations, state.step in parts.instruments.probes
        if evaluation or probe:
            self._evaluate(evaluation, probe)
        if not self.running:
            self._finish()
        elif self._checkpoint_is_due():
            self._save()

    # What happens in it

    def _new_order(self, epoch: int) -> Tensor:
        """The order (samples,) in which an epoch takes the training samples."""
        generator = seeding.generator(self.seed, "order", epoch)
        return torch.randperm(len(self.parts.dataset.train_y), generator=generator).to(self.parts.device)

    def _measure_at_initialisation(self) -> None:
        self.state.first = evaluate(self.parts)[0]
        with as_config_error("metrics"):
            self.state.first |= self.parts.instruments.measure(0, end=False)
        self._record(self.state.first)

    def _evaluate(self, evaluation: bool, probe: bool) -> None:
        """Evaluate and measure at a point of an `evaluation`, of a `probe` by the metrics, or both; record and report
        the point. Sets the status.
        """
        state, parts = self.state, self.parts
        with contextlib.nullcontext() if evaluation else parts.instruments.clocked():
            state.metrics, state.by_sample = evaluate(parts)
        state.metrics["train/loss"] = state.loss_sum / state.loss_count
        if evaluation:  # a probe never ends a run, so that the metrics do not change its outcome
            state.status = _status(state.metrics, state.step == parts.steps, self.settings["stop_at_accuracy"])
            state.loss_sum, state.loss_count = 0.0, 0
        if state.status == "complete" or (state.status == "running" and probe):
            state.metrics |= parts.instruments.measure(state.step, end=state.status == "complete")
        if state.step == 1:  # the signals of the first step are those at initialisation
            state.first |= {k: v for k, v in state.metrics.items() if k.startswith("signals/")}
        self._record(state.metrics)
        self.report(state.step, parts.steps, state.metrics)

    def _record(self, metrics: Mapping[str, float]) -> None:
        self.lock.check()
        for record in (self.history.append, self.tracking.record):
            record(self.state.step, self.state.step / self.parts.steps_per_epoch, metrics)

    def _checkpoint_is_due(self) -> bool:
        every = self.settings["checkpoint_seconds"]
        late = every is not None and time.perf_counter() - self.state.saved > every
        return late or interrupt.asked() is not None

    def _save(self) -> None:
        """Write a checkpoint. Raises Interrupted after it if this process was asked to stop."""
        state = self.state
        state.seconds = time.perf_counter() - state.began
        state.history_size, state.history_sha256 = self.history.size, self.history.sha256
        state.tracked = self.tracking.handle
        self.lock.check()
        self.history.sync()
        save(self.checkpoint, self.parts, state)
        state.saved = time.perf_counter()
        if interrupt.asked():
            raise interrupt.Interrupted

    def _finish(self) -> None:
        """Write what a finished run leaves, the summary last."""
        self.lock.check()
        self.history.close()
        folder, instruments, state = self.folder, self.parts.instruments, self.state
        if self.settings["keep_weights"]:
            final = {f"final/{name}": tensor for name, tensor in tensors(self.parts.network).items()}
            kept = {f"init/{name}": tensor for name, tensor in self.initial.items()} | final
            records.write_whole(folder / "weights.safetensors", lambda file: file.write(as_safetensors(kept)))
        arrays = state.by_sample if state.status == "diverged" else state.by_sample | instruments.arrays()
        records.write_arrays(folder / "arrays.npz", arrays)
        metrics = state.metrics | {f"{name}@init": value for name, value in state.first.items()}
        seconds = {"seconds": time.perf_counter() - state.began, "seconds_metrics": instruments.seconds}
        self.lock.check()
        self.tracking.close(state.status, metrics | seconds | {"steps": state.step})
        absent = instruments.absent | ({"tracker": self.tracking.failure} if self.tracking.failure else {})
        records.finish(folder, self.config, state.status, state.step, metrics, seconds | {"absent": absent})


def _new_parts(config: Mapping[str, Any]) -> tuple[Parts, dict[str, Tensor]]:
    """The parts of a run at initialisation, and a copy of the network's initial tensors by name."""
    parts = assemble(config)
    initial = {name: tensor.detach().clone() for name, tensor in tensors(parts.network).items()}
    parts.network.train()
    parts.instruments.begin()
    return parts, initial


@torch.no_grad()
def evaluate(parts: Parts) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Accuracy and mean cross-entropy of the scores on the test set, and on the validation set if there is one. Then
    what the test samples gave one by one, with the confusion matrix if there are at most `records.CONFUSED` classes. A
    sample counts as wrong if one of its scores is not finite.
    """
    data = parts.dataset
    means: dict[str, float] = {}
    by_sample: dict[str, Tensor] = {}
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
            chunks.append((best, cross_entropy(scores, y, reduction="none"), right, y))
        predicted, loss, correct, labels = map(torch.cat, zip(*chunks, strict=True))
        means |= {f"{name}/accuracy": correct.double().mean().item(), f"{name}/loss": loss.mean().item()}
        by_sample = {"loss": loss, "correct": correct, "predicted": predicted, "label": labels}
    if data.task.classes <= records.CONFUSED:
        by_sample["confusion"] = confusion(predicted, labels, data.task.classes)
    parts.network.train()
    return means, {f"test/{name}": values.cpu().numpy() for name, values in by_sample.items()}


def _status(metrics: Mapping[str, float], last: bool, target: float | None) -> str:
    """`diverged` if a loss is not finite, `complete` at the last step or at the `target` accuracy, else `running`."""
    if not (math.isfinite(metrics["train/loss"]) and math.isfinite(metrics["test/loss"])):
        return "diverged"
    reached = target is not None and metrics.get("validation/accuracy", metrics["test/accuracy"]) >= target
    return "complete" if last or reached else "running"


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
