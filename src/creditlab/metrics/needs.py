"""How many probe samples, and classes among them, a metric needs: declared beside it, so that fewer are refused before
the first run of a sweep starts.

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
    """The fewest that a metric works on. Called with fewer it raises ValueError. Samples are counted by the first thing
    that it observes, classes by its `label`.
    """

    def declare(metric: Callable[P, R]) -> Callable[P, R]:
        form = inspect.signature(metric)

        @functools.wraps(metric)
        def checked(*args: P.args, **keys: P.kwargs) -> R:
            seen = form.bind(*args, **keys).arguments
            present = len(seen["label"].unique()) if "label" in seen else classes
            check(checked, keys, samples=len(next(iter(seen.values()))), classes=present)
            return metric(*args, **keys)

        checked.needs = samples, classes  # type: ignore[attr-defined]
        return checked

    return declare


def check(metric: Callable, keys: Mapping[str, Any], *, samples: int, classes: int) -> None:
    """Raise ValueError where `metric`, with `keys`, needs more than there are. One that declares nothing needs none."""
    own = keys.get("samples", samples)
    for kind, there, fewest in zip(
        ("samples", "classes"), (min(samples, own), classes), getattr(metric, "needs", ()), strict=False
    ):
        if there < fewest:
            said = kind if there != 1 else {"samples": "sample", "classes": "class"}[kind]
            key = f", or its own key samples ({own})" if kind == "samples" and "samples" in keys else ""
            raise ValueError(f"{there} {said}: at least {fewest} are needed; raise metrics.samples{key}")
