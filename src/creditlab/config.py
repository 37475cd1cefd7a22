"""From what Hydra composed to a config that a run can trust: resolved, typed, checked; and the objects it names.

The keys of a group's YAML are the keyword arguments of the class or function at its `_target_`. `check` holds every
name, type and range against that signature without importing it, so a mistake answers in a fraction of a second and
before any run of a sweep starts. An error names the key, the value, what is allowed and the nearest valid name.
"""

from __future__ import annotations

import functools
import importlib
import json
import math
import os
import traceback
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from creditlab.hints import did_you_mean
from creditlab.keys import Count, Folder, Fraction, NonNegative, Positive, PositiveInt, Range, Words
from creditlab.scopes import ANYWHERE, SCOPES, scope_of
from creditlab.signature import Elsewhere, Signature, TargetError, defined_in, signature

GROUPS = ("algorithm", "optimiser", "dataset", "architecture")
SUPPLIED = {"algorithm": 4, "optimiser": 1, "dataset": 0, "architecture": 2}  # leading arguments that we give
PLACES = (*SCOPES, "changes")  # of metrics: `<scope>/<layer>/<metric>`


class ConfigError(ValueError):
    """A mistake in the configuration; the message is meant for the user."""


@dataclass
class Training:
    """The keys of `training`. See `conf/config.yaml` for their meaning."""

    steps: PositiveInt | None
    epochs: Positive | None
    batch_size: PositiveInt
    evaluations: PositiveInt
    stop_at_accuracy: Fraction | None
    schedule: Literal["constant", "cosine", "linear"]
    warmup: Count
    update_noise: NonNegative
    keep_weights: bool
    checkpoint_seconds: Positive | None
    objective: str


@dataclass
class Trajectory:
    """The keys of `metrics.trajectory`: which gradients are kept."""

    length: Annotated[int, Range(2)]
    spacing: PositiveInt | None
    projection: PositiveInt | None


@dataclass
class Metrics:
    """The keys of `metrics`: which instruments run, when, and on what."""

    points: Count
    epochs: Positive | None
    samples: PositiveInt
    keep_activations: bool
    surrogate: str | None
    trajectory: dict[str, Any]
    instruments: dict[str, Any]


@dataclass
class Config:
    """The keys of a run beside its groups."""

    seed: Count
    device: str
    threads: PositiveInt
    precision: Literal["float32", "float64", "bfloat16"]
    sweep: Folder | None
    retry: Literal["none", "failed", "diverged", "all"]


def shown(value: Any) -> str:
    """`value` as YAML has it, text in quotes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {shown(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(shown(v) for v in value) + "]"
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


def describe(annotation: Any) -> str:
    """What a key may be, in words."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        ranges = " and ".join(str(r) for r in args[1:] if isinstance(r, Range | Words))
        return f"{describe(args[0])} {ranges}".strip()
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(a) for a in args if a is not Elsewhere)
    if origin is Literal:
        return " or ".join(str(a) for a in args)
    if origin in (list, tuple):
        length = f" of {len(args)}" if _fixed(origin, args) else ""
        each = list(dict.fromkeys(describe(a) for a in args if a is not Ellipsis))
        return f"a list{length}, " + ("each " if len(each) == 1 else "") + ", ".join(each) if args else "a list"
    if origin is dict or annotation is dict:
        return "a mapping" + (f", each value {describe(args[1])}" if args and args[1] is not Any else "")
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return names.get(annotation, "anything" if annotation is Any else getattr(annotation, "__name__", str(annotation)))


def _fixed(origin: Any, args: tuple) -> bool:
    """Whether it is a tuple of a length of its own, such as `tuple[float, float]`."""
    return origin is tuple and bool(args) and args[-1] is not Ellipsis


_REFUSED = object()


def _fit(value: Any, annotation: Any) -> Any:
    """`value` as `annotation` wants it, or `_REFUSED`."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return value
    if origin is Annotated:
        fitted = _fit(value, args[0])
        ranges = [r for r in args[1:] if isinstance(r, Range | Words)]
        return fitted if fitted is not _REFUSED and all(fitted in r for r in ranges) else _REFUSED
    if origin in (typing.Union, types.UnionType):
        return next((f for a in args if (f := _fit(value, a)) is not _REFUSED), _REFUSED)
    if origin is Literal:
        return value if any(type(value) is type(a) and value == a for a in args) else _REFUSED
    if origin in (list, tuple):
        if not isinstance(value, list | tuple) or (_fixed(origin, args) and len(value) != len(args)):
            return _REFUSED
        each = args if _fixed(origin, args) else (args[0] if args else Any,) * len(value)
        fitted = [_fit(v, a) for v, a in zip(value, each, strict=True)]
        return _REFUSED if any(f is _REFUSED for f in fitted) else fitted
    if origin is dict or annotation is dict:
        whole = isinstance(value, Mapping) and (
            not args or all(_fit(v, args[1]) is not _REFUSED for v in value.values())
        )
        return value if whole else _REFUSED
    if annotation is type(None):
        return None if value is None else _REFUSED
    if annotation is float:
        usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return float(value) if usable else _REFUSED
    if annotation is int:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) else _REFUSED
    if isinstance(annotation, type):
        return value if isinstance(value, annotation) else _REFUSED
    return value


def _check_keys(path: str, values: Mapping, allowed: Mapping[str, Any], required: Iterable[str], where: str) -> dict:
    """`values` with each entry fitted to its annotation. `path` ends in a dot unless it is the top."""
    checked = {}
    for key, value in values.items():
        if key not in allowed:
            raise ConfigError(
                f"{path}{key}: {where} has no key {key!r}.{did_you_mean(key, allowed)} "
                f"It has {', '.join(allowed) or 'none'}."
            )
        checked[key] = _fit(value, allowed[key])
        if checked[key] is _REFUSED:
            hint = did_you_mean(value, _choices(allowed[key])) if isinstance(value, str) else ""
            raise ConfigError(f"{path}{key}={shown(value)}: must be {describe(allowed[key])}.{hint}")
    missing = [key for key in required if key not in values]
    if missing:
        raise ConfigError(f"{path}{missing[0]}: {where} needs this key ({describe(allowed[missing[0]])}).")
    return checked


def _choices(annotation: Any) -> list[str]:
    """The words that `annotation` admits."""
    if typing.get_origin(annotation) is Literal:
        return [str(a) for a in typing.get_args(annotation)]
    return [c for a in typing.get_args(annotation) for c in _choices(a)]


def _signature(path: str, node: Any) -> Signature:
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        raise ConfigError(f"{path}: needs a `_target_`, the dotted path of a class or function.")
    target = node["_target_"]
    try:
        return signature(target)
    except TargetError as error:
        hint = did_you_mean(target.rpartition(".")[2], defined_in(target))
        raise ConfigError(f"{path}._target_={target}: {error}.{hint}") from None


def _check_target(path: str, node: Any, supplied: int, choice: str) -> dict:
    """A node with a `_target_`: its other keys are arguments, less the first `supplied`, which creditlab gives."""
    form = _signature(path, node)
    names = [n for n in form.annotations if n not in form.positional[:supplied]]
    allowed: dict[str, Any] = {n: form.annotations[n] for n in names}
    if form.open:
        allowed |= {k: Any for k in node if k not in allowed}
    values = {k: v for k, v in node.items() if k != "_target_"}
    required = [n for n in names if n in form.required]
    checked = _check_keys(f"{path}.", values, allowed, required, f"{choice} ({node['_target_']})")
    return {"_target_": node["_target_"], **checked}


@functools.cache
def _annotations(section: type) -> dict[str, Any]:
    return typing.get_type_hints(section, include_extras=True)


def _check_section(path: str, node: Any, section: type) -> dict:
    allowed = _annotations(section)
    if not isinstance(node, Mapping):
        raise ConfigError(f"{path}={shown(node)}: must be a mapping with the keys {', '.join(allowed)}.")
    return _check_keys(f"{path}.", node, allowed, allowed, path)


AT = ("points", "ends")  # when an instrument looks: at every probe step, or at initialisation and the end only


def _check_instruments(instruments: Mapping) -> dict:
    """A metric's positional parameters name what it observes; the rest are its keys."""
    checked = {}
    every = list(dict.fromkeys([*(n for names in SCOPES.values() for n in names), *ANYWHERE]))
    for name, node in instruments.items():
        path = f"metrics.instruments.{name}"
        form = _signature(path, node)
        for parameter in form.positional:
            if parameter not in every:
                raise ConfigError(
                    f"{path}: {node['_target_']} observes {parameter!r}, which is not among "
                    f"{', '.join(every)}.{did_you_mean(parameter, every)}"
                )
        if not form.positional or scope_of(form.positional) is None:
            together = "; ".join(f"{scope}: {', '.join(names)}" for scope, names in SCOPES.items())
            asked = ", ".join(form.positional) or "nothing"
            raise ConfigError(f"{path}: {node['_target_']} observes {asked}; a metric observes one of {together}.")
        at = node.get("_at_", AT[0])
        if at not in AT:
            raise ConfigError(f"{path}._at_={at!r}: must be {' or '.join(AT)}.")
        rest = {key: value for key, value in node.items() if key != "_at_"}
        checked[name] = _check_target(path, rest, len(form.positional), name) | {"_at_": at}
    return checked


Seen = dict[int, dict | None]  # of nodes that runs share, by their id: what `check` made of them, None so far


def check(config: Mapping, seen: Seen | None = None) -> dict:
    """`config` with every value in the type that its key asks for (1 becomes 1.0 where a float is wanted, so that
    identities agree). Raises ConfigError at the first key that is unknown, missing, of a wrong type or out of range.
    `config["choices"]` gives the option chosen in each group. A node in `seen` is checked once.
    """
    seen = {} if seen is None else seen
    config = dict(config)
    choices = config.pop("choices")
    checked: dict[str, Any] = {"choices": dict(choices)}
    sections: dict[str, Callable[[Any], dict]] = {
        **{group: functools.partial(_check_group, group, choices.get(group)) for group in GROUPS},
        "training": _check_training,
        "metrics": _check_metrics,
        "tracker": lambda node: _check_target("tracker", node, 0, "the tracker"),
    }
    for name, check_section in sections.items():
        node = config.pop(name, None)
        found = seen.get(id(node)) or check_section(node)
        if id(node) in seen:
            seen[id(node)] = found
        checked[name] = found
    rest = _annotations(Config)
    known = dict.fromkeys([*rest, *sections], Any) | rest
    checked |= _check_keys("", config, known, [*rest], "a run")
    cores = os.cpu_count() or 1
    if checked["threads"] > cores:
        raise ConfigError(f"threads={checked['threads']}: must be at most {cores}, the cores of this machine.")
    _check_objective(checked["training"]["objective"], checked)
    return checked


def _check_group(group: str, option: str | None, node: Any) -> dict:
    return _check_target(group, node, SUPPLIED[group], f"{group}={option}")


def _check_metrics(node: Any) -> dict:
    checked = _check_section("metrics", node, Metrics)
    checked["trajectory"] = _check_section("metrics.trajectory", checked["trajectory"], Trajectory)
    checked["instruments"] = _check_instruments(checked["instruments"])
    return checked


def _check_training(node: Any) -> dict:
    """`epochs`, where given, stands in the place of `steps`."""
    training = _check_section("training", node, Training)
    if training["epochs"] is not None:
        training["steps"] = None
    elif training["steps"] is None:
        raise ConfigError("training.steps=null and training.epochs=null: one of them must say how long to train.")
    return training


def _check_objective(objective: str, config: Mapping) -> None:
    """Refuse what no run of `config` can record; a layer's name, only the run itself can know."""
    instruments = config["metrics"]["instruments"]
    measured = ["test/accuracy", "test/loss"]
    if config["dataset"].get("validation", True):
        measured += ["validation/accuracy", "validation/loss"]
    name = objective.removesuffix("@init")
    scope, _, place = name.partition("/")
    layer, _, metric = place.rpartition("/")
    known = metric in instruments or metric.startswith(tuple(f"{instrument}_" for instrument in instruments))
    if name in measured or objective == "train/loss" or (scope in PLACES and known):
        return
    like = [*measured, "train/loss", *(f"{s}/{layer}/{m}" for s in PLACES for m in instruments)]
    raise ConfigError(
        f"training.objective={objective}: no run records it.{did_you_mean(objective, like)} "
        f"There are {', '.join(measured)}, train/loss and <scope>/<layer>/<metric>, the scope {' or '.join(PLACES)}, "
        f"the metric one of metrics={config['choices'].get('metrics')}: {', '.join(instruments) or 'none'}."
    )


def check_plugin(path: str, node: Mapping, choice: str) -> dict:
    """The keys of a launcher or sweeper of ours, checked as those of a run are; another's are its own affair."""
    ours = str(node.get("_target_")).startswith("hydra_plugins.creditlab_plugins.")
    return _check_target(path, node, 0, choice) if ours else dict(node)


def function(node: Mapping) -> Callable[..., Any]:
    """The class or function at `node["_target_"]`. Raises ConfigError where its module cannot be imported."""
    module, _, name = node["_target_"].rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever a user's module may raise
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
        cause = f"{type(error).__name__}: {error} ({frames[-1].filename}, line {frames[-1].lineno})"
        raise ConfigError(f"_target_={node['_target_']}: cannot be imported. {cause}") from error


def keys(node: Mapping) -> dict[str, Any]:
    """The keys of `node` that are arguments of its `_target_`."""
    return {key: value for key, value in node.items() if key not in ("_target_", "_at_")}


def partial(node: Mapping) -> functools.partial:
    """The class or function of `node` with its keys bound."""
    return functools.partial(function(node), **keys(node))
