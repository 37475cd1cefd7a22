"""The metrics recorded during training: which ones, at which steps, on which samples, and with what results.

A metric that cannot work is reported as early as possible. If it has too few samples or classes (see `needs`), no run
of the sweep starts. If it fails at initialisation, it stops the run. If it fails later, it is left out from then on and
named under `absent` in the summary, and the run continues. A metric that no layer of the network can supply with all
inputs is treated in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from creditlab import seeding
from creditlab.algorithms.base import Algorithm, Readings
from creditlab.architectures.block import weights
from creditlab.metrics import probe
from creditlab.metrics.activations import class_means
from creditlab.metrics.needs import require_enough
from creditlab.metrics.observe import Metric, Observation, Samples, Start, evaluate, observed, probe_steps, unseen
from creditlab.metrics.trajectory import Trajectory
from creditlab.scopes import SCOPES, scope_of
from creditlab.spectral import as_matrix

# Inputs whose presence is known before any sample passes through the network, with their scope.
KNOWN_EARLY = {"kernel": "weights", "feedback": "weights", "readout_weight": "network", "surrogate": "network"}


class Instruments:
    """`config` is the checked `metrics` node. `metrics` maps names to (function, keys, whether it is measured only at
    the first and last step). Raises ValueError if the settings cannot work for a run of `steps`.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        metrics: Mapping[str, tuple[Metric, Mapping[str, Any], bool]],
        network: nn.Sequential,
        algorithm: Algorithm,
        dataset: Any,
        *,
        seed: int,
        steps: int,
        steps_per_epoch: int,
        surrogate: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self.metrics, self.network, self.algorithm = metrics, network, algorithm
        self.seed, self.surrogate, self.keep_activations = seed, surrogate, config["keep_activations"]
        self.asked = {name: observed(metric) for name, (metric, _, _) in metrics.items()}
        names = {n for names in self.asked.values() for n in names}
        self.listens = bool(names & set(SCOPES["signals"]))
        self.compares = "initial_activation" in names
        self.probes = probe_steps(steps, config["points"], steps_per_epoch, config["epochs"])
        self.probes |= {1} if self.listens else set()  # the first step's signals are those at initialisation
        self.trajectory = _trajectory(config["trajectory"], steps) if "trajectory" in names else None
        self.absent: dict[str, str] = {}
        self.seconds = 0.0
        self.start = Start({}, {})
        self.signals: probe.Signals = {}
        self.before: dict[str, Tensor] = {}

        every = torch.randperm(len(dataset.test_y), generator=seeding.generator(0, "metrics"))
        chosen = every[: config["samples"]].to(dataset.test_y.device)
        x, span = dataset.normalise(dataset.test_x[chosen]), dataset.high - dataset.low
        self.samples = Samples(
            x=x,
            pixels=(dataset.test_x[chosen].to(x.dtype) - dataset.low) / span if dataset.task.tokens is None else None,
            label=dataset.test_y[chosen],
            normalise=lambda pixels: dataset.normalise(dataset.low + span * pixels),
        )
        for name, (metric, keys, _) in metrics.items():
            try:
                require_enough(metric, keys, samples=len(x), classes=len(self.samples.label.unique()))
            except ValueError as error:
                raise ValueError(f"instruments.{name}: {error}") from None

    @contextmanager
    def clocked(self) -> Iterator[None]:
        """Count the time spent in this context as time of the metrics."""
        began = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - began

    def lacking(self) -> dict[str, list[str]]:
        """By metric, the inputs that no layer can supply, as far as this is known before the first step."""
        seen = self.observe()
        asked = {name: [n for n in names if n in KNOWN_EARLY] for name, names in self.asked.items()}
        lacking = {name: [n for n in names if not seen.find(KNOWN_EARLY[n], n)] for name, names in asked.items()}
        return {name: names for name, names in lacking.items() if names}

    def begin(self) -> None:
        """Keep what later measurements compare with. Call it while the network is as it was initialised."""
        with self.clocked():
            initial = {layer: as_matrix(w.detach()).clone() for layer, w in weights(self.network).items()}
            self.start = Start(initial, {})
            if self.compares:
                self.start = Start(initial, self.observe().find("activations", "activation"))

    # At a step: what did the rule write, and what did the optimiser do with it?

    def listening(self, step: int, may_end: bool) -> bool:
        """Whether the signals of `step` (from 1) are needed: at measurement steps, and when the run may end."""
        return self.listens and (step in self.probes or may_end)

    def assigned(self, step: int, x: Tensor, y: Tensor, readings: Readings, listening: bool) -> None:
        """Record what the rule has just assigned on a batch. Call it before the optimiser acts on it."""
        with self.clocked():
            self.signals = {}
            if self.trajectory is not None and self.trajectory.due(step):
                self.trajectory.add(probe.gradients(self.network))
            if listening:
                self.signals = probe.assigned(self.network, self.algorithm, x, y, readings)
                self.before = {n: as_matrix(w.detach()).clone() for n, w in weights(self.network).items()}

    def updated(self) -> None:
        """Record what the optimiser has just done."""
        if not self.signals:
            return
        with self.clocked():
            self.signals["update"] = probe.updates(self.network, self.before)
            if self.trajectory is not None:
                self.signals["trajectory"] = self.trajectory.seen()

    # Measuring

    def observe(self) -> Observation:
        return Observation(self.network, self.algorithm, self.samples, self.start, self.signals, self.surrogate)

    def measure(self, step: int, end: bool) -> dict[str, float]:
        """The values of the metrics now. Those for the ends only are measured at step 0 and at the `end`. Raises
        ValueError if a metric fails at step 0. If it fails later, it is left out, and `absent` says why.
        """
        with self.clocked():
            return self._measure(step, end)

    def _measure(self, step: int, end: bool) -> dict[str, float]:
        observation = self.observe()
        values: dict[str, float] = {}
        for name, (metric, keys, at_ends) in self.metrics.items():
            if name in self.absent or (at_ends and not (step == 0 or end)):
                continue
            try:
                new_values = evaluate(name, metric, keys, observation, partial(self._generator, name))
            except Exception as error:
                message = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
                reason = message.partition("\n")[0]
                if step == 0:
                    raise ValueError(f"instruments.{name}: {reason}") from error
                self.absent[name] = f"step {step}: {reason}"
                continue
            values = new_values | values  # of two equal names the first counts
            of_signals = scope_of(self.asked[name]) == "signals"
            if not new_values and (end or (step == 0 and not of_signals)):
                lacking = ", ".join(unseen(self.asked[name], observation))
                self.absent[name] = f"no layer of this network and rule shows {lacking}"
        return values

    def arrays(self) -> dict[str, np.ndarray]:
        """By layer, the singular values of the weights and the class means of the activations. With
        `keep_activations` also the activations of the probe samples.
        """
        if not self.metrics:
            return {}
        with self.clocked():
            seen = self.observe()
            activations, label = seen.find("activations", "activation"), self.samples.label
            arrays = {f"representation/{n}": class_means(h, label) for n, h in activations.items()}
            arrays |= {f"spectrum/{n}": s for n, s in seen.find("weights", "singular_values").items()}
            if self.keep_activations:
                arrays |= {f"sample_representation/{n}": h for n, h in activations.items()}
            return {name: values.cpu().numpy() for name, values in arrays.items()}

    def _generator(self, name: str) -> torch.Generator:
        return seeding.generator(self.seed, f"metrics/{name}")

    # Resuming

    def state(self) -> dict[str, Any]:
        trajectory = {} if self.trajectory is None else self.trajectory.seen()
        return {"absent": self.absent, "seconds": self.seconds, "trajectory": trajectory}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.absent, self.seconds = dict(state["absent"]), state["seconds"]
        if self.trajectory is not None:
            self.trajectory.restore(state["trajectory"])


def _trajectory(config: Mapping[str, Any], steps: int) -> Trajectory:
    length = config["length"]
    spacing = config["spacing"] or max(1, steps // length)
    if steps // spacing < length:
        raise ValueError(
            f"trajectory.length={length}: a run of {steps} steps takes {steps // spacing} gradients, one every "
            f"{spacing}. Lower the length or the spacing, or train longer"
        )
    return Trajectory(length, spacing, config["projection"])
