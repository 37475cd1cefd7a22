"""What runs say to a claim: a value with its interval and the number of seeds behind it.

contrast     Σ weight · mean of the metric over the runs of a cell, seed by seed; the mean over seeds and its interval
             by Student's t. Two cells of weight 1 and −1 make a difference, four an interaction, one is a cell.
ratio        the same of the logarithms of two cells, and back: the geometric mean over seeds of one over the other
equivalence  a difference with its interval of 90 %, which holds what two one-sided tests of 5 % do not reject
slope        the metric's least-squares slope over a numeric key, seed by seed, likewise
table        a cell of one of the tables of `creditlab-analyse`, with the interval beside it where there is one
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from creditlab.analysis.data.factors import GROUPS
from creditlab.analysis.names import LEVEL, SEED, AnalysisError
from creditlab.hints import did_you_mean
from creditlab.records import Run, flatten
from creditlab.records.claims import Claim, Where, cells, kind_of, same_level

if TYPE_CHECKING:
    import pandas as pd

EQUIVALENCE = 0.90  # the level of its interval: two one-sided tests at 5 %
FrameOf = Callable[[str], "pd.DataFrame"]  # of a table by its name


@dataclass(frozen=True)
class Result:
    """A finished run as a claim sees it: `settings` are its options and keys, the seed among them."""

    settings: Mapping[str, Any]
    status: str
    metrics: Mapping[str, float]
    history: Callable[[], list[dict]]


@dataclass(frozen=True)
class Quantity:
    """What the runs say: `problem` is why it bears no verdict."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    seeds: int = 0
    problem: str = ""


def results_of(runs: Iterable[Run]) -> list[Result]:
    """The runs that are finished and have a readable config."""
    return [Result(settings(run), run.status, run.metrics, run.history) for run in runs if run.finished and run.config]


def level_of(claim: Claim) -> float:
    """The level of the interval by which a claim is judged."""
    return EQUIVALENCE if "equivalence" in claim else LEVEL


def estimate(results: Sequence[Result], claim: Claim, frame_of: FrameOf) -> Quantity:
    """What finished runs say to a claim; `frame_of` gives the tables of their analysis."""
    try:
        match kind_of(claim):
            case "slope":
                return slope(results, claim)
            case "table":
                (where,) = needed(claim)
                seeds = {result.settings[SEED] for result in runs_of(results, where)}
                return from_table(frame_of(claim["table"]["table"]), claim["table"], len(seeds))
            case "ratio":
                return ratio(results, claim)
            case _:
                return contrast(results, claim, cells(claim))
    except AnalysisError as error:
        return Quantity(problem=str(error))


def contrast(results: Sequence[Result], claim: Claim, weighted: Sequence[tuple[float, Where]]) -> Quantity:
    """Of cells with their weights, over the seeds that all of them have."""
    values = [(weight, by_seed(results, where, claim)) for weight, where in weighted]
    seeds = set.intersection(*(set(means) for _, means in values))
    sums = [math.fsum(weight * means[seed] for weight, means in values) for seed in sorted(seeds, key=str)]
    return over_seeds(sums, level_of(claim))


def ratio(results: Sequence[Result], claim: Claim) -> Quantity:
    """Of the first cell over the second."""
    (_, above), (_, below) = cells(claim)
    a, b = (by_seed(results, where, claim) for where in (above, below))
    seeds = sorted(a.keys() & b.keys(), key=str)
    if any(min(a[seed], b[seed]) <= 0 for seed in seeds):
        raise AnalysisError(f"{claim['metric']} is not above 0 in every run, so it bears no ratio")
    logs = over_seeds([math.log(a[seed] / b[seed]) for seed in seeds], level_of(claim))
    return replace(logs, value=math.exp(logs.value), low=math.exp(logs.low), high=math.exp(logs.high))


def slope(results: Sequence[Result], claim: Claim) -> Quantity:
    """The change of the metric per unit of a key."""
    import numpy as np

    over, ((_, where),) = claim["slope"]["over"], cells(claim)
    values = [result.settings.get(over) for result in results if matches(result, where)]
    distinct = {str(level): level for level in values}
    if len(distinct) < 2:
        raise AnalysisError(f"{over} does not vary among the finished runs that the claim needs")
    levels = sorted(_number(level, over) for level in distinct.values())
    x = np.array(levels, dtype=float) - np.mean(levels)
    weights = x / (x @ x)
    return contrast(
        results, claim, [(float(w), {**where, over: level}) for w, level in zip(weights, levels, strict=True)]
    )


def _number(level: Any, key: str) -> float:
    if isinstance(level, bool) or not isinstance(level, int | float):
        raise AnalysisError(
            f"{key}={'absent' if level is None else level} is no number, so there is no slope over {key}"
        )
    return level


def from_table(table: pd.DataFrame, spec: Mapping[str, Any], seeds: int) -> Quantity:
    """Of {table, row: {column: value}, column, low, high}; where several rows match, the one with the least value."""
    name = spec["table"]
    for column in (*spec["row"], *(spec[key] for key in ("column", "low", "high") if key in spec)):
        if column not in table:
            raise AnalysisError(f"the table {name} has no column {column!r}.{did_you_mean(column, map(str, table))}")
    for column, value in spec["row"].items():
        texts = table[column].astype(str)
        wanted = str(value)
        table = table[texts.str.startswith(wanted[:-1]) if wanted.endswith("*") else texts == wanted]
    table = table.dropna(subset=[spec["column"]])
    if table.empty:
        raise AnalysisError(f"the table {name} has no row {', '.join(f'{k}={v}' for k, v in spec['row'].items())}")
    row = table.loc[table[spec["column"]].idxmin()]
    value, low, high = (float(row[spec[key]]) if key in spec else math.nan for key in ("column", "low", "high"))
    return Quantity(value, low, high, seeds)


def needed(claim: Claim) -> list[Where]:
    """The cells whose runs a claim is about."""
    if "table" in claim:
        return [{key: value for key, value in claim["table"]["row"].items() if key in GROUPS}]
    return [where for _, where in cells(claim)]


def runs_of(results: Sequence[Result], where: Where) -> list[Result]:
    """The runs of a cell. Raises AnalysisError where there is none, or one diverged."""
    cell = [result for result in results if matches(result, where)]
    if not cell:
        raise AnalysisError(f"no finished run has {in_words(where)}")
    if diverged := sum(result.status == "diverged" for result in cell):
        raise AnalysisError(f"{diverged} of {len(cell)} runs of {in_words(where)} diverged")
    return cell


def by_seed(results: Sequence[Result], where: Where, claim: Claim) -> dict[Any, float]:
    """The mean of the claim's metric over the runs of a cell, by seed. Raises AnalysisError where the cell is empty,
    seeds have unequal numbers of runs in it, or a run of it diverged or has not learned.
    """
    cell = runs_of(results, where)
    learned = claim.get("learned", 0.0)
    if below := sum(result.metrics["test/accuracy"] < learned for result in cell if learned):
        text = f"{below} of {len(cell)} runs of {in_words(where)} did not reach an accuracy of {learned:.0%}"
        raise AnalysisError(text)
    values: dict[Any, list[float]] = {}
    for result in cell:
        value = measure(result, claim["metric"], claim.get("when", "end"))
        values.setdefault(result.settings[SEED], []).append(value)
    if len({len(of_seed) for of_seed in values.values()}) > 1:
        counts = ", ".join(f"{seed}: {len(of_seed)}" for seed, of_seed in sorted(values.items()))
        raise AnalysisError(
            f"seeds have unequal numbers of runs of {in_words(where)} ({counts}): of other settings too?"
        )
    means = {seed: math.fsum(of_seed) / len(of_seed) for seed, of_seed in values.items()}
    if not all(map(math.isfinite, means.values())):
        raise AnalysisError(f"{claim['metric']} was not recorded for {in_words(where)}")
    return means


def measure(run: Result | Run, metric: str, when: str | float) -> float:
    """`metric` of a finished run: at its end, at the last record up to an epoch (`when` is a number; that at
    initialisation is for 0 alone), or `late`, its mean over the second half of the records.
    """
    if when == "end":
        return run.metrics.get(metric, math.nan)
    lines = [line for line in run.history() if metric in line["metrics"]]
    if not isinstance(when, str):
        early = [line for line in lines if line["epoch"] <= when and bool(line["epoch"]) == bool(when)]
        return early[-1]["metrics"][metric] if early else math.nan
    values = [line["metrics"][metric] for line in lines]
    late = values[len(values) // 2 :]
    return math.fsum(late) / len(late) if late else math.nan


def settings(run: Run) -> dict[str, Any]:
    """The options and settings of a run, by key."""
    assert run.config is not None
    return flatten(run.config) | run.config["choices"]


def matches(result: Result, where: Where) -> bool:
    """Whether a run has the options and settings in `where`."""
    return all(same_level(value, result.settings.get(key)) for key, value in where.items())


def in_words(where: Where) -> str:
    return ", ".join(f"{key}={value}" for key, value in where.items()) or "any run"


def over_seeds(values: Sequence[float], level: float) -> Quantity:
    """Mean and interval of `level` by Student's t."""
    import numpy as np

    from creditlab.analysis.model.intervals import half_width

    n, mean = len(values), float(np.mean(values)) if len(values) else math.nan
    if n < 2:
        return Quantity(mean, seeds=n)
    half = float(half_width(np.std(values, ddof=1), n, level))
    return Quantity(mean, mean - half, mean + half, n)
