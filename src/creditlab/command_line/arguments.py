"""Reading the command line before Hydra does: what Hydra would misunderstand is rejected with a cure."""

from __future__ import annotations

import re
import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from creditlab.command_line.private import get_args_parser
from creditlab.config import ConfigError
from creditlab.hints import did_you_mean
from creditlab.keys import FOLDER_NAME


def read(conf: Path) -> list[Path]:
    """The folders of the config groups: `conf`, which is creditlab's, and the user's. Raises ConfigError."""
    sys.argv[1:] = map(_with_quoted_name, sys.argv[1:])
    parser = get_args_parser()
    parser.error = _reject  # type: ignore[method-assign, assignment]
    arguments, rest = parser.parse_known_args()
    if unknown := [word for word in rest if word.startswith("-")]:
        flags = re.findall(r"--[a-z-]+", parser.format_usage())
        raise ConfigError(f"{unknown[0]}: there is no such flag.{did_you_mean(unknown[0], flags)}")
    if rest:
        flags_first = [word for word in sys.argv[1:] if word not in (*arguments.overrides, *rest)]
        command = shlex.join([*flags_first, *arguments.overrides, *rest])
        raise ConfigError(f"flags come before all overrides: creditlab {command}")
    if arguments.config_path:
        raise ConfigError(
            "--config-path would replace creditlab's own configs. Add yours to them: --config-dir=FOLDER."
        )
    _check_flags(arguments)
    _check_spaces(arguments.overrides)
    _check_overrides(arguments.overrides)
    if not arguments.config_dir:
        return [conf]
    user_conf = Path(arguments.config_dir)
    for path in sorted(user_conf.rglob("*.yaml")):
        if (conf / path.relative_to(user_conf)).exists():
            raise ConfigError(
                f"{path}: creditlab has an option of this name, and Hydra would use that one. Rename yours."
            )
    return [conf, user_conf]


def _with_quoted_name(word: str) -> str:
    """An argument; the name of a sweep in quotes if Hydra would take it for something else than text: `sweep=20241128`
    for a number, `sweep=étude` for a mistake.
    """
    key, _, name = word.partition("=")
    if key != "sweep" or name == "null" or not re.fullmatch(FOLDER_NAME, name):
        return word
    try:
        is_text = OverridesParser.create().parse_override(word).value() == name
    except HydraException:
        is_text = False
    return word if is_text else f'sweep="{name}"'


def _check_spaces(words: Sequence[str]) -> None:
    """Raise ConfigError for an override that spaces have divided into several arguments."""
    for word, following in pairwise(words):
        if following.startswith("=") and "=" not in word:
            raise ConfigError(f"{word} {following}: write {word}=VALUE, without spaces.")
        is_rest = "=" not in following and not following.startswith("~")
        if is_rest and word.endswith(("=", ",")):
            raise ConfigError(f"{word} {following}: write {word}{following}, without spaces.")


def _check_flags(arguments: Namespace) -> None:
    actions = (arguments.run, arguments.multirun, arguments.cfg, arguments.info, arguments.shell_completion)
    if sum(map(bool, actions)) > 1:
        raise ConfigError(
            "give one of --run, --multirun, --cfg, --info and --shell-completion; --cfg shows the config of one run."
        )
    if arguments.resolve and not (arguments.cfg or arguments.help):
        raise ConfigError("--resolve goes with --cfg or --help.")


def _check_overrides(overrides: list[str]) -> None:
    """Raise ConfigError for an override without a key, and for a key that is given twice."""
    given: dict[str, str] = {}
    for override in OverridesParser.create().parse_overrides(overrides):
        key, text = override.get_key_element().lstrip("+"), str(override.input_line)
        if not key:
            raise ConfigError(f"{text}: which key? Give key=value.")
        if key in given:
            raise ConfigError(f"{given[key]} and {text}: give {key} once.")
        given[key] = text


def _reject(message: str) -> NoReturn:
    raise ConfigError(message)


def refuse_sweep(composed: DictConfig) -> None:
    """Raise ConfigError if a single run would ignore something that belongs to a sweep."""
    for override in composed.hydra.overrides.hydra:
        if re.match(r"[+~]*hydra[./](sweeper|launcher)\b", override):
            raise ConfigError(f"{override}: belongs to a sweep, and this is a single run. For a sweep give -m first.")
    if composed.hydra.sweeper.get("params"):
        name = composed.hydra.runtime.choices.get("experiment")
        raise ConfigError(f"+experiment={name} is a sweep, and this is a single run: creditlab -m +experiment={name}")
