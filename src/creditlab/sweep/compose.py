"""From the overrides of a run to its config, exactly as Hydra composes it, but for thousands of runs.

Hydra takes 50 ms per run. But only few overrides of a sweep need Hydra: those that choose options. The others set
values in the result, in the order given. So each combination of options is composed once, and the values are set in
copies of it. An override that does more than replace an existing value (`+key=…`, `~key`, a mapping) is left to Hydra.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from textwrap import indent
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from creditlab import records
from creditlab.config import Seen, checked_config
from creditlab.sweep.plan import Planned, job, plain

WHOLE_NUMBER = re.compile(r"([A-Za-z_][\w.]*)=(-?(?:0|[1-9]\d*))")  # seed=7: parsed without the slow parser
PLACE = "the-overrides-of-a-run"
Setting = tuple[str, Any]


class Base:
    """What Hydra composes from the options alone."""

    def __init__(self, composed: DictConfig) -> None:
        self.composed = composed
        self.content = plain(composed)
        self.seen: Seen = {id(node): None for node in self.content.values() if isinstance(node, dict)}

    @cached_property
    def fixed(self) -> bool:
        """Whether no value is computed from another one (`${…}`)."""
        return "${" not in OmegaConf.to_yaml(job(self.composed))

    def holds(self, settings: Sequence[Setting]) -> bool:
        """Whether each of `settings` has a value to replace."""
        return all(isinstance(_find(self.content, key), list | str | int | float | None) for key, _ in settings)

    def configured(self, settings: Sequence[Setting]) -> dict[str, Any]:
        """The plain config with `settings` applied."""
        if not self.fixed:
            return plain(self.with_settings(settings))
        config = dict(self.content)
        for key, value in settings:
            *parents, last = key.split(".")
            node = config
            for parent in parents:  # copy only the nodes on the way: runs share the rest
                node[parent] = dict(node[parent])
                node = node[parent]
            node[last] = value
        return config

    def with_settings(self, settings: Sequence[Setting]) -> DictConfig:
        """The composed config with `settings` applied as Hydra applies them."""
        composed = copy.deepcopy(self.composed)
        for key, value in settings:
            OmegaConf.update(composed, key, value, merge=True)
        return composed

    @cached_property
    def around_overrides(self) -> list[str]:
        """Hydra's own config as YAML: the part before the overrides, and the part after them. Only the overrides differ
        from run to run.
        """
        hydra = OmegaConf.masked_copy(self.composed, ["hydra"])
        with open_dict(hydra):
            hydra.hydra.overrides.task = [PLACE]
            hydra.hydra.job.id, hydra.hydra.job.num = "", 0  # the identity names a run, not a number
        return OmegaConf.to_yaml(hydra).split(f"    task:\n    - {PLACE}\n")

    def files(self, settings: Sequence[Setting], overrides: Sequence[str]) -> dict[str, str]:
        """What Hydra writes about a run, by file."""
        task = OmegaConf.to_yaml({"task": list(overrides)})
        return {
            "config.yaml": OmegaConf.to_yaml(job(self.with_settings(settings))),
            "hydra.yaml": indent(task, "    ").join(self.around_overrides),
            "overrides.yaml": OmegaConf.to_yaml(list(overrides)),
        }


def _find(node: Any, key: str) -> Any:
    """The value at a dotted key; the function `_find` itself if there is none."""
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return _find
        node = node[part]
    return node


class Composer:
    """Composes runs of the sweep whose own config is `config`."""

    def __init__(self, context: HydraContext, config: DictConfig) -> None:
        self.context, self.config = context, config
        self.parser = OverridesParser.create()
        self.bases: dict[tuple[str, ...], Base] = {}
        self.parsed: dict[str, Setting | None] = {}

    def planned(self, overrides: Sequence[str], sweep: Path) -> Planned:
        """The run of `overrides`, checked. Raises ConfigError, or Hydra's own errors."""
        base, settings = self._divide(overrides)
        config = checked_config(base.configured(settings), base.seen)
        return Planned(config, sweep / records.folder_name(config), partial(base.files, settings, overrides))

    def _divide(self, overrides: Sequence[str]) -> tuple[Base, list[Setting]]:
        """What Hydra must compose, and what is then set in it."""
        parsed = [(override, self._setting(override)) for override in overrides]
        settings = [setting for _, setting in parsed if setting is not None]
        base = self._base(tuple(override for override, setting in parsed if setting is None))
        if base.holds(settings):
            return base, settings
        return self._base(tuple(overrides)), []

    def _base(self, overrides: tuple[str, ...]) -> Base:
        if overrides not in self.bases:
            composed = self.context.config_loader.load_sweep_config(self.config, list(overrides))
            self.bases[overrides] = Base(composed)
        return self.bases[overrides]

    def _setting(self, override: str) -> Setting | None:
        """Key and value, if all that the override does is to set a value."""
        if number := WHOLE_NUMBER.fullmatch(override):
            return number[1], int(number[2])
        if override not in self.parsed:
            self.parsed[override] = self._parse(override)
        return self.parsed[override]

    def _parse(self, override: str) -> Setting | None:
        parsed = self.parser.parse_override(override)
        key = parsed.key_or_group
        chooses = "/" in key or parsed.package is not None or self.context.config_loader.get_group_options(key)
        if chooses or parsed.type != OverrideType.CHANGE or "${" in override or parsed.is_sweep_override():
            return None
        value = parsed.value()
        return None if isinstance(value, dict) else (key, value)
