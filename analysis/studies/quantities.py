"""What a sweep says to a claim: a value with its interval and the number of seeds behind it.

contrast   Σ weight · mean of the metric over the runs of a cell, seed by seed; the mean over seeds and its interval
           by Student's t. Two cells of weight 1 and −1 make a difference, four an interaction.
slope      the metric's least-squares slope over a numeric key, seed by seed, likewise
table      a cell of one of the tables of `creditlab-analyse`, with the interval beside it where there is one
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from creditlab.analysis.data.factors import GROUPS
from creditlab.analysis.names import SEED, AnalysisError
from creditlab.hints import did_you_mean
from creditlab.records import flatten

if TYPE_CHECKING:
    from creditlab.records import Run

Where = Mapping[str, Any]


@dataclass(frozen=True)
class Quantity:
    """What a sweep says: `problem` is why it bears no verdict."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    seeds: int = 0
    problem: str = ""


def estimate(folder: Path, runs: Sequence[Run], claim: Mapping[str, Any]) -> Quantity:
    """What the sweep in `folder`, of which `runs` are the finished runs, says to a claim."""
    try:
        if "contrast" in claim:
            return contrast(runs, claim)
        if "slope" in claim:
            return slope(runs, claim)
        (where,) = needed(claim)
        seeds = {run.config[SEED] for run in runs_of(runs, where) if run.config}
        check_report(folder, runs)
        return from_table(folder, claim["table"], len(seeds))
    except AnalysisError as error:
        return Quantity(problem=str(error))


def contrast(runs: Sequence[Run], claim: Mapping[str, Any]) -> Quantity:
    """Of cells [[weight, where], …], over the seeds that all of them have."""
    cells = [(weight, by_seed(runs, where, claim)) for weight, where in claim["contrast"]]
    seeds = set.intersection(*(set(means) for _, means in cells))
    return over_seeds([math.fsum(weight * means[seed] for weight, means in cells) for seed in sorted(seeds)])


def slope(runs: Sequence[Run], claim: Mapping[str, Any]) -> Quantity:
    """Of {over: key, where: …}: the change of the metric per unit of the key."""
    import numpy as np

    over, where = claim["slope"]["over"], claim["slope"]["where"]
    levels = sorted({settings(run).get(over, math.nan) for run in runs if matches(run, where)})
    if len(levels) < 2:
        raise AnalysisError(f"{over} does not vary among the finished runs that the claim needs")
    x = np.array(levels, dtype=float) - np.mean(levels)
    cells = [[float(w), {**where, over: level}] for w, level in zip(x / (x @ x), levels, strict=True)]
    return contrast(runs, {**claim, "contrast": cells})


def from_table(folder: Path, spec: Mapping[str, Any], seeds: int) -> Quantity:
    """Of {table, row: {column: value}, column, low, high}; where several rows match, the one with the least value."""
    import pandas as pd

    path = folder / "report" / f"{spec['table']}.csv"
    if not path.is_file():
        raise AnalysisError(f"{path} does not exist: creditlab-analyse {folder}")
    table = pd.read_csv(path)
    for column in (*spec["row"], *(spec[key] for key in ("column", "low", "high") if key in spec)):
        if column not in table:
            raise AnalysisError(f"{path.name} has no column {column!r}.{did_you_mean(column, map(str, table))}")
    for column, value in spec["row"].items():
        texts = table[column].astype(str)
        wanted = str(value)
        table = table[texts.str.startswith(wanted[:-1]) if wanted.endswith("*") else texts == wanted]
    table = table.dropna(subset=[spec["column"]])
    if table.empty:
        raise AnalysisError(f"{path.name} has no row {', '.join(f'{k}={v}' for k, v in spec['row'].items())}")
    row = table.loc[table[spec["column"]].idxmin()]
    value, low, high = (float(row[spec[key]]) if key in spec else math.nan for key in ("column", "low", "high"))
    return Quantity(value, low, high, seeds)


def check_report(folder: Path, runs: Sequence[Run]) -> None:
    """Raises AnalysisError where a sweep's report was made of other runs than its finished ones."""
    path = folder / "report" / "analysis.json"
    notes = json.loads(path.read_text()) if path.is_file() else {"runs": {}, "where": {}}
    counts = Counter(run.status for run in runs)
    if notes["where"] or any(notes["runs"].get(status, 0) != counts[status] for status in ("complete", "diverged")):
        raise AnalysisError(f"{path.parent} was made of other runs than there are now: creditlab-analyse {folder}")


def needed(claim: Mapping[str, Any]) -> list[Where]:
    """The cells whose runs a claim is about."""
    if "contrast" in claim:
        return [where for _, where in claim["contrast"]]
    if "slope" in claim:
        return [claim["slope"]["where"]]
    return [{key: value for key, value in claim["table"]["row"].items() if key in GROUPS}]


def runs_of(runs: Sequence[Run], where: Where) -> list[Run]:
    """The runs of a cell. Raises AnalysisError where there is none, or one diverged."""
    cell = [run for run in runs if matches(run, where)]
    if not cell:
        raise AnalysisError(f"no finished run has {in_words(where)}")
    if diverged := sum(run.status == "diverged" for run in cell):
        raise AnalysisError(f"{diverged} of {len(cell)} runs of {in_words(where)} diverged")
    return cell


def by_seed(runs: Sequence[Run], where: Where, claim: Mapping[str, Any]) -> dict[int, float]:
    """The mean of the claim's metric over the runs of a cell, by seed. Raises AnalysisError where the cell is empty,
    seeds have unequal numbers of runs in it, or a run of it diverged or has not learned.
    """
    cell = runs_of(runs, where)
    learned = claim.get("learned", 0.0)
    if below := sum(run.metrics["test/accuracy"] < learned for run in cell):
        text = f"{below} of {len(cell)} runs of {in_words(where)} did not reach an accuracy of {learned:.0%}"
        raise AnalysisError(text)
    values: dict[int, list[float]] = {}
    for run in cell:
        assert run.config is not None
        values.setdefault(run.config[SEED], []).append(measure(run, claim["metric"], claim.get("when", "end")))
    if len({len(of_seed) for of_seed in values.values()}) > 1:
        counts = ", ".join(f"{seed}: {len(of_seed)}" for seed, of_seed in sorted(values.items()))
        raise AnalysisError(
            f"seeds have unequal numbers of runs of {in_words(where)} ({counts}): of other settings too?"
        )
    means = {seed: math.fsum(of_seed) / len(of_seed) for seed, of_seed in values.items()}
    if not all(map(math.isfinite, means.values())):
        raise AnalysisError(f"{claim['metric']} was not recorded for {in_words(where)}")
    return means


def measure(run: Run, metric: str, when: str | float) -> float:
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


def matches(run: Run, where: Where) -> bool:
    """Whether a run has the options and settings in `where`."""
    flat = settings(run)
    return all(flat.get(key) == value for key, value in where.items())


def in_words(where: Where) -> str:
    return ", ".join(f"{key}={value}" for key, value in where.items()) or "any run"


def over_seeds(values: Sequence[float]) -> Quantity:
    """Mean and 95 % interval by Student's t."""
    import numpy as np

    from creditlab.analysis.model.intervals import half_width

    n, mean = len(values), float(np.mean(values)) if len(values) else math.nan
    if n < 2:
        return Quantity(mean, seeds=n)
    half = float(half_width(float(np.std(values, ddof=1)), n))
    return Quantity(mean, mean - half, mean + half, n)
