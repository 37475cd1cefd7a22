"""What Hydra says about a mistake on the command line, reworded: with what is allowed and the nearest valid name."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from hydra.errors import OverrideParseException
from omegaconf.errors import InterpolationResolutionError

from creditlab.config import ConfigError
from creditlab.hints import did_you_mean


def message_of(error: BaseException, folders: Sequence[Path]) -> str:
    """A message for the user. `folders` hold the config groups."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None:
        chain.append(cause)
    if ours := next((e for e in chain if isinstance(e, ConfigError)), None):  # raised while Hydra resolved a value
        return str(ours)
    text = ": ".join(dict.fromkeys(str(e) for e in chain if str(e))) or type(error).__name__
    if isinstance(error, InterpolationResolutionError) and error.full_key:
        reason = str(error.msg).partition("\n")[0].rpartition("raised while resolving interpolation: ")[2]
        return f"{error.full_key}: its ${{…}} cannot be resolved: {reason}."
    if missing := re.search(r"Could not override 'experiment'[^+]*(\+\S+)?", text):
        return f"an experiment is added to the defaults: write {missing[1] or '+experiment=NAME'}, with the plus."
    if nested := re.match(r"In '((.+)/[^/']+)': Could not override '\2/([^@']+)", text):
        return f"{nested[1]}.yaml: in its defaults write `override /{nested[3]}: …`, with the slash."
    if unknown := re.search(r"Could not (?:override|delete from config\.) '(.+?)'", text):
        return _no_such_key(unknown[1], folders)
    if twice := re.search(r"Multiple values for (\S+)\.|(\S+) appears more than once", text):
        group = twice[1] or twice[2]
        return (
            f"{group}: an option is chosen already. Write {group}=… without a plus, in a file `override /{group}: …`."
        )
    if several := re.search(r"Ambiguous value for argument '(.+?)'|Sweep parameters '(.+?)'", text):
        override = several[1] or several[2]
        return f"{override}: stands for several runs, which need -m: creditlab -m '{override}'. A list is key=[a,b]."
    if isinstance(error, OverrideParseException) and not error.override.isascii():
        return (
            f"cannot read the override {error.override!r}. Letters such as é need quotes of their own: 'key=\"value\"'."
        )
    if isinstance(error, OverrideParseException):
        return f"cannot read the override {error.override!r}. Give key=value, in quotes: 'key=[a,b]', 'seed=range(3)'."
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _no_such_key(key: str, folders: Sequence[Path]) -> str:
    """The message for a key that the config of the run lacks."""
    options_of_key = _options_by_key(folders)
    if any(longer.startswith(f"{key}.") for longer in options_of_key):
        return f"{key}: one of the keys that you give does not exist. Write {key}.KEY=VALUE for each to see which."
    if key in options_of_key:
        first, *others = options_of_key[key]
        options = ", ".join([first, *(option.partition("=")[2] for option in others)])
        return f"{key}: the option chosen has no such key; {options} {'have' if others else 'has'} it."
    full = [longer for longer in options_of_key if longer.endswith(f".{key}")]
    hint = f" Did you mean {' or '.join(full)}?" if full else did_you_mean(key, options_of_key)
    return f"{key}: there is no such key.{hint} `creditlab --help` lists those of the defaults."


def _options_by_key(folders: Sequence[Path]) -> dict[str, list[str]]:
    """The options (`group=option`) that have a key, by the key as it is written on the command line."""
    options: dict[str, list[str]] = {}
    for path, group in ((p, p.parent.relative_to(f).as_posix()) for f in folders for p in sorted(f.rglob("*.yaml"))):
        if group.startswith("experiment") or group == "hydra/help":
            continue
        prefix = "" if group == "." else f"{group.replace('/', '.')}."
        option = f"{group}={path.stem}" if prefix else "every run"
        options.setdefault(prefix.rstrip("."), [])
        with contextlib.suppress(yaml.YAMLError, UnicodeDecodeError):  # a broken file that this run does not use
            node = yaml.safe_load(path.read_text(encoding="utf-8"))
            for key in _flat(node if isinstance(node, dict) else {}):
                options.setdefault(prefix + key, []).append(option)
    return options


def _flat(node: dict, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if key not in ("defaults", "hydra", "_target_"):
            yield f"{prefix}{key}"
            if isinstance(value, dict):
                yield from _flat(value, f"{prefix}{key}.")
