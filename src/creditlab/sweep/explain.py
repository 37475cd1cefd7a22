"""What Hydra says of a mistake on the command line, said again with what is allowed and the nearest valid name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from creditlab.config import nearest


def explain(error: Exception, conf: Path) -> str:
    """A message for the user. `conf` is the folder of the config groups."""
    text = str(error)
    if missing := re.search(r"Could not find '(.+)/([^/']+)'", text):
        group, option = missing.groups()
        options = re.findall(r"^\t(\S+)$", text.partition("Available options")[2], re.M)
        there = ", ".join(options)
        return f"{group}={option}: there is no such option{nearest(option, options) or '.'} There are {there}."
    if unknown := re.search(r"Could not override '(.+?)'", text):
        key, keys = unknown[1], _keys(conf)
        if key in keys:
            return f"{key}: the option chosen has no such key; {' and '.join(keys[key])} have it."
        return f"{key}: there is no such key{nearest(key, keys) or '.'} `creditlab --help` lists those of the defaults."
    if "matching" in text or "viable alternative" in text or "extraneous" in text or "mismatched" in text:
        return (
            f"cannot read the override: {text.splitlines()[0]}. Quote it for the shell: 'key=[a,b]', 'seed=range(3)'."
        )
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _keys(conf: Path) -> dict[str, list[str]]:
    """Every key as it is written on a command line, and the options (`group=option`) that have it."""
    keys: dict[str, list[str]] = {}
    for path in sorted(conf.rglob("*.yaml")):
        group = path.parent.relative_to(conf).as_posix()
        if group.startswith("hydra"):
            continue
        prefix, option = ("", "every run") if group == "." else (f"{group}.", f"{group}={path.stem}")
        keys.setdefault(prefix.rstrip("."), [])
        for key in _flat(yaml.safe_load(path.read_text())):
            keys.setdefault(prefix + key, []).append(option)
    return keys


def _flat(node: dict, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if key not in ("defaults", "hydra", "_target_"):
            yield f"{prefix}{key}"
            if isinstance(value, dict):
                yield from _flat(value, f"{prefix}{key}.")
