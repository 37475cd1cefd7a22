"""Does a value fit the annotation of a config key? And what does the annotation allow, in words?

The rules are strict: `true` is not a number, `"3"` is not a number, and a number is finite. Two conversions are made so
that equal settings get equal identities: 3.0 becomes 3 where a whole number is asked for, and 1 becomes 1.0 where a
number is asked for.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from creditlab.keys import Range, Words
from creditlab.signature import Elsewhere

REFUSED = object()  # what `fit` returns for a value that does not fit
UNIONS = (typing.Union, types.UnionType)


def as_yaml(value: Any) -> str:
    """`value` as it would be written in YAML, with text in quotes."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {as_yaml(v)}" for key, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(as_yaml(v) for v in value) + "]"
    return json.dumps(value) if value is None or isinstance(value, bool) else repr(value)


def allowed_values(annotation: Any) -> str:
    """What `annotation` allows, in words."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return f"{allowed_values(args[0])} {' and '.join(str(limit) for limit in _limits(args))}".strip()
    if origin in UNIONS:
        return " or ".join(allowed_values(a) for a in args if a is not Elsewhere)
    if origin is Literal:
        return " or ".join(str(a) for a in args)
    if origin in (list, tuple):
        length = f" of {len(args)}" if _has_fixed_length(origin, args) else ""
        each = list(dict.fromkeys(allowed_values(a) for a in args if a is not Ellipsis))
        return f"a list{length}, " + ("each " if len(each) == 1 else "") + ", ".join(each) if args else "a list"
    if origin is dict or annotation is dict:
        return "a mapping" + (f", each value {allowed_values(args[1])}" if args and args[1] is not Any else "")
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return names.get(annotation, "anything" if annotation is Any else getattr(annotation, "__name__", str(annotation)))


def allowed_words(annotation: Any) -> list[str]:
    """The single words that `annotation` allows, for a hint after a misspelling."""
    if typing.get_origin(annotation) is Literal:
        return [str(a) for a in typing.get_args(annotation)]
    return [word for a in typing.get_args(annotation) for word in allowed_words(a)]


def fit(value: Any, annotation: Any) -> Any:
    """`value` in the type that `annotation` asks for, or `REFUSED`. The first member of a union that fits counts."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return value
    if origin is Annotated:
        fitted = fit(value, args[0])
        return fitted if fitted is not REFUSED and all(fitted in limit for limit in _limits(args)) else REFUSED
    if origin in UNIONS:
        return next((fitted for a in args if (fitted := fit(value, a)) is not REFUSED), REFUSED)
    if origin is Literal:
        return value if any(type(value) is type(a) and value == a for a in args) else REFUSED
    if origin in (list, tuple):
        return _fit_list(value, origin, args)
    if origin is dict or annotation is dict:
        fits = isinstance(value, Mapping) and (not args or all(fit(v, args[1]) is not REFUSED for v in value.values()))
        return value if fits else REFUSED
    if annotation is type(None):
        return None if value is None else REFUSED
    if annotation is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return float(value) if is_number else REFUSED
    if annotation is int:
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value if isinstance(value, int) and not isinstance(value, bool) else REFUSED
    if isinstance(annotation, type):
        return value if isinstance(value, annotation) else REFUSED
    return value


def _fit_list(value: Any, origin: Any, args: tuple) -> Any:
    has_fixed_length = _has_fixed_length(origin, args)
    if not isinstance(value, list | tuple) or (has_fixed_length and len(value) != len(args)):
        return REFUSED
    annotations = args if has_fixed_length else (args[0] if args else Any,) * len(value)
    fitted = [fit(v, a) for v, a in zip(value, annotations, strict=True)]
    return REFUSED if any(v is REFUSED for v in fitted) else fitted


def _limits(args: tuple) -> list[Range | Words]:
    """The limits among the arguments of an `Annotated`."""
    return [limit for limit in args[1:] if isinstance(limit, Range | Words)]


def _has_fixed_length(origin: Any, args: tuple) -> bool:
    """Whether the annotation is a tuple of a fixed length, such as `tuple[float, float]`."""
    return origin is tuple and bool(args) and args[-1] is not Ellipsis
