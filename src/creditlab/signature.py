"""The keyword arguments of a class or function named by a dotted path, read from its source without importing it.

Checking the configs of a sweep must not cost the import of torch. So the source file is looked up along `sys.path`,
parsed, and followed through `from x import y`. Annotations are evaluated with the names of `typing`, of
`creditlab.keys` and the built-in ones. Any other name stands for a type that only an import could give: it becomes
`Elsewhere` inside an annotation, and `Any` where it is the whole annotation.
"""

from __future__ import annotations

import ast
import builtins
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from creditlab import keys
from creditlab.sources import source_file


class Elsewhere:
    """Stands for a type that only an import could give, such as `Tensor` in `float | Tensor`."""


class _Names(dict):
    def __missing__(self, name: str) -> type:
        return Elsewhere


_NAMES = {**vars(typing), **vars(keys)}


class TargetError(ValueError):
    """A dotted path does not name a class or function."""


@dataclass(frozen=True)
class Signature:
    """The parameters of a class or function.

    `positional`: the names before `*`. `annotations`: the annotation of every parameter (`Any` if there is none that
    can be evaluated). `required`: the names without a default. `open`: whether it takes any further keyword.
    """

    positional: tuple[str, ...]
    annotations: dict[str, Any]
    required: frozenset[str]
    open: bool

    @property
    def keywords(self) -> dict[str, Any]:
        """The annotations of the parameters after `*`."""
        return {name: a for name, a in self.annotations.items() if name not in self.positional}


@lru_cache
def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"), str(path))
    except SyntaxError as error:
        raise TargetError(f"{path}, line {error.lineno}: {error.msg}") from None
    except ValueError as error:  # its bytes are not text
        raise TargetError(f"{path}: {error}") from None


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The top-level statements, and those under `if` and `try`."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try):
            yield from _statements([*statement.body, *statement.orelse])


def _definition(module: str, name: str, seen: tuple[str, ...] = ()) -> tuple[ast.ClassDef | ast.FunctionDef, str]:
    """The definition that `name` refers to in `module`, and the module that contains it."""
    path = source_file(module)
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
                    return _definition(origin, alias.name, (*seen, f"{module}.{name}"))
    raise TargetError(f"{module} defines no {name}")


def defined_in(target: str) -> list[str]:
    """The public classes and functions of the module in the path `target`, to suggest the nearest name."""
    path = source_file(target.rpartition(".")[0])
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
    return Signature(
        positional=tuple(a.arg for a in positional),
        annotations={a.arg: _evaluate(a.annotation) for a in [*positional, *arguments.kwonlyargs]},
        required=frozenset(required),
        open=arguments.kwarg is not None,
    )


def _of_class(definition: ast.ClassDef, module: str) -> Signature:
    for statement in definition.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            constructor = _of_function(statement, method=True)
            if _passes_keywords_on(statement):
                return _with_inherited(constructor, _of_base(definition, module))
            return constructor
    if any("dataclass" in ast.unparse(d) for d in definition.decorator_list):
        fields = [s for s in definition.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)]
        annotations = {s.target.id: _evaluate(s.annotation) for s in fields if isinstance(s.target, ast.Name)}
        required = {s.target.id for s in fields if s.value is None and isinstance(s.target, ast.Name)}
        return Signature((), annotations, frozenset(required), open=False)
    return _of_base(definition, module)


def _of_base(definition: ast.ClassDef, module: str) -> Signature:
    for base in definition.bases:
        if isinstance(base, ast.Name):
            return _of_definition(*_definition(module, base.id))
    return Signature((), {}, frozenset(), open=True)


def _passes_keywords_on(constructor: ast.FunctionDef) -> bool:
    """Whether it passes the `**keywords` that it takes on to `super().__init__(…, **keywords)`."""
    keywords = constructor.args.kwarg
    return keywords is not None and any(
        isinstance(node, ast.Call)
        and ast.unparse(node.func) == "super().__init__"
        and any(k.arg is None and ast.unparse(k.value) == keywords.arg for k in node.keywords)
        for node in ast.walk(constructor)
    )


def _with_inherited(constructor: Signature, base: Signature) -> Signature:
    """`constructor`, with the parameters of `base` that it does not have itself."""
    inherited = {name: a for name, a in base.annotations.items() if name not in constructor.annotations}
    return Signature(
        positional=constructor.positional,
        annotations=inherited | constructor.annotations,
        required=constructor.required | (base.required & inherited.keys()),
        open=base.open,
    )


def _of_definition(definition: ast.ClassDef | ast.FunctionDef, module: str) -> Signature:
    if isinstance(definition, ast.ClassDef):
        return _of_class(definition, module)
    return _of_function(definition, method=False)


@lru_cache
def signature(target: str) -> Signature:
    """The signature of the class (its `__init__`, without self) or function at `package.module.name`.

    Raises TargetError if there is none.
    """
    module, _, name = target.rpartition(".")
    if not module:
        raise TargetError(f"{target!r} is not a dotted path package.module.name")
    return _of_definition(*_definition(module, name))
