"""Our number beside a study's, for each of its claims, with an interval and a verdict by a rule that stands beforehand.

    python -m creditlab.analysis.studies.claims rank_collapse multirun/rank_collapse --budget small

The claims are in `claims/<study>.yaml`, the sweeps in DIR/<experiment>-<budget>. A claim names a quantity of one sweep:

    contrast   Σ weight · mean of the metric over the runs of a cell, seed by seed; the mean over seeds and its interval
               by Student's t. Two cells of weight 1 and −1 make a difference, four an interaction.
    slope      the metric's least-squares slope over a numeric key, seed by seed, likewise
    table      a cell of one of the tables of `python -m analysis`, with the interval beside it where there is one

and the range in which it `holds`. *Reproduced*: the whole interval lies in the range. *Not reproduced*: none of it.
*Not comparable*: a part of it does, or it rests on fewer than SEEDS seeds, or a run that the claim needs is missing,
diverged or has not learned. A table's cell needs every run of the data set that it names.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from creditlab.analysis.names import AnalysisError
from creditlab.hints import did_you_mean
from creditlab.records import RecordError

if TYPE_CHECKING:
    import pandas as pd

    from creditlab.records import Run

CLAIMS = Path(__file__).parent
SEEDS = 3  # fewer bear no verdict
NEEDED = ("experiment", "figure", "claim", "theirs", "holds")  # of every claim
KINDS = ("contrast", "slope", "table")
COLUMNS = [
    *("study", "experiment", "figure", "claim", "theirs", "holds"),
    *("ours", "ci_low", "ci_high", "n_seeds", "verdict", "why"),
]
Where = Mapping[str, Any]


@dataclass(frozen=True)
class Quantity:
    """What a sweep says: `problem` tells why it bears no verdict."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    seeds: int = 0
    problem: str = ""


def claims(study: str) -> list[dict[str, Any]]:
    """Raises AnalysisError where there is no such study, or a claim of it lacks a part."""
    path = CLAIMS / f"{study}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in CLAIMS.glob("*.yaml"))
        there = ", ".join(known)
        raise AnalysisError(
            f"there are no claims of a study {study!r}. There are: {there}.{did_you_mean(study, known)}"
        )
    found = yaml.safe_load(path.read_text())
    for number, claim in enumerate(found, 1):
        if sum(kind in claim for kind in KINDS) != 1:
            raise AnalysisError(f"{path.name}: claim {number} must have one of {', '.join(KINDS)}.")
        needed = NEEDED if "table" in claim else (*NEEDED, "metric")
        if missing := [key for key in needed if key not in claim]:
            raise AnalysisError(f"{path.name}: claim {number} has no {missing[0]!r}; it needs {', '.join(needed)}.")
    return found


def within(interval: Mapping[str, float], value: float) -> bool:
    """Whether a value lies in the range {above: …, below: …}, ends excluded."""
    return interval.get("above", -math.inf) < value < interval.get("below", math.inf)


def verdict(quantity: Quantity, holds: Mapping[str, float]) -> tuple[str, str]:
    """The verdict and, where it is none, the reason. An interval lies outside the range if no point of it is inside."""
    if quantity.problem:
        return "not comparable", quantity.problem
    if quantity.seeds < SEEDS:
        return "not comparable", f"{quantity.seeds} seeds, fewer than {SEEDS}"
    if math.isnan(quantity.low) or math.isnan(quantity.high):
        return "not comparable", "there is no interval"
    if within(holds, quantity.low) and within(holds, quantity.high):
        return "reproduced", ""
    if quantity.high <= holds.get("above", -math.inf) or quantity.low >= holds.get("below", math.inf):
        return "not reproduced", ""
    return "not comparable", "the interval reaches over the bound: more seeds, or a longer training"


def measure(run: Run, metric: str, when: str | float) -> float:
    """`metric` of a finished run: at its end, at the last look up to an epoch (`when` is a number; that at
    initialisation is for 0 alone), or `late`, its mean over the second half of the looks.
    """
    if when == "end":
        return run.metrics.get(metric, math.nan)
    lines = [line for line in run.history() if metric in line["metrics"]]
    if not isinstance(when, str):
        early = [line for line in lines if line["epoch"] <= when and bool(line["epoch"]) == bool(when)]
        return early[-1]["metrics"][metric] if early else math.nan
    seen = [line["metrics"][metric] for line in lines]
    late = seen[len(seen) // 2 :]
    return math.fsum(late) / len(late) if late else math.nan


def settings(run: Run) -> dict[str, Any]:
    """The options and settings of a run, by key."""
    from creditlab.records import flatten

    assert run.config is not None
    return flatten(run.config) | run.config["choices"]


def fits(run: Run, where: Where) -> bool:
    """Whether a run has the options and settings in `where`."""
    flat = settings(run)
    return all(flat.get(key) == value for key, value in where.items())


def told(where: Where) -> str:
    return ", ".join(f"{key}={value}" for key, value in where.items()) or "any run"


def needed(claim: Mapping[str, Any]) -> list[Where]:
    """The cells whose runs a claim is about."""
    from creditlab.config import GROUPS

    if "contrast" in claim:
        return [where for _, where in claim["contrast"]]
    if "slope" in claim:
        return [claim["slope"]["where"]]
    return [{key: value for key, value in claim["table"]["row"].items() if key in GROUPS}]


def unfinished(folder: Path, runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Of each run of a sweep that was planned or begun and is not finished, what is known of its settings. `runs` are
    all that have a folder. Raises RecordError.
    """
    from creditlab.records import read_plan

    plan = read_plan(folder) or {"runs": []}
    there = {run.name for run in runs}
    begun = [settings(run) if run.config else {} for run in runs if not run.finished]
    return begun + [entry.get("levels", {}) for entry in plan["runs"] if entry["name"] not in there]


def lacking(claim: Mapping[str, Any], absent: Sequence[Mapping[str, Any]]) -> str:
    """The problem of a claim that may need a run which is not finished."""
    may_be = [
        any(all(known.get(key, value) == value for key, value in where.items()) for where in needed(claim))
        for known in absent
    ]
    return f"runs that it needs were planned and are not finished ({sum(may_be)} at most)" if any(may_be) else ""


def runs_of(runs: Sequence[Run], where: Where) -> list[Run]:
    """The runs of a cell. Raises AnalysisError where there is none, or one diverged."""
    cell = [run for run in runs if fits(run, where)]
    if not cell:
        raise AnalysisError(f"no finished run has {told(where)}")
    if diverged := sum(run.status == "diverged" for run in cell):
        raise AnalysisError(f"{diverged} of {len(cell)} runs of {told(where)} diverged")
    return cell


def by_seed(runs: Sequence[Run], where: Where, claim: Mapping[str, Any]) -> dict[int, float]:
    """The mean of the claim's metric over the runs of a cell, by seed. Raises AnalysisError where the cell is empty,
    seeds have unequal numbers of runs in it, or a run of it diverged or has not learned.
    """
    cell = runs_of(runs, where)
    learned = claim.get("learned", 0.0)
    if below := sum(run.metrics["test/accuracy"] < learned for run in cell):
        raise AnalysisError(f"{below} of {len(cell)} runs of {told(where)} did not reach an accuracy of {learned:.0%}")
    values: dict[int, list[float]] = {}
    for run in cell:
        assert run.config is not None
        values.setdefault(run.config["seed"], []).append(measure(run, claim["metric"], claim.get("when", "end")))
    if len({len(found) for found in values.values()}) > 1:
        counts = ", ".join(f"{seed}: {len(found)}" for seed, found in sorted(values.items()))
        raise AnalysisError(f"seeds have unequal numbers of runs of {told(where)} ({counts}): of other settings too?")
    means = {seed: math.fsum(found) / len(found) for seed, found in values.items()}
    if not all(map(math.isfinite, means.values())):
        raise AnalysisError(f"{claim['metric']} is not there for {told(where)}")
    return means


def over_seeds(values: Sequence[float]) -> Quantity:
    """Mean and 95 % interval by Student's t."""
    import numpy as np
    from scipy import stats

    n, mean = len(values), float(np.mean(values)) if len(values) else math.nan
    if n < 2:
        return Quantity(mean, seeds=n)
    half = stats.t.ppf(0.975, n - 1) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Quantity(mean, mean - half, mean + half, n)


def contrast(runs: Sequence[Run], claim: Mapping[str, Any]) -> Quantity:
    """Of cells [[weight, where], …], over the seeds that all of them have."""
    cells = [(weight, by_seed(runs, where, claim)) for weight, where in claim["contrast"]]
    seeds = set.intersection(*(set(found) for _, found in cells))
    return over_seeds([math.fsum(weight * found[seed] for weight, found in cells) for seed in sorted(seeds)])


def slope(runs: Sequence[Run], claim: Mapping[str, Any]) -> Quantity:
    """Of {over: key, where: …}: the change of the metric a unit of the key."""
    import numpy as np

    over, where = claim["slope"]["over"], claim["slope"]["where"]
    levels = sorted({settings(run).get(over, math.nan) for run in runs if fits(run, where)})
    if len(levels) < 2:
        raise AnalysisError(f"{over} does not vary among the finished runs that the claim needs")
    x = np.array(levels, dtype=float) - np.mean(levels)
    cells = [[float(w), {**where, over: level}] for w, level in zip(x / (x @ x), levels, strict=True)]
    return contrast(runs, {**claim, "contrast": cells})


def from_table(folder: Path, spec: Mapping[str, Any], seeds: int) -> Quantity:
    """Of {table, row: {column: value}, column, low, high}; where several rows fit, the one with the least value."""
    import pandas as pd

    path = folder / "report" / f"{spec['table']}.csv"
    if not path.is_file():
        raise AnalysisError(f"{path} is not there: python -m analysis {folder}")
    table = pd.read_csv(path)
    for column in (*spec["row"], *(spec[key] for key in ("column", "low", "high") if key in spec)):
        if column not in table:
            raise AnalysisError(f"{path.name} has no column {column!r}.{did_you_mean(column, map(str, table))}")
    for column, value in spec["row"].items():
        column_of = table[column].astype(str)
        wanted = str(value)
        table = table[column_of.str.startswith(wanted[:-1]) if wanted.endswith("*") else column_of == wanted]
    table = table.dropna(subset=[spec["column"]])
    if table.empty:
        raise AnalysisError(f"{path.name} has no row {', '.join(f'{k}={v}' for k, v in spec['row'].items())}")
    row = table.loc[table[spec["column"]].idxmin()]
    value, low, high = (float(row[spec[key]]) if key in spec else math.nan for key in ("column", "low", "high"))
    return Quantity(value, low, high, seeds)


def see_that_it_is_of(folder: Path, runs: Sequence[Run]) -> None:
    """Raises AnalysisError where a sweep's report was made of other runs than the finished ones that are there."""
    path = folder / "report" / "analysis.json"
    said = json.loads(path.read_text()) if path.is_file() else {"runs": {}, "where": {}}
    counts = Counter(run.status for run in runs)
    if said["where"] or any(said["runs"].get(status, 0) != counts[status] for status in ("complete", "diverged")):
        raise AnalysisError(f"{path.parent} was not made of the runs that are there: python -m analysis {folder}")


def estimate(folder: Path, runs: Sequence[Run], claim: Mapping[str, Any]) -> Quantity:
    """What the sweep in `folder`, of which `runs` are the finished runs, says to a claim."""
    try:
        if "contrast" in claim:
            return contrast(runs, claim)
        if "slope" in claim:
            return slope(runs, claim)
        (where,) = needed(claim)
        seeds = {run.config["seed"] for run in runs_of(runs, where) if run.config}
        see_that_it_is_of(folder, runs)
        return from_table(folder, claim["table"], len(seeds))
    except AnalysisError as error:
        return Quantity(problem=str(error))


def reproduction(study: str, parent: Path, budget: str) -> pd.DataFrame:
    """A row a claim of `study`, from the sweeps in `parent`/<experiment>-<budget>. Raises AnalysisError where there
    is none, or no such study; RecordError where a plan cannot be read.
    """
    import pandas as pd

    from creditlab.records import read_sweep

    every = claims(study)
    names = {claim.get("sweep", claim["experiment"]) for claim in every}
    sweeps = sorted(path.name for path in parent.glob("*-*") if path.is_dir() and path.name.rpartition("-")[0] in names)
    if not any(name.endswith(f"-{budget}") for name in sweeps):
        others = f"There are: {', '.join(sweeps)}." if sweeps else f"Give the folder of the study: multirun/{study}."
        raise AnalysisError(f"{parent} holds no sweep <experiment>-{budget} of {study}. {others}")
    rows, read, absent = [], dict[Path, "list[Run]"](), dict[Path, list[dict[str, Any]]]()
    for claim in every:
        folder = parent / f"{claim.get('sweep', claim['experiment'])}-{budget}"
        if folder not in read:
            try:
                there = read_sweep(folder)
            except RecordError:
                there = []
            read[folder] = [run for run in there if run.finished and run.config]
            absent[folder] = unfinished(folder, there)
        runs = read[folder]
        found = estimate(folder, runs, claim) if runs else Quantity(problem=f"no finished run in {folder}")
        if not found.problem:
            found = replace(found, problem=lacking(claim, absent[folder]))
        if budget == "smoke" and not found.problem:
            found = replace(found, problem="a smoke run: it shows that all runs, not what comes out")
        judged, why = verdict(found, claim["holds"])
        bounds = ", ".join(f"{name} {bound:g}" for name, bound in claim["holds"].items())
        numbers = (found.value, found.low, found.high, found.seeds)
        theirs = (claim["experiment"], claim["figure"], claim["claim"], claim["theirs"])
        rows.append([study, *theirs, bounds, *numbers, judged, why])
    return pd.DataFrame(rows, columns=COLUMNS)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m creditlab.analysis.studies.claims", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("study", help="whose claims: the name of a file in analysis/studies")
    parser.add_argument("folder", type=Path, help="where the sweeps are: multirun/<study>")
    parser.add_argument("--budget", default="full", help="of the sweeps (default: full)")
    chosen = parser.parse_args(arguments)
    try:
        table = reproduction(chosen.study, chosen.folder, chosen.budget)
        path = chosen.folder / f"reproduction-{chosen.budget}"
        table.to_csv(path.with_suffix(".csv"), index=False)
        path.with_suffix(".md").write_text(markdown(table))
    except (AnalysisError, RecordError) as error:
        print(f"reproduction: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"reproduction: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    print(markdown(table))
    print(f"{path}.csv, .md")
    return 0


def number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3g}"


def markdown(table: pd.DataFrame) -> str:
    """The table for a page."""
    head = "| experiment | figure | claim | study | ours (95 % interval) | holds if | seeds | verdict |\n"
    head += "|---" * 8 + "|\n"
    lines = []
    for row in table.to_dict("records"):
        ours, low, high = (number(row[key]) for key in ("ours", "ci_low", "ci_high"))
        interval = ours if low == "–" else f"{ours} ({low} to {high})"
        judged = f"**{row['verdict']}**" + (f": {row['why']}" if row["why"] else "")
        cells = (*(row[k] for k in ("experiment", "figure", "claim", "theirs")), interval, row["holds"], row["n_seeds"])
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in (*cells, judged)) + " |")
    return head + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
