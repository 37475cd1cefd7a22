"""A file of claims: what an experiment is expected to show, written before its runs.

    - claim: feedback alignment comes within two points of backpropagation
      metric: test/accuracy
      equivalence: {algorithm: [fa, bp]}  # or difference, ratio: of two levels, the first minus, or over, the second
      where: {optimiser: muon}            # at these levels of other factors, averaged over the factors not named
      margin: 0.02                        # of an equivalence; all other kinds have holds: {above: …, below: …}

Other kinds: `cell: {algorithm: fa}`, the mean of the metric there; `slope: {over: KEY}`, its change per unit of a
numeric key; `contrast: [[weight, where], …]`, any weighted sum of cells; `table: {table, row, column, low, high}`, a
cell of a table of the analysis. The plan of a sweep keeps the file as it was before the first run was finished.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from creditlab import files
from creditlab.files import printable
from creditlab.hints import did_you_mean
from creditlab.records.reading import RecordError, reason_of

BYTES = files.MIB
PAIRS = ("difference", "ratio", "equivalence")  # kinds that compare two levels of a factor
KINDS = ("cell", *PAIRS, "slope", "contrast", "table")
OTHERS = ("claim", "metric", "where", "holds", "margin", "when", "learned")
OF_A_STUDY = ("experiment", "sweep", "figure", "theirs")
BOUNDS = ("above", "below")

Claim = dict[str, Any]
Where = Mapping[str, Any]


@dataclass(frozen=True)
class Claims:
    """A file of claims, with its text and the digest of it."""

    path: str
    text: str
    claims: list[Claim]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_claims(path: Path) -> Claims:
    """The claims in a file. Raises RecordError, with one line, where it is not one or a claim is not whole."""
    try:
        return parse_claims(files.read_bytes(path.resolve(), BYTES).decode(), str(path))
    except (FileNotFoundError, NotADirectoryError):
        names = [p.name for p in path.parent.glob("*.y*ml")]
        raise RecordError(f"{path}: there is no such file of claims.{did_you_mean(path.name, names)}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(f"{path}: {reason_of(error)}.") from None


def parse_claims(text: str, path: str) -> Claims:
    """The claims in `text`, which was read from `path`. Raises RecordError as `read_claims`."""
    import yaml

    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise RecordError(f"{path}: aliases (*name) are not read: write the value out.")
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        reason = printable(str(getattr(error, "problem", None) or error).partition("\n")[0])
        raise RecordError(f"{path}{place}: is not YAML ({reason}).") from None
    if not isinstance(content, list) or not content:
        raise RecordError(f"{path}: must be a list of claims, each beginning with `- claim: …`.")
    for number, claim in enumerate(content, 1):
        if problem := problem_of(claim):
            name = claim.get("claim") if isinstance(claim, dict) else None
            named = f" ({printable(name)})" if isinstance(name, str) else ""
            raise RecordError(f"{path}: claim {number}{named} {printable(problem)}.")
    return Claims(path, text, content)


def kind_of(claim: Claim) -> str:
    return next(kind for kind in KINDS if kind in claim)


def problem_of(claim: Any) -> str:
    """What is wrong with the shape of a claim, in words that follow its number; empty if nothing is."""
    if not isinstance(claim, dict) or not all(isinstance(key, str) for key in claim):
        return "is no mapping of keys to values"
    keys = [*OTHERS, *KINDS]
    if unknown := [key for key in claim if key not in (*keys, *OF_A_STUDY)]:
        return f"has an unknown key {unknown[0]!r}.{did_you_mean(unknown[0], keys)} There are: {', '.join(keys)}"
    kinds = [kind for kind in KINDS if kind in claim]
    if len(kinds) != 1:
        return f"must have one of {', '.join(KINDS)}" + (f", and has {' and '.join(kinds)}" if kinds else "")
    (kind,) = kinds
    bound = "margin" if kind == "equivalence" else "holds"
    needs = ("claim", *(["metric"] if kind != "table" else []), bound)
    if missing := [key for key in needs if key not in claim]:
        return f"has no {missing[0]!r}; it needs {', '.join((*needs, kind))}"
    other = "holds" if bound == "margin" else "margin"
    if other in claim:
        return f"is a claim of kind {kind}, which has {bound} instead of {other}"
    if not all(isinstance(claim[key], str) and claim[key] for key in needs if key not in ("margin", "holds")):
        return "needs texts as claim and metric"
    if "where" in claim and not is_where(claim["where"]):
        return f"where={claim['where']}: must be levels by factor, e.g. {{optimiser: muon}}"
    if not (claim.get("when", "end") in ("end", "late") or is_number(claim["when"])):
        return f"when={claim['when']}: must be end, late (the mean over the second half), or a number of epochs"
    if not is_number(claim.get("learned", 0)):
        return f"learned={claim['learned']}: must be an accuracy"
    return _problem_of_kind(kind, claim[kind]) or _problem_of_bound(kind, claim[bound])


def _problem_of_kind(kind: str, value: Any) -> str:
    whole, example = {
        "contrast": (_is_contrast, "a list of weights and cells, e.g. [[1, {algorithm: fa}], …]"),
        "cell": (lambda cell: is_where(cell) and bool(cell), "levels by factor, e.g. {algorithm: fa}"),
        "slope": (_is_slope, "the name of a numeric factor, e.g. {over: optimiser.lr}"),
        "table": (_is_cell_of_table, "{table: …, row: {…}, column: …}, and may have low and high"),
    }.get(kind, (_is_pair, "two levels of a factor, e.g. {algorithm: [fa, bp]}"))
    return "" if whole(value) else f"{kind}={value}: must be {example}"


def _is_pair(value: Any) -> bool:
    if not is_where(value) or len(value) != 1:
        return False
    (levels,) = value.values()
    return isinstance(levels, list) and len(levels) == 2 and not same_level(*levels)


def _is_contrast(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_weighted, value))


def _is_weighted(one: Any) -> bool:
    return isinstance(one, list) and len(one) == 2 and is_number(one[0]) and is_where(one[1])


def _is_slope(value: Any) -> bool:
    if not isinstance(value, dict) or not {"over"} <= value.keys() <= {"over", "where"}:
        return False
    return isinstance(value["over"], str) and is_where(value.get("where", {}))


def _is_cell_of_table(value: Any) -> bool:
    needs = {"table", "row", "column"}
    if not isinstance(value, dict) or not needs <= value.keys() <= needs | {"low", "high"}:
        return False
    return is_where(value["row"]) and all(isinstance(value[key], str) for key in value if key != "row")


def _problem_of_bound(kind: str, bound: Any) -> str:
    if kind == "equivalence":
        return "" if is_number(bound) and bound > 0 else f"margin={bound}: must be a number more than 0"
    if (
        not isinstance(bound, dict)
        or not bound
        or not {*BOUNDS} >= bound.keys()
        or not all(map(is_number, bound.values()))
    ):
        return f"holds={bound}: must be {{above: NUMBER}}, {{below: NUMBER}} or both"
    if bound.get("above", -math.inf) >= bound.get("below", math.inf):
        return f"holds={bound}: no value is above {bound['above']} and below {bound['below']}"
    if kind == "ratio" and min(bound.values()) <= 0:
        return f"holds={bound}: a ratio is more than 0; 1 means that the levels are equal"
    return ""


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_where(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) and not isinstance(v, dict) for key, v in value.items())


def cells(claim: Claim) -> list[tuple[float, Where]]:
    """The cells that a claim is about, each with its weight; of a slope and of a table one, without levels of it."""
    kind, where = kind_of(claim), claim.get("where", {})
    value = claim[kind]
    if kind in PAIRS:
        ((factor, levels),) = value.items()
        return [(weight, {**where, factor: level}) for weight, level in zip((1, -1), levels, strict=True)]
    if kind == "contrast":
        return [(weight, {**where, **cell}) for weight, cell in value]
    if kind == "table":
        return [(1, {})]
    return [(1, {**where, **(value if kind == "cell" else value.get("where", {}))})]


def range_of(claim: Claim) -> dict[str, float]:
    """The range in which the claim holds, {above: …, below: …}, ends excluded."""
    return claim["holds"] if "holds" in claim else {"above": -claim["margin"], "below": claim["margin"]}


def unknown_level(claim: Claim, levels: Mapping[str, Sequence[Any]]) -> str:
    """The first key or level of a claim that is not among `levels`, by key, in words; empty if there is none."""
    over = [claim["slope"]["over"]] if "slope" in claim else []
    for key in [*over, *(key for _, where in cells(claim) for key in where)]:
        if key not in levels:
            return f"no run has a key {key!r}.{did_you_mean(key, levels)}"
    for key, level in ((key, level) for _, where in cells(claim) for key, level in where.items()):
        if not any(same_level(level, other) for other in levels[key]):
            words = [str(other) for other in levels[key]]
            return f"no run has {key}={level}.{did_you_mean(str(level), words)} There are: {', '.join(words[:20])}"
    return ""


def same_level(a: Any, b: Any) -> bool:
    """Whether two values mean one level: 1e-3 (a text in YAML) is 0.001, and `absent` what is not there."""
    return a == b or meaning("absent" if a is None else str(a)) == meaning("absent" if b is None else str(b))


@cache
def meaning(level: str) -> Any:
    """What a level stands for, so that 1e-4 is 0.0001 and [256,128] is [256, 128]; the text itself if it is a name."""
    try:
        return json.loads(level)
    except (ValueError, RecursionError):
        try:
            return float(level)  # 1., .5, 1E4
        except ValueError:
            return level
