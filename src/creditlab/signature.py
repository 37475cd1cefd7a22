"""The keyword arguments of a class or function named by a dotted path, read from its source without importing it.

Checking the configs of a sweep must not cost the import of torch, so the source is found along `sys.path`, parsed, and
followed through `from x import y`. Annotations are evaluated with `typing`, `creditlab.keys` and the built-in names;
what any other name admits is not known (`Elsewhere`), and an annotation of nothing else is `Any`.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from creditlab import keys


class Elsewhere:
    """Stands for a name of an annotation that only an import could tell, such as `Tensor` in `float | Tensor`."""


class _Names(dict):
    def __missing__(self, name: str) -> type:
        return Elsewhere


_NAMES = {**vars(typing), **vars(keys)}


class TargetError(ValueError):
    """A dotted path that names no class or function."""


@dataclass(frozen=True)
class Signature:
    """`positional`: parameters before `*`. `keywords`: those after it, by name their annotation (`Any` if there is none
    that can be evaluated). `required`: the names without a default. `open`: takes any further keyword.
    """

    positional: tuple[str, ...]
    keywords: dict[str, Any]
    required: frozenset[str]
    open: bool
    annotations: dict[str, Any]


def _source(module: str) -> Path | None:
    """The file of `module`, found without importing its parents."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for place in spec.submodule_search_locations or []:
        path = Path(place, *rest)
        for candidate in (path / "__init__.py", path.with_suffix(".py")):
            if candidate.is_file():
                return candidate
    return None


@lru_cache
def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"), str(path))
    except SyntaxError as error:
        raise TargetError(f"{path}, line {error.lineno}: {error.msg}") from None
    except ValueError as error:  # bytes that are no text
        raise TargetError(f"{path}: {error}") from None


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Top-level statements, those under `if` and `try` too."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try):
            yield from _statements([*statement.body, *statement.orelse])


def _find(module: str, name: str, seen: tuple[str, ...] = ()) -> tuple[ast.ClassDef | ast.FunctionDef, str]:
    """The definition of `name` as `module` sees it, and the module that holds it."""
    path = _source(module)
    if path is None or f"{module}.{name}" in seen:
        raise TargetError(f"there is no module {module} in Python, neither in this folder nor installed")
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for statement in _statements(_tree(path).body):
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name == name:
            return statement, module
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    base = (
                        package.split(".")[: len(package.split(".")) - statement.level + 1] if statement.level else []
                    )
                    origin = ".".join([*base, *([statement.module] if statement.module else [])])
                    return _find(origin, alias.name, (*seen, f"{module}.{name}"))
    raise TargetError(f"{module} defines no {name}")


def defined_in(target: str) -> list[str]:
    """The public classes and functions of the module that should hold `target`, for a hint."""
    path = _source(target.rpartition(".")[0])
    try:
        body = _tree(path).body if path else []
    except TargetError:
        return []
    return [s.name for s in body if isinstance(s, ast.ClassDef | ast.FunctionDef) and not s.name.startswith("_")]


def _evaluate(annotation: ast.expr | None) -> Any:
    if annotation is None:
        return Any
    names = _Names({**vars(builtins), **_NAMES})
    try:
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval").body
        value = eval(compile(ast.Expression(annotation), "<annotation>", "eval"), {}, names)
    except (AttributeError, TypeError, SyntaxError):
        return Any
    return Any if value is Elsewhere else value


def _of_function(function: ast.FunctionDef, method: bool) -> Signature:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args][1 if method else 0 :]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    required = {a.arg for a, d in zip(positional, defaults[-len(positional) :], strict=False) if d is None}
    required |= {a.arg for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is None}
    everything = {a.arg: _evaluate(a.annotation) for a in [*positional, *arguments.kwonlyargs]}
    return Signature(
        positional=tuple(a.arg for a in positional),
        keywords={a.arg: everything[a.arg] for a in arguments.kwonlyargs},
        required=frozenset(required),
        open=arguments.kwarg is not None,
        annotations=everything,
    )


def _of_class(definition: ast.ClassDef, module: str) -> Signature:
    for statement in definition.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            own = _of_function(statement, method=True)
            return _with_inherited(own, _of_base(definition, module)) if _hands_on_keywords(statement) else own
    if any("dataclass" in ast.unparse(d) for d in definition.decorator_list):
        fields = [s for s in definition.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)]
        annotations = {s.target.id: _evaluate(s.annotation) for s in fields if isinstance(s.target, ast.Name)}
        required = {s.target.id for s in fields if s.value is None and isinstance(s.target, ast.Name)}
        return Signature((), annotations, frozenset(required), False, annotations)
    return _of_base(definition, module)


def _of_base(definition: ast.ClassDef, module: str) -> Signature:
    for base in definition.bases:
        if isinstance(base, ast.Name):
            return _of_definition(*_find(module, base.id))
    return Signature((), {}, frozenset(), True, {})


def _hands_on_keywords(constructor: ast.FunctionDef) -> bool:
    """Whether it calls `super().__init__(…, **keywords)` with the `**keywords` it takes."""
    rest = constructor.args.kwarg
    return rest is not None and any(
        isinstance(node, ast.Call)
        and ast.unparse(node.func) == "super().__init__"
        and any(k.arg is None and ast.unparse(k.value) == rest.arg for k in node.keywords)
        for node in ast.walk(constructor)
    )


def _with_inherited(own: Signature, base: Signature) -> Signature:
    inherited = base.annotations.keys() - set(own.positional)
    return Signature(
        positional=own.positional,
        keywords={**{name: a for name, a in base.keywords.items() if name in inherited}, **own.keywords},
        required=own.required | (base.required & inherited),
        open=base.open,
        annotations={**{name: a for name, a in base.annotations.items() if name in inherited}, **own.annotations},
    )


def _of_definition(definition: ast.ClassDef | ast.FunctionDef, module: str) -> Signature:
    if isinstance(definition, ast.ClassDef):
        return _of_class(definition, module)
    return _of_function(definition, method=False)


@lru_cache
def signature(target: str) -> Signature:
    """The signature of the class (its `__init__`, without self) or function at `package.module.name`.

    Raises TargetError where there is none.
    """
    module, _, name = target.rpartition(".")
    if not module:
        raise TargetError(f"{target!r} is not a dotted path package.module.name")
    return _of_definition(*_find(module, name))
