"""Writes docs/configuration.md: every config key with its default, what it may be, and what it means.

    make docs

The default and the meaning stand in `conf/`, what a key may be in the signature of its `_target_`.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path

import yaml

from creditlab.config import GROUPS, SUPPLIED, Config, Metrics, Training, describe
from creditlab.signature import signature

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "configuration.md"
INTRODUCTION = """# Configuration

Generated from `conf/` and the signatures that it names by `make docs`; a test holds it to them.

`group=option` chooses an option, `group.key=value` sets a key, `creditlab -m` takes several values of either:
`algorithm=bp,fa`, `seed=range(10)`, `optimiser.lr=1e-3,1e-2`. Every key of every run is checked before the first run
starts. A folder of your own with the same groups is added by `--config-dir=FOLDER`.
"""


def comments(path: Path) -> dict[str, str]:
    """The comment at the end of each line `key: value # comment`, by dotted key."""
    found, above = {}, []
    for line in path.read_text().splitlines():
        match = re.match(r"( *)([\w@/-]+):( [^#]*)?(?:# ?(.*))?$", line)
        if match:
            indent, key, _, comment = match.groups()
            above = [*above[: len(indent) // 2], key]
            found[".".join(above)] = comment or ""
    return found


def rows(keys: dict, prefix: str, allowed: dict, said: dict[str, str], shown: str) -> Iterator[str]:
    for key, value in keys.items():
        default = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
        may_be = describe(allowed[key]) if key in allowed else ""
        cells = (f"`{shown}{key}`", f"`{default}`", may_be, said.get(f"{prefix}{key}", ""))
        yield "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


HEAD = "| key | default | may be | meaning |\n|---|---|---|---|"


def page() -> str:
    base = ROOT / "conf" / "config.yaml"
    top, said = yaml.safe_load(base.read_text()), comments(base)
    parts = [INTRODUCTION, "## Every run\n", HEAD]
    own = {k: v for k, v in top.items() if k not in ("defaults", "hydra", "training")}
    parts += rows(own, "", typing.get_type_hints(Config, include_extras=True), said, "")
    hints = typing.get_type_hints(Training, include_extras=True)
    parts += rows(top["training"], "training.", hints, said, "training.")
    for group in (*GROUPS, "metrics", "hydra/launcher", "hydra/sweeper"):
        parts.append(f"\n## {group}")
        for path in sorted((ROOT / "conf" / group).glob("*.yaml")):
            option, keys = path.stem, yaml.safe_load(path.read_text())
            parts.append(f"\n### `{group}={option}`\n\n{path.read_text().splitlines()[0].removeprefix('# ')}")
            if "_target_" in keys:
                parts.append(f"`{keys['_target_']}`")
            if group == "metrics":
                allowed = typing.get_type_hints(Metrics, include_extras=True)
                keys = {k: v for k, v in keys.items() if k in ("points", "samples")}
            else:
                form = signature(keys["_target_"])
                allowed = {
                    n: a for n, a in form.annotations.items() if n not in form.positional[: SUPPLIED.get(group, 0)]
                }
            keys = {k: v for k, v in keys.items() if k not in ("_target_", "defaults")}
            if keys:
                shown = group.replace("/", ".") + "."
                parts += ["", HEAD, *rows(keys, "", allowed, comments(path), shown)]
    parts += ["\n## Metrics\n", "| name | what it is | keys |", "|---|---|---|"]
    path = ROOT / "conf" / "metrics" / "light.yaml"
    said = comments(path)
    for name, node in yaml.safe_load(path.read_text())["instruments"].items():
        keys = ", ".join(f"`{k}: {v}`" for k, v in node.items() if k != "_target_")
        parts.append(f"| `{name}` | {said[f'instruments.{name}']} (`{node['_target_']}`) | {keys} |")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
