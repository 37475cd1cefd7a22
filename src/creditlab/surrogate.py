"""The trained network of another run, which `metrics.surrogate` names: its scores, against which examples are made.

The other run may be a stranger's. So its config is only used if every class that it names is creditlab's own, an
optimiser of torch, or one that the command's own config names too; nothing is imported before that is known.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from creditlab import records
from creditlab.config import ConfigError, import_target

SAMPLING = {
    "root",
    "download",
    "limit",
    "test_limit",
    "validation",
    "crop",
    "flip",
}  # keys of a data set that do not change what an input is
TRUSTED = {  # the packages whose classes a stranger's config may name, by group
    "algorithm": ("creditlab.algorithms.",),
    "architecture": ("creditlab.architectures.",),
    "optimiser": ("creditlab.optimisers.", "torch.optim."),
}


def scores(config: Mapping[str, Any], assemble: Callable[[Mapping[str, Any]], Any]) -> Callable[[Tensor], Tensor]:
    """The scores of the trained network in the folder that `metrics.surrogate` names. `assemble` builds the parts of a
    config. Raises ConfigError.
    """
    key = f"metrics.surrogate={config['metrics']['surrogate']}"
    run = _run(key, Path(config["metrics"]["surrogate"]))
    assert run.config is not None
    for group in (*TRUSTED, "dataset", "metrics", "training"):
        if not isinstance(run.config.get(group), dict):
            raise ConfigError(f"{key}: its run.json has no mapping {group}.")
    mine, other = config["dataset"], run.config["dataset"]
    differ = sorted(k for k in mine.keys() | other.keys() if k not in SAMPLING and mine.get(k) != other.get(k))
    if differ:
        shown = "; ".join(f"dataset.{k} is {other.get(k)!r} for it, {mine.get(k)!r} here" for k in differ)
        raise ConfigError(f"{key}: it was trained on other inputs ({shown}). Name a run on the same data.")
    alike = {name: config[name] for name in ("dataset", "device", "precision", "threads", "tracker")}
    blind = {**run.config["metrics"], "instruments": {}, "surrogate": None}
    network = dict(run.config["architecture"])
    if "checkpoint" in network:  # a path on the machine of the other run; the trained weights replace its weights
        network["checkpoint"] = None
    rebuilt = {**run.config, **alike, "architecture": network, "metrics": blind}
    _check_targets(key, rebuilt, set(_targets(config)))
    parts = assemble(rebuilt)
    try:
        _load_weights(parts.network, run.verified(records.WEIGHTS))
    except (ValueError, OSError, SafetensorError) as error:
        raise ConfigError(f"{key}: its weights cannot be read ({error}).") from None
    parts.network.eval().requires_grad_(False)
    return lambda x: parts.algorithm.predict(parts.network, x)


def _run(key: str, folder: Path) -> records.Run:
    """The finished run with weights in `folder`, or the only one of the sweep in it. Raises ConfigError."""
    candidates = list(records.run_folders(folder)) if folder.is_dir() else []
    if len(candidates) > 1:
        raise ConfigError(f"{key}: a sweep of {len(candidates)} runs. Name one of them, such as {candidates[0]}.")
    run = records.read_run(candidates[0] if candidates else folder.resolve())
    if not run.finished or run.config is None:
        missing = f"{key}: there is no finished run in it ({run.problem or run.status})."
        raise ConfigError(f"{missing} Train it first: the file of an experiment says how.")
    if run.weights_removed:
        raise ConfigError(f"{key}: its weights were removed. Train it again with retry=all.")
    if not (run.folder / records.WEIGHTS).exists():
        raise ConfigError(f"{key}: it kept no weights. Train it with training.keep_weights=true.")
    return run


def _targets(node: Any) -> Iterator[str]:
    """Every `_target_` in a config."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"])
        node = list(node.values())
    if isinstance(node, list | tuple):
        for value in node:
            yield from _targets(value)


def _check_targets(key: str, config: Mapping[str, Any], named_here: set[str]) -> None:
    """Raise ConfigError if `config` names a class that is neither trusted nor `named_here`, in the command. What
    is not trusted is not imported. What is must be a class or function of that package, not one that it imports.
    """
    for group, node in config.items():
        packages = TRUSTED.get(group, ())
        for target in _targets(node):
            if target in named_here:
                continue
            if target.startswith(packages):
                module = getattr(import_target({"_target_": target}), "__module__", None)
                if isinstance(module, str) and f"{module}.".startswith(packages):
                    continue
            raise ConfigError(
                f"{key}: its run.json names {group}._target_={target}, which is not creditlab's and not in this "
                "command. It would run code of whoever made that folder. Nothing of it was imported."
            )


def _load_weights(network: nn.Module, path: Path) -> None:
    """Load the final weights in `path`. Raises ValueError if they are not those of the network."""
    state = copy.copy(network.state_dict())
    with safe_open(path, "pt") as file:
        for name in (name for name in file.keys() if name.startswith("final/")):  # noqa: SIM118 (not a mapping)
            key = name.removeprefix("final/")
            if key not in state or list(state[key].shape) != file.get_slice(name).get_shape():
                raise ValueError(f"{key} does not fit the network")
            state[key] = file.get_tensor(name)  # the file has a tied tensor only once
    network.load_state_dict(state)
