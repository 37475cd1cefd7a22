"""Which settings of a sweep's runs are factors, and which only follow from others.

The factors are the settings that vary by choice:

  - the option chosen in a group (algorithm, optimiser, dataset, architecture);
  - a key that varies *within* an option of its group (optimiser.lr swept), or that has no group (training.steps).

A key that differs only because the option differs (algorithm.sigma, which only es has) is no factor. A key whose value
another factor determines (a learning rate for each algorithm) is *aliased*: the two effects cannot be separated. A key
each value of which occurs under one option only (sigma swept for es beside bp) is *nested*: it cannot be crossed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from creditlab import records
from creditlab.analysis.names import SEED
from creditlab.files import printable

GROUPS = ("algorithm", "optimiser", "dataset", "architecture")
OBSERVERS = ("metrics", "training.keep_weights")  # keys that watch a run and do not change it

Settings = dict[str, Any]  # of one run: the chosen options and the flat config


def settings_of(run: records.Run) -> Settings:
    """The chosen options and the flat config of a run; empty where it has no usable config."""
    config = run.config
    if not isinstance(config, dict) or not isinstance(config.get("choices"), dict):
        return {}
    flat = {printable(key): _level(value) for key, value in records.flatten(config).items() if _is_setting(key)}
    choices = {group: config["choices"].get(group) for group in GROUPS}
    return {group: choice and printable(choice) for group, choice in choices.items()} | flat


def _level(value: Any) -> Any:
    """A setting as a value that can be compared and written: lists and the like as JSON."""
    if isinstance(value, str):
        return printable(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else json.dumps(value)


@cache
def _is_setting(key: str) -> bool:
    """Whether a key of the config can change what a run does."""
    return not any(key == other or key.startswith(f"{other}.") for other in (*records.EXCLUDED, *OBSERVERS))


def sort_out(settings: Sequence[Settings]) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """The factors; the aliased keys, each with the factors that determine its value; the nested keys, each with the
    factor that each of its values determines."""
    column = {key: [run.get(key) for run in settings] for key in [*_varying(settings), SEED]}
    shared_seeds = len(set(column[SEED])) < len(settings)
    factors: list[str] = []
    aliased: dict[str, str] = {}
    nested: dict[str, str] = {}
    for key in list(column)[:-1]:
        source = next((f for f in [*factors, *[SEED] * shared_seeds] if _determines(column[f], column[key])), None)
        host = next((f for f in factors if _determines(column[key], column[f])), None)
        if source:
            aliased[key] = source
        elif host:
            nested[key] = host
        else:
            factors.append(key)
    for key in [key for key in [*factors, *nested] if key not in GROUPS]:
        if sources := _determined_together(key, [f for f in factors if f != key], column):
            factors = [f for f in factors if f != key]
            nested.pop(key, None)
            aliased[key] = " × ".join(sources)
    return factors, aliased, nested


def _varying(settings: Sequence[Settings]) -> list[str]:
    """The keys that vary within an option of their group, groups first."""
    options = {group: [run.get(group) for run in settings] for group in GROUPS}
    no_group = [None] * len(settings)
    varying = []
    for key in dict.fromkeys([*GROUPS, *(k for s in settings for k in s)]):
        group = key.partition(".")[0] if "." in key else ""
        if key != SEED and not _determines(options.get(group, no_group), [run.get(key) for run in settings]):
            varying.append(key)
    return varying


def _determines(source: Iterable, target: Iterable) -> bool:
    """Whether each value of `source` goes with one value of `target`."""
    pairs = set(zip(source, target, strict=True))
    return len({value for value, _ in pairs}) == len(pairs)


def _determined_together(key: str, others: list[str], column: Mapping[str, list]) -> list[str]:
    """The factors whose combination determines the value of `key`: the options chosen, or the fewest of `others`,
    provided that these are crossed (else many a combination has one value by chance).
    """

    def determine(factors: list[str]) -> bool:
        return len(factors) > 1 and _determines(zip(*(column[f] for f in factors), strict=True), column[key])

    options = [f for f in others if f in GROUPS]
    if determine(options):
        return options
    crossed = math.prod(len(set(column[f])) for f in others)
    if not determine(others) or len(set(zip(*(column[f] for f in others), strict=True))) < crossed:
        return []
    for factor in others:
        fewer = [f for f in others if f != factor]
        others = fewer if determine(fewer) else others
    return others
