"""The source files of modules, found along `sys.path` without importing them, and a digest of those that a user wrote.

The record of a run holds the digests, by module, of all code outside creditlab that the run's `_target_`s reach: their
modules, the packages around these, and what they import in turn. Installed packages (`site-packages`) and Python's own
modules are left out, because they have versions. An import whose name is computed is not followed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = __name__.partition(".")[0]
INSTALLED = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
SITES = {"site-packages", "dist-packages"}


def source_file(module: str) -> Path | None:
    """The file of `module`. Its parent packages are not imported."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or []:
        path = Path(folder, *rest)
        for candidate in (path / "__init__.py", path.with_suffix(".py")):
            if candidate.is_file():
                return candidate
    return None


def is_installed(path: Path) -> bool:
    """Whether a file belongs to Python or to an installed package. `path` is resolved."""
    return bool(SITES.intersection(path.parts)) or any(path.is_relative_to(folder) for folder in INSTALLED)


def code_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The SHA-256 of each module of the user's own that the run of `config` uses. A tracker does not count, because it
    cannot change the result.
    """
    targets = _targets({key: node for key, node in config.items() if key != "tracker"})
    code: dict[str, str] = {}
    for target in sorted(set(targets)):
        code |= _code(target.rpartition(".")[0])
    return code


def changed_code(recorded: Any, config: Mapping[str, Any]) -> list[str]:
    """Where the user's own code differs from that in the record of a run (`recorded`): files, or the names of modules
    that the run of `config` no longer uses. Empty if the record says nothing about code.
    """
    if not isinstance(recorded, Mapping):
        return []
    now = code_of(config)
    different = sorted(module for module in recorded.keys() | now.keys() if recorded.get(module) != now.get(module))
    return [str((module in now and source_file(module)) or module) for module in different]


def _targets(node: Any) -> Iterator[str]:
    """The dotted paths at every `_target_` in a config, without those of creditlab."""
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if isinstance(target, str) and not target.startswith(f"{PACKAGE}."):
            yield target
        for value in node.values():
            if type(value) not in (str, int, float, bool):
                yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)


@cache
def _code(module: str) -> dict[str, str]:
    """The digests of `module` and of all that it reaches, read once per process: it does not import a module twice."""
    code: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in code or name.partition(".")[0] in sys.stdlib_module_names:
            continue
        path = source_file(name)
        if path is None or not _is_users(path):
            continue
        content = path.read_bytes()
        code[name] = hashlib.sha256(content).hexdigest()
        waiting += _reached_from(name, path, content)
    return dict(sorted(code.items()))


def _is_users(path: Path) -> bool:
    path = path.resolve()
    return not path.is_relative_to(Path(__file__).resolve().parent) and not is_installed(path)


def _reached_from(module: str, path: Path, content: bytes) -> Iterator[str]:
    """The packages around a module, and all that its import statements may name."""
    if "." in module:
        yield module.rpartition(".")[0]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    try:
        statements = list(ast.walk(ast.parse(content)))
    except (SyntaxError, ValueError):  # whoever imports it says so
        return
    for statement in statements:
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            parts = package.split(".") if package else []
            base = parts[: len(parts) - statement.level + 1] if statement.level else []
            origin = ".".join([*base, *([statement.module] if statement.module else [])])
            names = [origin, *(f"{origin}.{alias.name}" for alias in statement.names)]
        else:
            continue
        for name in names:  # importing a.b imports a, too
            parts = name.split(".")
            yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))
