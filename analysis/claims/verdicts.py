"""Whether claims hold: the verdict of each by a rule that stands beforehand, and what is still needed to decide it.

*Holds*: the whole interval lies in the claim's range. *Does not hold*: none of it. *Undecided*: a part of it does, or
there are too few seeds, or a run that the claim needs is missing or diverged. So "undecided" never means "no".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from creditlab.analysis.claims.quantities import (
    FrameOf,
    Quantity,
    Result,
    estimate,
    level_of,
    needed,
    results_of,
    settings,
)
from creditlab.analysis.data.sweep import INDEX, Sweep
from creditlab.analysis.names import AnalysisError, many, some
from creditlab.analysis.table import Column, Table
from creditlab.hints import did_you_mean
from creditlab.records import Claims, RecordError, read_plan, read_sweep
from creditlab.records.claims import Claim, cells, kind_of, parse_claims, range_of, same_level, unknown_level

if TYPE_CHECKING:
    from creditlab.records import Run

SEEDS = 2  # fewer have no interval
MOST_SEEDS = 10_000  # that are ever asked for
SHARES = ("accuracy", "acc", "fraction", "share", "auc", "f1")  # in the names of metrics that lie in [0, 1]
BEFORE, CHANGED, AFTERWARDS, UNKNOWN = "before the runs", "changed since", "afterwards", "not recorded"
COLUMNS = {
    "claim": "what is claimed",
    "kind": "cell, difference, ratio, equivalence, slope, contrast or table",
    "metric": "name of the metric; of a claim of a table its column",
    "holds_if": "the range of the estimate in which the claim holds",
    "estimate": "mean over seeds; of a ratio the geometric mean",
    "ci_low": "lower end of its interval, Student's t over seeds",
    "ci_high": "upper end of its interval",
    "level": "level of the interval: .90 for an equivalence, which is two one-sided tests at .05; else .95",
    "n_seeds": "seeds",
    "verdict": "holds, does not hold or undecided",
    "why": "of an equivalence what is shown; else why it is undecided",
    "seeds_needed": "seeds that would decide it if estimate and spread stay as they are; empty where seeds cannot",
    "stated": "before the runs, changed since, afterwards, or not recorded (a table from elsewhere)",
}


class Finished(NamedTuple):
    """The finished runs of a sweep, and what is known of the settings of each that was planned and is not finished."""

    results: list[Result]
    absent: list[dict[str, Any]]


def finished(folder: Path) -> Finished:
    """Raises RecordError where the plan of the sweep cannot be read."""
    try:
        runs = read_sweep(folder)
    except RecordError:  # no sweep, or no run in it
        runs = []
    names = {run.name for run in runs}
    plan = read_plan(folder) or {"runs": []}
    return _finished(runs, [entry for entry in plan["runs"] if entry["name"] not in names])


def _finished(runs: Sequence[Run], never_begun: Sequence[Mapping[str, Any]]) -> Finished:
    begun = [settings(run) if run.config else {} for run in runs if not run.finished]
    return Finished(results_of(runs), begun + [entry.get("levels", {}) for entry in never_begun])


def finished_of(sweep: Sweep, claim: Claim | None = None) -> Finished:
    """The same of a sweep that was read, or of a table from elsewhere. Unless a claim names a key that only some of the
    options have, it is about each option at its best value of it, as all comparisons are.
    """
    named = {key for where in needed(claim) for key in where} if claim else set(sweep.nested)
    named |= {claim["slope"]["over"]} if claim and "slope" in claim else set()
    used = sweep.finished if named & set(sweep.nested) else sweep.usable
    if not sweep.named:
        columns = [column for column in map(str, sweep.runs) if column not in (*sweep.metrics, *INDEX)]
        rows = used.astype(object).where(used.notna(), None).to_dict("records")
        return Finished([_row_as_result(row, columns, sweep.metrics) for row in rows], [])
    taken = set(used["run"])
    missing = {name.rpartition("/")[2] for name in sweep.missing}
    plans = [_plan_of(folder) for folder in sweep.folders]
    entries = [entry for plan in plans for entry in plan.get("runs", []) if entry["name"] in missing]
    return _finished([run for name, run in sweep.named.items() if name in taken or not run.finished], entries)


def _row_as_result(row: Mapping[Any, Any], columns: Sequence[str], metrics: Sequence[str]) -> Result:
    values = {metric: math.nan if row[metric] is None else float(row[metric]) for metric in metrics}
    return Result({key: row[key] for key in columns}, row["status"], values, _no_history)


def _no_history() -> list[dict]:
    raise AnalysisError("a table has no histories, so `when` cannot be answered")


def _plan_of(folder: Path) -> dict:
    try:
        return read_plan(folder) or {}
    except RecordError:  # named among the sweep's problems
        return {}


def lacking(claim: Claim, absent: Sequence[Mapping[str, Any]]) -> str:
    """The problem of a claim that may need a run which is not finished."""
    may_be = [
        any(all(same_level(levels.get(key, value), value) for key, value in where.items()) for where in needed(claim))
        for levels in absent
    ]
    return f"runs that it needs were planned and are not finished ({sum(may_be)} at most)" if any(may_be) else ""


def verdict(quantity: Quantity, holds: Mapping[str, float], least: int = SEEDS) -> tuple[str, str]:
    """The verdict and, where it is none, the reason. An interval lies outside the range if no point of it is inside."""
    if quantity.problem:
        return "undecided", quantity.problem
    if quantity.seeds < least:
        return "undecided", f"{many(quantity.seeds, 'seed')}, fewer than {least}"
    if math.isnan(quantity.low) or math.isnan(quantity.high):
        return "undecided", "there is no interval"
    if in_range(quantity.low, holds) and in_range(quantity.high, holds):
        return "holds", ""
    if quantity.high <= holds.get("above", -math.inf) or quantity.low >= holds.get("below", math.inf):
        return "does not hold", ""
    return "undecided", "the interval reaches over the bound: more seeds, or a longer training"


def in_range(value: float, bounds: Mapping[str, float]) -> bool:
    """Whether a value lies in the range {above: …, below: …}, ends excluded."""
    return bounds.get("above", -math.inf) < value < bounds.get("below", math.inf)


def seeds_needed(quantity: Quantity, claim: Claim) -> int | None:
    """The least number of seeds whose interval would not reach over a bound, if the estimate and the standard deviation
    of the seeds' values stay as they are. None where the estimate lies at a bound, or no number of seeds would do.
    """
    import numpy as np

    from creditlab.analysis.model.intervals import half_width

    if kind_of(claim) == "table" or quantity.problem or quantity.seeds < SEEDS:
        return None
    scale = math.log if "ratio" in claim else float
    value, low, high = map(scale, (quantity.value, quantity.low, quantity.high))
    distance = min(abs(value - scale(bound)) for bound in range_of(claim).values())
    deviation = (high - low) / 2 / half_width(1.0, quantity.seeds, level_of(claim))
    seeds = np.arange(quantity.seeds, MOST_SEEDS + 1)
    enough = seeds[half_width(deviation, seeds, level_of(claim)) < distance]
    return int(enough[0]) if len(enough) else None


def stated_in(claim: Claim, plans: Sequence[Claims | None]) -> str:
    """When a claim was stated, by what the plans of all sweeps recorded before their first run was finished."""
    recorded = [plan.claims if plan else [] for plan in plans]
    if recorded and all(claim in claims for claims in recorded):
        return BEFORE
    same_words = any(one["claim"] == claim["claim"] for claims in recorded for one in claims)
    return CHANGED if same_words else AFTERWARDS


def recorded_claims(folder: Path) -> Claims | None:
    """The claims that the plan of a sweep recorded before its first run was finished; None where there are none."""
    record = _plan_of(folder).get("claims")
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        return None
    try:
        claims = parse_claims(record["text"], str(record.get("file")))
    except RecordError:
        return None
    return claims if claims.sha256 == record.get("sha256") else None


def judged(sweep: Sweep, claims: Claims, frame_of: FrameOf, strict: bool = True) -> Table:
    """The table of verdicts. A claim that names what is not there, or whose bound has the wrong unit, is undecided; if
    `strict`, AnalysisError is raised for the first one.
    """
    import pandas as pd

    levels = _levels(finished_of(sweep))
    plans = [recorded_claims(folder) for folder in sweep.folders] if sweep.named else []
    rows = []
    for number, claim in enumerate(claims.claims, 1):
        bad = _unknown(claim, sweep, levels) or _wrong_unit(claim, sweep)
        runs = finished_of(sweep, claim)
        if bad and strict:
            raise AnalysisError(f"{claims.path}: claim {number} ({claim['claim']}): {bad}.")
        quantity = Quantity(problem=bad) if bad else estimate(runs.results, claim, frame_of)
        quantity = replace(quantity, problem=quantity.problem or lacking(claim, runs.absent))
        word, why = verdict(quantity, range_of(claim))
        why = (_of_equivalence(quantity, claim, word) if "equivalence" in claim else "") or why
        bounds = " and ".join(f"{name} {bound:g}" for name, bound in range_of(claim).items())
        numbers = (quantity.value, quantity.low, quantity.high, level_of(claim), quantity.seeds)
        metric = claim.get("metric") or claim["table"]["column"]
        needs = seeds_needed(quantity, claim) if word == "undecided" else None
        stated = stated_in(claim, plans) if sweep.named else UNKNOWN
        rows.append([claim["claim"], kind_of(claim), metric, bounds, *numbers, word, why, needs, stated])
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"seeds_needed": float})
    described = {name: Column(meaning) for name, meaning in COLUMNS.items()}
    return Table("claims", "Claims", f"One row per claim in {Path(claims.path).name}.", described, frame)


def _levels(runs: Finished) -> dict[str, list]:
    """The levels of each key among the runs that are finished or planned."""
    levels: dict[str, dict[str, Any]] = {}
    for one in (*(result.settings for result in runs.results), *runs.absent):
        for key, level in one.items():
            levels.setdefault(key, {})[str(level)] = level
    return {key: list(of_key.values()) for key, of_key in levels.items()}


def _of_equivalence(quantity: Quantity, claim: Claim, word: str) -> str:
    """Which of its three outcomes a claim of equivalence has; empty where a problem forbids one."""
    margin = claim["margin"]
    if word == "holds":
        return f"equivalent within {margin:g}"
    if word == "does not hold":
        return f"differ by more than {margin:g}"
    return (
        ""
        if quantity.problem or quantity.seeds < SEEDS
        else f"neither equivalent within {margin:g} nor shown to differ by more"
    )


def _unknown(claim: Claim, sweep: Sweep, levels: Mapping[str, Sequence[Any]]) -> str:
    """What a claim names that is not there, in words; empty if nothing is."""
    from creditlab.analysis.catalogue import statistics

    if "table" in claim:
        name = claim["table"]["table"]
        return "" if name in statistics() else f"there is no table {name!r}.{did_you_mean(name, statistics())}"
    metric = claim["metric"]
    if metric not in sweep.metrics and "when" not in claim:
        hint = did_you_mean(metric, sweep.metrics)
        return f"no run has a metric {metric!r}.{hint} There are: {some(sweep.metrics)}"
    return unknown_level(claim, levels)


def _wrong_unit(claim: Claim, sweep: Sweep) -> str:
    """That a bound lies beyond all that a share, a metric in [0, 1], can be; empty if it does not."""
    metric = claim.get("metric", "")
    if kind_of(claim) in ("ratio", "slope", "table") or metric not in sweep.metrics:
        return ""
    named_so = any(word in metric.lower() for word in SHARES)
    is_share = named_so and not ((sweep.complete[metric] < 0) | (sweep.complete[metric] > 1)).any()
    weights = [weight for weight, _ in cells(claim)]
    reach = max(sum(w for w in weights if w > 0), -sum(w for w in weights if w < 0))
    for bound in range_of(claim).values():
        if is_share and abs(bound) >= reach and not (bound in (0, 1) and len(weights) == 1):
            name = f"margin={claim['margin']}" if "margin" in claim else f"holds={claim['holds']}"
            return f"{name}: {metric} is a share between 0 and 1, so give 0.02 for two points of a percentage"
    return ""
