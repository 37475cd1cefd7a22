"""More than a grid: values that go together, values for a combination, runs left out, runs added.

    zip:      [[algorithm, optimiser.lr]]                                      # first with first, second with second
    pairs:    [{when: {algorithm: es, optimiser: muon}, set: {optimiser.lr: 0.3}}]
    exclude:  [{algorithm: es, optimiser: muon}]
    include:  [{algorithm: ff, optimiser: sgd, seed: 0}]

These are keys of `hydra/sweeper=grid`. A run is told by its overrides, as the command line and `params` give them: a
default that is not among them matches nothing, and naming it is refused. What the command line gives goes before the
pairs of a file. Runs that come out the same count once.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from creditlab.config import ConfigError
from creditlab.hints import did_you_mean

Levels = dict[str, list[str]]  # by key, as it stands on the command line: the texts of its values
Point = dict[str, str]


def zipped(levels: Levels, groups: Sequence[Sequence[str]]) -> list[list[Point]]:
    """The axes of the grid: one a key, or one for all keys of a group in `groups`."""
    axes = {key: [{key: text} for text in texts] for key, texts in levels.items()}
    for keys in groups:
        known("zip", keys, axes)
        lengths = {key: len(axes[key]) for key in keys}
        if len(set(lengths.values())) != 1:
            told = ", ".join(f"{number} of {key}" for key, number in lengths.items())
            raise ConfigError(f"hydra.sweeper.zip: needs as many values of each key, not {told}.")
        together = [_joined(points) for points in zip(*(axes.pop(key) for key in keys), strict=True)]
        axes[" with ".join(keys)] = together
    return list(axes.values())


def runs(
    levels: Levels,
    axes: Sequence[Sequence[Point]],
    pairs: Sequence[Mapping],
    exclude: Sequence[Mapping],
    include: Sequence[Mapping],
    value: Callable[[str], Any],
    kept: Container[str] = (),
) -> Iterator[list[str]]:
    """The overrides of each run. `value` reads the text of one; keys that are `kept` no pair sets."""
    for pair in pairs:
        if pair.keys() != {"when", "set"} or not all(isinstance(part, Mapping) for part in pair.values()):
            raise ConfigError(f"hydra.sweeper.pairs: {pair} must have the keys when and set, each a mapping.")
    for name, combinations in (("pairs", [pair["when"] for pair in pairs]), ("exclude", exclude)):
        for combination in combinations:
            known(name, combination, levels)

    def matches(point: Point, combination: Mapping) -> bool:
        return all(key in point and value(f"key={point[key]}") == wanted for key, wanted in combination.items())

    fixed = {key: texts[0] for key, texts in levels.items() if len(texts) == 1}
    added = [fixed | {key: _text(wanted) for key, wanted in run.items()} for run in include]
    for point in itertools.chain(map(_joined, itertools.product(*axes)), added):
        if not any(matches(point, combination) for combination in exclude):
            for pair in pairs:
                if matches(point, pair["when"]):
                    point = point | {key: _text(wanted) for key, wanted in pair["set"].items() if key not in kept}
            yield [f"{key}={text}" for key, text in point.items()]


def known(name: str, keys: Iterable[str], there: Iterable[str]) -> None:
    """Raise ConfigError for a key that no run has: it would match none."""
    for key in keys:
        if key not in there:
            told = f"{', '.join(there) or 'none'}.{did_you_mean(key, there)}"
            raise ConfigError(f"hydra.sweeper.{name}: {key} is not among the keys that are given, which are {told}")


def _joined(points: Iterable[Point]) -> Point:
    return {key: text for point in points for key, text in point.items()}


def _text(value: Any) -> str:
    """A value as it stands on a command line."""
    return value if isinstance(value, str) else json.dumps(value)
