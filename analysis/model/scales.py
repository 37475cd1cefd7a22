"""The scale on which a metric is compared, decided by its kind and never by a test.

accuracy           logit((k + ½) / (n − k + ½)) of k right answers out of n: differences are log odds ratios
loss, error        log: differences are log ratios
all other metrics  as they are

On the logit and the log scale, effects are those on medians. `Scale.difference` gives a difference of two levels in the
metric's own unit: between the medians whose mean on the scale is that of the two levels. It has the sign of the
difference on the scale, so that an interval excludes 0 on the one where it does on the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np
from scipy import special

from creditlab.analysis.names import AnalysisError
from creditlab.hints import did_you_mean

Kind = Literal["identity", "log", "logit"]
KINDS: tuple[Kind, ...] = ("identity", "log", "logit")
BY_ENDING: dict[str, Kind] = {"accuracy": "logit", "loss": "log", "error": "log", "perplexity": "log"}
MOST_SAMPLES = 100_000  # of which an accuracy can be the share for its number to be seen from its values
BY_CHANCE = 0.01  # numbers of samples that fit the values by chance, at most
AS_COUNTED = 1e-7  # relative: how exactly a share must be a share of whole numbers; float32 rounds to 6e-8


@dataclass(frozen=True)
class Scale:
    """A kind of scale; `samples` is n of an accuracy, or None where its values are no shares of whole numbers."""

    kind: Kind = "identity"
    samples: int | None = None
    note: str = ""

    def of(self, values: np.ndarray) -> np.ndarray:
        """Values of the metric on the scale."""
        if self.kind == "identity":
            return values
        if self.kind == "log":
            return np.log(values)
        half = 0.5 / self.samples if self.samples else 0.0
        return np.log((values + half) / (1 - values + half))

    def back(self, values: np.ndarray) -> np.ndarray:
        """Values on the scale in the metric's unit: of a mean, the median."""
        if self.kind == "identity":
            return values
        if self.kind == "log":
            return np.exp(values)
        half = 0.5 / self.samples if self.samples else 0.0
        return np.clip(special.expit(values) * (1 + 2 * half) - half, 0, 1)

    def difference(self, middle: np.ndarray, difference: np.ndarray) -> np.ndarray:
        """A difference on the scale, around the mean `middle` of two levels there, in the metric's unit."""
        if self.kind == "identity":
            return difference
        half = difference / 2
        return self.back(middle + half) - self.back(middle - half)


def scale_of(metric: str, values: np.ndarray, chosen: dict[str, Kind] | None = None) -> Scale:
    """The scale of a metric with finite `values`; `chosen` gives kinds by pattern of the name (the last that fits)."""
    kind: Kind = BY_ENDING.get(metric.split("@")[0].rpartition("/")[2], "identity")
    asked = False
    for pattern, named in (chosen or {}).items():
        if fnmatchcase(metric, pattern):
            kind, asked = named, True
    if kind == "log" and values.min() <= 0:
        return Scale(
            note=f"{metric} is compared as it is: it has values of 0 or below, which have no logarithm" * asked
        )
    if kind == "logit":
        if values.min() < 0 or values.max() > 1:
            return Scale(note=f"{metric} is compared as it is: a share lies between 0 and 1" * asked)
        samples = samples_behind(values)
        if samples is None and (values.min() == 0 or values.max() == 1):
            return Scale(note=f"{metric} is compared as it is: of how many samples it is the share is not known")
        return Scale("logit", samples)
    return Scale(kind)


def check_patterns(chosen: Mapping[str, Kind], metrics: Sequence[str]) -> None:
    """Raise AnalysisError for a pattern of `chosen` that matches none of `metrics`."""
    for pattern in chosen:
        if not any(fnmatchcase(metric, pattern) for metric in metrics):
            hint = did_you_mean(pattern, metrics)
            raise AnalysisError(f"no metric matches {pattern!r}, for which a scale is given.{hint}")


def samples_behind(values: np.ndarray) -> int | None:
    """The least n of which all `values` are shares of whole numbers; None where there is none, or perhaps by chance."""
    distinct = np.unique(values)
    inside = distinct[(distinct > 0) & (distinct < 1)]
    if not len(inside):
        return None
    n = np.arange(2, MOST_SAMPLES + 1)
    inside = inside[:64]
    for value in inside:
        counts = value * n
        n = n[np.abs(counts - np.round(counts)) <= AS_COUNTED * n]
    if not len(n):
        return None
    # As many n up to this one would fit so many values by chance:
    by_chance = (2 * AS_COUNTED) ** len(inside) * float(n[0]) ** (len(inside) + 1) / (len(inside) + 1)
    return int(n[0]) if by_chance < BY_CHANCE else None
