"""How Hydra composes a config, with one change: it does not apply all overrides of a sweep to the default options.

Before a sweep starts, Hydra composes a config with all its overrides, but with the default option of each group that is
swept. So `-m optimiser=muon,kaon optimiser.scale=none` would fail on adamw, which is not even part of the sweep. This
loader leaves out the overrides that do not fit there. Each run is composed later by Hydra's own, strict rules.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from creditlab.command_line.private import ConfigLoader, ConfigRepository
from creditlab.config import GROUPS, ConfigError, checked_plugin
from creditlab.hints import did_you_mean
from creditlab.sweep.plan import absent_folders


class Loader(ConfigLoader):
    """Replaces Hydra's own loader. `absent`: folders that Hydra makes for a single run, before anything is checked."""

    absent: ClassVar[list[Path]] = []

    def _load_configuration_impl(
        self, config_name: str | None, overrides: list[str], run_mode: RunMode, *args: Any, **keys: Any
    ) -> DictConfig:
        parsed, repository = self._parse_overrides_and_create_caching_repo(config_name, overrides)
        groups = [o for o in parsed if repository.group_exists(o.key_or_group)]
        _check_choices(parsed, groups, repository)
        task = [o for o in parsed if not o.is_hydra_override()]
        single = [o for o in task if o not in groups and not o.is_sweep_override()]
        later = [] if run_mode is RunMode.RUN else single
        now = [o.input_line or "" for o in parsed if o not in later]
        try:
            config = super()._load_configuration_impl(config_name, now, run_mode, *args, **keys)
        except MissingConfigException as error:
            raise _no_such_option(repository, error.missing_cfg_file or "") or error from None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = f"{mark.name}, line {mark.line + 1}" if mark else "a file of the chosen options"
            raise ConfigError(f"{place}: {error.problem}.") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"a file of the chosen options is not YAML: {error}") from None
        for part in ("launcher", "sweeper"):
            node: Any = OmegaConf.to_container(config.hydra[part], resolve=True)
            choice = f"hydra/{part}={config.hydra.runtime.choices[f'hydra/{part}']}"
            config.hydra[part] = checked_plugin(f"hydra.{part}", node, choice)
        for override in later:
            with contextlib.suppress(ConfigCompositionException):
                self._apply_overrides_to_config([override], config)
        config.hydra.overrides.task = [o.input_line for o in task]
        with contextlib.suppress(OmegaConfBaseException):  # reported when the value is used
            Loader.absent = absent_folders(Path(config.hydra.run.dir))
        return config


def _check_choices(parsed: list[Override], groups: list[Override], repository: ConfigRepository) -> None:
    """Raise ConfigError for an override that is meant to choose an option and does not. `groups` name a group."""
    for override in parsed:
        group, dotted = override.key_or_group.replace(".", "/"), override.key_or_group.startswith("hydra.")
        if dotted and repository.group_exists(group) and isinstance(override.value(), str):
            raise ConfigError(f"{override.input_line}: an option is chosen with a slash, {group}=…")
    for override in groups:
        if not _names_an_option(override):
            options = ", ".join(_options(repository, override.key_or_group))
            raise ConfigError(f"{override.input_line}: must name one option. There are {options}.")


def _names_an_option(override: Override) -> bool:
    if override.is_sweep_override():
        return True
    if override.is_delete():
        return override.key_or_group not in GROUPS
    value = override.value()
    several = isinstance(value, list) and override.key_or_group not in GROUPS
    return isinstance(value, dict) or several or (isinstance(value, str) and value != "")


def _options(repository: ConfigRepository, group: str) -> list[str]:
    """The options of a group, also those in folders within it, such as mnist/bp."""
    folders = repository.get_group_options(group, ObjectType.GROUP)
    nested = [f"{folder}/{option}" for folder in folders for option in _options(repository, f"{group}/{folder}")]
    return [*repository.get_group_options(group, ObjectType.CONFIG), *nested]


def _no_such_option(repository: ConfigRepository, path: str) -> ConfigError | None:
    """The error for a `group/option` that does not exist; None if there is no such group."""
    parts = path.split("/")
    depth = 2 if parts[0] == "hydra" else 1
    group, option = "/".join(parts[:depth]), "/".join(parts[depth:])
    options = _options(repository, group)
    if not options:
        return None
    hint = did_you_mean(option, options)
    return ConfigError(f"{group}={option}: there is no such option.{hint} There are {', '.join(options)}.")
