"""Where instruments look: the tensors that a run shows of itself at a probe, each computed once and only if asked for.

Looking changes nothing: the network is put into evaluation mode and back, no gradient is taken and no random number
drawn, so a run with instruments ends in exactly the weights of the run without them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor, nn

from creditlab.algorithms.base import Algorithm
from creditlab.architectures.block import weights
from creditlab.spectral import as_matrix, singular_values

Metric = Callable[..., float | Mapping[str, float]]


class Observation:
    """The network, at one moment. `x`, `label`: the probe samples. `initial`: weights at initialisation by layer."""

    def __init__(
        self, network: nn.Sequential, algorithm: Algorithm, x: Tensor, label: Tensor, initial: Mapping[str, Tensor]
    ) -> None:
        self.network, self.algorithm, self.x, self.label, self.initial = network, algorithm, x, label, initial

    @cached_property
    def weights(self) -> dict[str, dict[str, Tensor]]:
        return {
            n: {"weight": w, "singular_values": singular_values(w), "initial_weight": as_matrix(self.initial[n])}
            for n, w in ((n, as_matrix(w.detach())) for n, w in weights(self.network).items())
        }

    @cached_property
    def changes(self) -> dict[str, dict[str, Tensor]]:
        """W − W₀ by layer; a layer that has not moved is left out."""
        moved = {n: seen["weight"] - seen["initial_weight"] for n, seen in self.weights.items()}
        return {n: {"weight": d, "singular_values": singular_values(d)} for n, d in moved.items() if d.any()}

    @cached_property
    def activations(self) -> dict[str, dict[str, Tensor]]:
        training = self.network.training
        self.network.eval()
        with torch.no_grad():
            seen = self.algorithm.represent(self.network, self.x)
        self.network.train(training)
        maps = {n: h.flatten(2) if h.ndim > 2 else h[:, :, None] for n, h in seen.items()}
        return {n: {"activation": m.mean(2), "activation_map": m, "label": self.label} for n, m in maps.items()}

    def scopes(self, names: tuple[str, ...]) -> list[tuple[str, dict[str, dict[str, Tensor]]]]:
        """Where a metric that observes `names` applies: (scope, what each layer shows)."""
        if {"activation", "activation_map"} & set(names):
            return [("activations", self.activations)]
        if "initial_weight" in names:
            return [("weights", self.weights)]
        return [("weights", self.weights), ("changes", self.changes)]


def observed(metric: Metric) -> tuple[str, ...]:
    """The names of what `metric` observes: its positional parameters."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(p.name for p in inspect.signature(metric).parameters.values() if p.kind in kinds)


def measure(metrics: Mapping[str, tuple[Metric, Mapping]], observation: Observation) -> dict[str, float]:
    """`<scope>/<layer>/<name>`: value, for every metric (function and keys, by name) in every layer it applies to.

    A metric that gives a mapping adds `<name>_<part>` for each of its parts.
    """
    values: dict[str, float] = {}
    for name, (metric, keys) in metrics.items():
        names = observed(metric)
        for scope, layers in observation.scopes(names):
            for layer, seen in layers.items():
                value = metric(*(seen[n] for n in names), **keys)
                parts = {f"{name}_{k}": v for k, v in value.items()} if isinstance(value, Mapping) else {name: value}
                values |= {f"{scope}/{layer}/{part}": float(v) for part, v in parts.items()}
    return values


def probe_steps(total: int, points: int) -> list[int]:
    """`points` steps from 1 to `total`, evenly spaced on a logarithmic scale (fewer where they would coincide)."""
    if points == 0:
        return []
    exponents = [i / max(points - 1, 1) for i in range(points)] if points > 1 else [1.0]
    return sorted({min(total, max(1, round(total**e))) for e in exponents})
