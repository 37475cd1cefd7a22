"""The runs of a grid, and how to change them: keys that vary together, values for some runs, runs removed or added.

    zip:      [[algorithm, optimiser.lr]]               # the first value with the first, the second with the second
    pairs:    [{when: {algorithm: es, optimiser: muon}, set: {optimiser.lr: 0.3}}]
    exclude:  [{algorithm: es, optimiser: muon}]
    include:  [{algorithm: ff, optimiser: sgd, seed: 0}]

These are keys of `hydra/sweeper=grid`. Only the overrides of a run count, those of the command line and those of
`params`. A key that is left at its default matches nothing, so naming it is an error. The command line overrides the
pairs in a file. Equal runs count once.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from creditlab.config import ConfigError
from creditlab.hints import did_you_mean

Levels = dict[str, list[str]]  # the values of each key, as texts of the command line
Point = dict[str, str]  # one value per key


def zipped(levels: Levels, groups: Sequence[Sequence[str]]) -> list[list[Point]]:
    """The axes of the grid: one per key, but a single one for all keys of a group in `groups`."""
    axes = {key: [{key: text} for text in texts] for key, texts in levels.items()}
    for keys in groups:
        require_given("zip", keys, axes)
        lengths = {key: len(axes[key]) for key in keys}
        if len(set(lengths.values())) != 1:
            numbers = ", ".join(f"{number} of {key}" for key, number in lengths.items())
            raise ConfigError(f"hydra.sweeper.zip: needs as many values of each key, not {numbers}.")
        axis = [_joined(points) for points in zip(*(axes.pop(key) for key in keys), strict=True)]
        axes[" with ".join(keys)] = axis
    return list(axes.values())


def runs(
    levels: Levels,
    axes: Sequence[Sequence[Point]],
    pairs: Sequence[Mapping],
    exclude: Sequence[Mapping],
    include: Sequence[Mapping],
    value: Callable[[str], Any],
    fixed_keys: Container[str] = (),
) -> Iterator[list[str]]:
    """The overrides of each run. `value` parses an override. Pairs do not change `fixed_keys`."""
    for pair in pairs:
        if pair.keys() != {"when", "set"} or not all(isinstance(part, Mapping) for part in pair.values()):
            raise ConfigError(f"hydra.sweeper.pairs: {pair} must have the keys when and set, each a mapping.")
    for name, combinations in (("pairs", [pair["when"] for pair in pairs]), ("exclude", exclude)):
        for combination in combinations:
            require_given(name, combination, levels)

    def matches(point: Point, combination: Mapping) -> bool:
        return all(key in point and value(f"key={point[key]}") == level for key, level in combination.items())

    constant = {key: texts[0] for key, texts in levels.items() if len(texts) == 1}
    added = [constant | {key: _text(level) for key, level in run.items()} for run in include]
    for point in itertools.chain(map(_joined, itertools.product(*axes)), added):
        if not any(matches(point, combination) for combination in exclude):
            for pair in pairs:
                if matches(point, pair["when"]):
                    point = point | {key: _text(level) for key, level in pair["set"].items() if key not in fixed_keys}
            yield [f"{key}={text}" for key, text in point.items()]


def require_given(name: str, keys: Iterable[str], given_keys: Iterable[str]) -> None:
    """Raise ConfigError for a key that is not given to any run: it would match nothing."""
    for key in keys:
        if key not in given_keys:
            allowed = f"{', '.join(given_keys) or 'none'}.{did_you_mean(key, given_keys)}"
            raise ConfigError(f"hydra.sweeper.{name}: {key} is not among the keys that are given, which are {allowed}")


def _joined(points: Iterable[Point]) -> Point:
    return {key: text for point in points for key, text in point.items()}


def _text(value: Any) -> str:
    """A value as a text of the command line."""
    return value if isinstance(value, str) else json.dumps(value)
