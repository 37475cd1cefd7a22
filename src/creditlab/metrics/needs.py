"""How many samples, and classes among them, a metric needs. Each metric declares it, so that a run with fewer is
refused before the first run of a sweep starts.

    @needs(samples=4)
    def cka(activation, initial_activation): ...
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def needs(*, samples: int = 1, classes: int = 1) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """The fewest that the metric works on. With fewer it raises ValueError. The samples are those of the first tensor
    that it observes. The classes are those of its `label`.
    """

    def declare(metric: Callable[P, R]) -> Callable[P, R]:
        form = inspect.signature(metric)

        @functools.wraps(metric)
        def checked(*args: P.args, **keys: P.kwargs) -> R:
            observed = form.bind(*args, **keys).arguments
            present = len(observed["label"].unique()) if "label" in observed else classes
            require_enough(checked, keys, samples=len(next(iter(observed.values()))), classes=present)
            return metric(*args, **keys)

        checked.needs = samples, classes  # type: ignore[attr-defined]
        return checked

    return declare


def require_enough(metric: Callable, keys: Mapping[str, Any], *, samples: int, classes: int) -> None:
    """Raise ValueError if `metric`, with `keys`, needs more samples or classes than are given."""
    limit = keys.get("samples", samples)
    given = {"samples": min(samples, limit), "classes": classes}
    for (kind, number), fewest in zip(given.items(), getattr(metric, "needs", (0, 0)), strict=True):
        if number < fewest:
            noun = kind if number != 1 else {"samples": "sample", "classes": "class"}[kind]
            key = f", or the metric's key samples ({limit})" if kind == "samples" and "samples" in keys else ""
            raise ValueError(f"{number} {noun}: at least {fewest} are needed; raise metrics.samples{key}")
