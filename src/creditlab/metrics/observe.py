"""The inputs of metrics at one moment of a run. Each is computed once, and only if a metric asks for it.

Measuring changes nothing. The network is put into evaluation mode and back, metrics that need gradients work on a copy,
and their random numbers come from separate streams. So a run with metrics ends in exactly the weights of the run
without them.
"""

from __future__ import annotations

import copy
import inspect
import numbers
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor, nn

from creditlab.algorithms.base import Algorithm
from creditlab.architectures.block import hidden_blocks, readout, weights
from creditlab.scopes import ANYWHERE, OF_CHANGES, scope_of
from creditlab.spectral import as_matrix, singular_values

ROWS = 250  # probe samples that go through the network at once

Metric = Callable[..., float | Mapping[str, float]]
Layers = dict[str, Any]


@dataclass(frozen=True)
class Samples:
    """The probe samples: `x` (samples, *input_shape) as the network takes it, `pixels` the same in [0, 1] (None
    where inputs are tokens), `label`.
    """

    x: Tensor
    pixels: Tensor | None
    label: Tensor
    normalise: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Start:
    """What is kept from initialisation: weights (out, rest) and activations (samples, units), by layer."""

    weights: Mapping[str, Tensor]
    activations: Mapping[str, Tensor]


class Observation:
    """A network at one moment. `find(scope, name)` gives the input `name` of that scope by layer (see `metrics`).

    `signals` are those of the last step, by name and layer. It is empty if none were recorded.
    """

    def __init__(
        self,
        network: nn.Sequential,
        algorithm: Algorithm,
        samples: Samples,
        start: Start,
        signals: Mapping[str, Layers],
        surrogate: Callable[[Tensor], Tensor] | None,
    ) -> None:
        self.network, self.algorithm, self.samples = network, algorithm, samples
        self.start, self.signals, self.surrogate = start, signals, surrogate
        self.computed: dict[tuple[str, str], Layers] = {}

    def find(self, scope: str, name: str) -> Layers:
        if scope == "signals":
            return dict(self.signals.get(name, {}))
        if (scope, name) not in self.computed:
            self.computed[scope, name] = getattr(self, f"_{scope}_{name}")()
        return self.computed[scope, name]

    # weights and changes

    def _weights_weight(self) -> Layers:
        return {layer: as_matrix(w.detach().clone()) for layer, w in weights(self.network).items()}

    def _weights_singular_values(self) -> Layers:
        return _spectra(self.find("weights", "weight"))

    def _weights_initial_weight(self) -> Layers:
        return dict(self.start.weights)

    def _weights_kernel(self) -> Layers:
        kernels = {layer: w.detach().clone() for layer, w in weights(self.network).items()}
        return {layer: w for layer, w in kernels.items() if w.ndim == 4 and w[0, 0].numel() > 1}

    def _weights_dead(self) -> Layers:
        rows = {layer: len(w) for layer, w in self.find("weights", "weight").items()}
        silent = {b: (m == 0).all(2).all(0) for b, m in self.find("activations", "activation_map").items()}
        return {block: units for block, units in silent.items() if rows.get(block) == len(units)}

    def _weights_feedback(self) -> Layers:
        return {layer: as_matrix(b.clone()) for layer, b in self.algorithm.feedback(self.network).items()}

    def _changes_weight(self) -> Layers:
        """A layer that has not moved is left out."""
        moved = {layer: w - self.start.weights[layer] for layer, w in self.find("weights", "weight").items()}
        return {layer: change for layer, change in moved.items() if change.any()}

    def _changes_singular_values(self) -> Layers:
        return _spectra(self.find("changes", "weight"))

    # activations

    @cached_property
    def _seen(self) -> tuple[dict[str, Tensor], Tensor]:
        """Activations of the hidden blocks, and the features that the output layer receives."""
        training = self.network.training
        self.network.eval()
        with torch.no_grad():
            parts = [self.algorithm.represent(self.network, x) for x in self.samples.x.split(ROWS)]
            seen = {name: torch.cat([part.pop(name) for part in parts]) for name in list(parts[0])}
            *_, (last, block) = hidden_blocks(self.network)
            features = block.tail(seen[last]).flatten(1)
        self.network.train(training)
        return seen, features

    def _activations_activation_map(self) -> Layers:
        return {n: h.flatten(2) if h.ndim > 2 else h[:, :, None] for n, h in self._seen[0].items()}

    def _activations_activation(self) -> Layers:
        return {n: h.mean(2) for n, h in self.find("activations", "activation_map").items()}

    def _activations_initial_activation(self) -> Layers:
        return dict(self.start.activations)

    def _activations_label(self) -> Layers:
        return dict.fromkeys(self._seen[0], self.samples.label)

    # the network as a whole: its only "layer" has no name

    def _network_network(self) -> Layers:
        return {"": self.network}

    def _network_predict(self) -> Layers:
        return {"": self.algorithm.predict}

    def _network_x(self) -> Layers:
        return {"": self.samples.x}

    def _network_pixels(self) -> Layers:
        return {} if self.samples.pixels is None else {"": self.samples.pixels}

    def _network_normalise(self) -> Layers:
        return {"": self.samples.normalise}

    def _network_label(self) -> Layers:
        return {"": self.samples.label}

    @property
    def _linear(self) -> bool:
        """Whether the scores are a linear function of the features."""
        rule = type(self.algorithm)
        return rule.predict is Algorithm.predict and rule.represent is Algorithm.represent

    def _network_scores(self) -> Layers:
        if self._linear:
            with torch.no_grad():
                return {"": readout(self.network)(self._seen[1]).double()}
        training = self.network.training
        self.network.eval()
        with torch.no_grad():
            scores = [self.algorithm.predict(self.network, x) for x in self.samples.x.split(ROWS)]
        self.network.train(training)
        return {"": torch.cat(scores).double()}

    def _network_features(self) -> Layers:
        return {"": self._seen[1]}

    def _network_readout_weight(self) -> Layers:
        return {"": readout(self.network).weight.detach().clone()} if self._linear else {}

    def _network_readout_bias(self) -> Layers:
        last = readout(self.network)
        bias = last.weight.new_zeros(len(last.weight)) if last.bias is None else last.bias.detach().clone()
        return {"": bias} if self.find("network", "readout_weight") else {}

    def _network_surrogate(self) -> Layers:
        return {} if self.surrogate is None else {"": self.surrogate}


def _spectra(matrices: Layers) -> Layers:
    """Singular values by layer. Layers of one shape are computed together."""
    shapes = {layer: w.shape for layer, w in matrices.items()}
    spectra: Layers = {}
    for shape in dict.fromkeys(shapes.values()):
        alike = [layer for layer in matrices if shapes[layer] == shape]
        stacked = torch.stack([matrices[layer] for layer in alike])
        spectra |= dict(zip(alike, singular_values(stacked), strict=True))
    return {layer: spectra[layer] for layer in matrices}


def observed(metric: Metric) -> tuple[str, ...]:
    """The names of the inputs of `metric`, which are its positional parameters."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(p.name for p in inspect.signature(metric).parameters.values() if p.kind in kinds)


def inputs_by_place(names: tuple[str, ...], observation: Observation) -> dict[str, dict[str, Any]]:
    """The inputs `names` of a metric by `<scope>/<layer>`, for the layers that have all of them."""
    scope = scope_of(names)
    assert scope is not None, f"{names} do not belong to one scope"
    names = tuple(name for name in names if name not in ANYWHERE)
    places: dict[str, dict[str, Any]] = {}
    for where in (scope, "changes") if set(names) <= OF_CHANGES else (scope,):
        by_name = {name: observation.find(where, name) for name in names}
        layers = [layer for layer in by_name[names[0]] if all(layer in layers for layers in by_name.values())]
        places |= {f"{where}/{layer}".rstrip("/"): {n: by_name[n][layer] for n in names} for layer in layers}
    return places


def unseen(names: tuple[str, ...], observation: Observation) -> list[str]:
    """Those of `names` that no layer has. If each is present, but never in the same layer, all of them."""
    scope = scope_of(names)
    assert scope is not None
    needed = [name for name in names if name not in ANYWHERE]
    return [name for name in needed if not observation.find(scope, name)] or needed


def evaluate(
    name: str, metric: Metric, keys: Mapping[str, Any], observation: Observation, generator: Callable[[], Generator]
) -> dict[str, float]:
    """The value of `metric` by `<scope>/<layer>/<name>`, for every layer that it applies to. `generator` makes a new
    generator.
    """
    names = observed(metric)
    values: dict[str, float] = {}
    for place, seen in inputs_by_place(names, observation).items():
        if "network" in seen:  # a metric may change it, so each metric gets a copy
            seen["network"] = copy.deepcopy(seen["network"]).eval().requires_grad_(True)
            seen["network"].zero_grad(set_to_none=True)
        versions = {n: thing._version for n, thing in seen.items() if isinstance(thing, Tensor)}
        with torch.enable_grad():  # the mode is restored, whatever the metric sets
            result = metric(*(generator() if n == "generator" else seen[n] for n in names), **keys)
        if changed := [n for n, version in versions.items() if seen[n]._version != version]:
            raise ValueError(
                f"changes {changed[0]} in place, but other metrics use it too; work on {changed[0]}.clone()"
            )
        parts = {f"{name}_{k}": v for k, v in result.items()} if isinstance(result, Mapping) else {name: result}
        for part, value in parts.items():
            if isinstance(value, Tensor) and value.numel() == 1:
                value = value.item()
            if not isinstance(value, numbers.Real):
                given = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
                raise TypeError(f"gave {given} for {place}; a metric gives a number, or a mapping of numbers")
            if not re.fullmatch(r"[\w.-]+", part):
                raise ValueError(f"gave the part {part!r}; a name may contain letters, digits and ._-")
            values[f"{place}/{part}"] = float(value)
    return values


def probe_steps(total: int, points: int, per_epoch: int, epochs: float | None) -> set[int]:
    """`points` steps from 1 to `total`, evenly spaced on a logarithmic scale (fewer if some
    coincide; all steps if there are not more than `points`), and the end of every n-th epoch, where n is `epochs`.
    """
    every = set(range(1, total + 1))
    if points >= total or (epochs is not None and epochs * per_epoch <= 1):
        return every
    exponents = [i / (points - 1) for i in range(points)] if points > 1 else [1.0] * points
    steps = {min(total, max(1, round(total**e))) for e in exponents}
    if epochs is not None:
        count = int(total / (epochs * per_epoch))
        steps |= {max(1, round(i * epochs * per_epoch)) for i in range(1, count + 1)}
    return steps
