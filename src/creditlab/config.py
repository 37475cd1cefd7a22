"""A config: its keys, how it is checked, and how the objects that it names are built.

The keys of a group's YAML are the keyword arguments of the class or function at its `_target_`. `checked_config`
compares every name, type and range with that signature and does not import it. So a mistake is reported in a fraction
of a second, before the first run of a sweep starts. An error names the key, the value, what is allowed and the nearest
valid name.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import traceback
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from creditlab.hints import did_you_mean
from creditlab.keys import Count, Folder, Fraction, NonNegative, Positive, PositiveInt, Range
from creditlab.scopes import ANYWHERE, SCOPES, scope_of
from creditlab.signature import Signature, TargetError, defined_in, signature
from creditlab.values import REFUSED, allowed_values, allowed_words, as_yaml, fit

GROUPS = ("algorithm", "optimiser", "dataset", "architecture")
SUPPLIED = {"algorithm": 4, "optimiser": 1, "dataset": 0, "architecture": 2}  # how many leading arguments we supply
PLACES = (*SCOPES, "changes")  # where metrics are recorded: `<scope>/<layer>/<metric>`
LOOKS = ("points", "ends")  # when a metric is measured: at all measurement steps, or only at the first and last


class ConfigError(ValueError):
    """A mistake in the configuration. The message is written for the user."""


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
    """The keys of `metrics.trajectory`, which say which gradients are kept."""

    length: Annotated[int, Range(2)]
    spacing: PositiveInt | None
    projection: PositiveInt | None


@dataclass
class Metrics:
    """The keys of `metrics`, which say what is measured, when, and on which samples."""

    points: Count
    epochs: Positive | None
    samples: PositiveInt
    keep_activations: bool
    surrogate: str | None
    trajectory: dict[str, Any]
    instruments: dict[str, Any]


@dataclass
class Config:
    """The keys of a run that belong to no group."""

    seed: Count
    device: str
    threads: PositiveInt
    precision: Literal["float32", "float64", "bfloat16"]
    sweep: Folder | None
    retry: Literal["none", "failed", "diverged", "changed", "all"]


def _checked_keys(path: str, values: Mapping, allowed: Mapping[str, Any], required: Iterable[str], owner: str) -> dict:
    """`values`, each in the type of its annotation in `allowed`. `path` ends in a dot except at the top level. `owner`
    is what the error message calls the thing that has these keys.
    """
    checked = {}
    for key, value in values.items():
        if key not in allowed:
            raise ConfigError(
                f"{path}{key}: {owner} has no key {key!r}.{did_you_mean(key, allowed)} "
                f"It has {', '.join(allowed) or 'none'}."
            )
        checked[key] = fit(value, allowed[key])
        if checked[key] is REFUSED:
            hint = did_you_mean(value, allowed_words(allowed[key])) if isinstance(value, str) else ""
            hint = hint or _hint_of_sweep(f"{path}{key}", value, allowed[key])
            raise ConfigError(f"{path}{key}={as_yaml(value)}: must be {allowed_values(allowed[key])}.{hint}")
    missing = [key for key in required if key not in values]
    if missing:
        raise ConfigError(f"{path}{missing[0]}: {owner} needs this key ({allowed_values(allowed[missing[0]])}).")
    return checked


def _hint_of_sweep(key: str, value: Any, annotation: Any) -> str:
    """How to write a sweep, if `value` looks like the values of several runs (`[0,1,2]`, `1-10`). Else empty."""
    if isinstance(value, list) and value and all(fit(each, annotation) is not REFUSED for each in value):
        return f" For a run of each: creditlab -m {key}={','.join(str(each) for each in value)}"
    if isinstance(value, str) and (ends := re.fullmatch(r"(\d+)-(\d+)", value)) and fit(1, annotation) is not REFUSED:
        return f" For a run of each: creditlab -m '{key}=range({ends[1]},{int(ends[2]) + 1})'"
    return ""


def _signature_of(path: str, node: Any) -> Signature:
    if not isinstance(node, Mapping) or not isinstance(node.get("_target_"), str):
        raise ConfigError(f"{path}: needs a `_target_`, the dotted path of a class or function.")
    target = node["_target_"]
    try:
        return signature(target)
    except TargetError as error:
        hint = did_you_mean(target.rpartition(".")[2], defined_in(target))
        raise ConfigError(f"{path}._target_={target}: {error}.{hint}") from None


def _checked_target(path: str, node: Any, supplied: int, choice: str) -> dict:
    """A node with a `_target_`. Its other keys are the arguments of that target, except the first `supplied`
    positional ones, which creditlab supplies.
    """
    form = _signature_of(path, node)
    names = [n for n in form.annotations if n not in form.positional[:supplied]]
    allowed: dict[str, Any] = {n: form.annotations[n] for n in names}
    if form.open:
        allowed |= {k: Any for k in node if k not in allowed}
    values = {k: v for k, v in node.items() if k != "_target_"}
    required = [n for n in names if n in form.required]
    checked = _checked_keys(f"{path}.", values, allowed, required, f"{choice} ({node['_target_']})")
    return {"_target_": node["_target_"], **checked}


@functools.cache
def _annotations(section: type) -> dict[str, Any]:
    return typing.get_type_hints(section, include_extras=True)


def _checked_section(path: str, node: Any, section: type) -> dict:
    allowed = _annotations(section)
    if not isinstance(node, Mapping):
        raise ConfigError(f"{path}={as_yaml(node)}: must be a mapping with the keys {', '.join(allowed)}.")
    return _checked_keys(f"{path}.", node, allowed, allowed, path)


def _checked_instruments(instruments: Mapping) -> dict:
    """The positional parameters of a metric name what it observes. Its other parameters are its keys."""
    checked = {}
    observables = list(dict.fromkeys([*(n for names in SCOPES.values() for n in names), *ANYWHERE]))
    for name, node in instruments.items():
        path = f"metrics.instruments.{name}"
        form = _signature_of(path, node)
        for parameter in form.positional:
            if parameter not in observables:
                raise ConfigError(
                    f"{path}: {node['_target_']} observes {parameter!r}, which is not among "
                    f"{', '.join(observables)}.{did_you_mean(parameter, observables)}"
                )
        if not form.positional or scope_of(form.positional) is None:
            by_scope = "; ".join(f"{scope}: {', '.join(names)}" for scope, names in SCOPES.items())
            observes = ", ".join(form.positional) or "nothing"
            raise ConfigError(f"{path}: {node['_target_']} observes {observes}. All must come from one of {by_scope}.")
        at = node.get("_at_", LOOKS[0])
        if at not in LOOKS:
            raise ConfigError(f"{path}._at_={at!r}: must be {' or '.join(LOOKS)}.")
        arguments_only = {key: value for key, value in node.items() if key != "_at_"}
        checked[name] = _checked_target(path, arguments_only, len(form.positional), name) | {"_at_": at}
    return checked


Seen = dict[int, dict | None]  # for nodes that several runs share: id of the node → its checked form (None until then)


def checked_config(config: Mapping, seen: Seen | None = None) -> dict:
    """`config` with every value in the type that its key asks for. Raises ConfigError at the first key that is unknown,
    missing, of a wrong type or out of range.

    `config["choices"]` names the option chosen in each group. A node in `seen` is checked only once.
    """
    seen = {} if seen is None else seen
    config = dict(config)
    choices = config.pop("choices")
    checked: dict[str, Any] = {"choices": dict(choices)}
    sections: dict[str, Callable[[Any], dict]] = {
        **{group: functools.partial(_checked_group, group, choices.get(group)) for group in GROUPS},
        "training": _checked_training,
        "metrics": _checked_metrics,
        "tracker": lambda node: _checked_target("tracker", node, 0, "the tracker"),
    }
    for name, check_section in sections.items():
        node = config.pop(name, None)
        checked[name] = seen.get(id(node)) or check_section(node)
        if id(node) in seen:
            seen[id(node)] = checked[name]
    own_keys = _annotations(Config)
    allowed = dict.fromkeys([*own_keys, *sections], Any) | own_keys  # with the sections, for the nearest valid name
    checked |= _checked_keys("", config, allowed, [*own_keys], "a run")
    cores = os.cpu_count() or 1
    if checked["threads"] > cores:
        raise ConfigError(f"threads={checked['threads']}: must be at most {cores}, the cores of this machine.")
    _check_objective(checked["training"]["objective"], checked)
    return checked


def _checked_group(group: str, option: str | None, node: Any) -> dict:
    return _checked_target(group, node, SUPPLIED[group], f"{group}={option}")


def _checked_metrics(node: Any) -> dict:
    checked = _checked_section("metrics", node, Metrics)
    checked["trajectory"] = _checked_section("metrics.trajectory", checked["trajectory"], Trajectory)
    checked["instruments"] = _checked_instruments(checked["instruments"])
    return checked


def _checked_training(node: Any) -> dict:
    """`epochs`, if given, overrides `steps`."""
    training = _checked_section("training", node, Training)
    if training["epochs"] is not None:
        training["steps"] = None
    elif training["steps"] is None:
        raise ConfigError("training.steps=null and training.epochs=null: set one of them, to say how long to train.")
    return training


def _check_objective(objective: str, config: Mapping) -> None:
    """Refuse an objective that no run of `config` can record. The names of layers are not checked, because only the run
    itself knows them.
    """
    instruments = config["metrics"]["instruments"]
    always_recorded = ["test/accuracy", "test/loss"]
    if config["dataset"].get("validation", True):
        always_recorded += ["validation/accuracy", "validation/loss"]
    name = objective.removesuffix("@init")
    scope, _, place = name.partition("/")
    layer, _, metric = place.rpartition("/")
    is_metric = metric in instruments or metric.startswith(tuple(f"{instrument}_" for instrument in instruments))
    if name in always_recorded or objective == "train/loss" or (scope in PLACES and is_metric):
        return
    candidates = [*always_recorded, "train/loss", *(f"{s}/{layer}/{m}" for s in PLACES for m in instruments)]
    raise ConfigError(
        f"training.objective={objective}: no run records it.{did_you_mean(objective, candidates)} "
        f"There are {', '.join(always_recorded)}, train/loss and <scope>/<layer>/<metric>. The scope is one of "
        f"{', '.join(PLACES)}. The metric is one of metrics={config['choices'].get('metrics')}: "
        f"{', '.join(instruments) or 'none'}."
    )


def checked_plugin(path: str, node: Mapping, choice: str) -> dict:
    """A launcher or sweeper. The keys of ours are checked as those of a run are. A third party's are left alone."""
    is_ours = str(node.get("_target_")).startswith("hydra_plugins.creditlab_plugins.")
    return _checked_target(path, node, 0, choice) if is_ours else dict(node)


def import_target(node: Mapping) -> Callable[..., Any]:
    """The class or function at `node["_target_"]`. Raises ConfigError if its module cannot be imported."""
    module, _, name = node["_target_"].rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a user's module may raise anything
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
        cause = f"{type(error).__name__}: {error} ({frames[-1].filename}, line {frames[-1].lineno})"
        raise ConfigError(f"_target_={node['_target_']}: cannot be imported. {cause}") from error


def arguments(node: Mapping) -> dict[str, Any]:
    """The keys of `node` that are keyword arguments of its `_target_`."""
    return {key: value for key, value in node.items() if key not in ("_target_", "_at_")}


def bind_target(node: Mapping) -> functools.partial:
    """The class or function of `node`, with the keys of `node` bound as keyword arguments."""
    return functools.partial(import_target(node), **arguments(node))
