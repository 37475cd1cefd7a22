"""The best value of a key, such as the learning rate, for each condition of a sweep, after equal tries.

    python -m creditlab.analysis.studies.tuning multirun/rank_collapse/learning_rates/optimisers-small

Prints one row per condition and, to be pasted into an experiment, the `hydra.sweeper.pairs` that set the best values.
The score is the mean over seeds of the accuracy on the validation set: a value chosen by the test set would look better
than it is. A best value at the end of its range is marked, for a better one may lie beyond.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from creditlab.analysis import load
from creditlab.analysis.names import AnalysisError
from creditlab.hints import did_you_mean
from creditlab.records import FINISHED, RecordError

if TYPE_CHECKING:
    import pandas as pd

    from creditlab.analysis.data.collect import Sweep

COLUMNS = ["best", "score", "tried", "at_the_end", "runner_up"]


def tuning(sweep: Sweep, key: str = "optimiser.lr", score: str = "validation/accuracy") -> pd.DataFrame:
    """One row per condition (a combination of all other factors): the value of `key` with the highest `score`, that
    score, how many values were tried, whether the best is the smallest or greatest of them, the score of the next best.

    A value with which a run diverged has no score, since the mean over the others would flatter it; a condition without
    any score has no best (NaN). Raises AnalysisError where conditions cannot be compared: the key does not vary, no run
    has the score, runs are not finished, or conditions had unequal tries.
    """
    import pandas as pd

    varied = [*sweep.factors, *sweep.aliased, *sweep.nested]
    if key not in varied:
        listed = ", ".join(varied) or "nothing"
        raise AnalysisError(f"{key} does not vary in {sweep.folder}. What varies: {listed}.{did_you_mean(key, varied)}")
    if score not in sweep.runs:
        hint = did_you_mean(score, sweep.outcomes)
        if score.startswith("validation/"):
            hint = " Hold out a part of the training samples: dataset.validation=0.1"
        raise AnalysisError(f"no run has {score}.{hint}")
    if undone := sum(n for status, n in sweep.counts.items() if status not in FINISHED) + len(sweep.missing):
        raise AnalysisError(
            f"{undone} runs are not finished, so conditions had unequal tries: creditlab-status {sweep.folder}"
        )
    conditions = [factor for factor in varied if factor != key]
    runs = sweep.runs[~sweep.runs["run"].isin(sweep.repeats)]
    scored = runs.assign(**{score: runs[score].where(runs["status"] == "complete")})
    rows = []
    groups = scored.groupby(conditions, dropna=False, sort=True) if conditions else [((), scored)]
    for condition, of_condition in groups:
        means = of_condition.groupby(key)[score].agg(lambda scores: scores.mean(skipna=False))
        ordered = pd.api.types.is_numeric_dtype(means.index)  # names have no ends
        best = means.idxmax() if means.notna().any() else math.nan
        ranked = means.dropna().sort_values(ascending=False)
        edge = ordered and best in (means.index.min(), means.index.max())
        tried, second = len(means), ranked.iloc[1] if len(ranked) > 1 else math.nan
        rows.append([*condition, best, means.max(), tried, edge, second])
    table = pd.DataFrame(rows, columns=[*conditions, *COLUMNS])
    if (table["tried"] != table["tried"].iloc[0]).any():
        counts = "; ".join(f"{_condition(row, conditions)}: {row['tried']}" for row in table.to_dict("records"))
        raise AnalysisError(f"not every condition had as many values of {key} tried, so they do not compare. {counts}")
    return table


def pairs(table: pd.DataFrame, key: str) -> str:
    """The rows of a table of `tuning` as lines of `hydra.sweeper.pairs`."""
    conditions = [str(column) for column in table if column not in COLUMNS]
    chosen = [row for row in table.to_dict("records") if row["best"] == row["best"]]
    best = [f"{row['best']:g}" if isinstance(row["best"], int | float) else row["best"] for row in chosen]
    lines = zip((_condition(row, conditions) for row in chosen), best, strict=True)
    return "\n".join(f"- {{when: {{{condition}}}, set: {{{key}: {value}}}}}" for condition, value in lines)


def _condition(row: dict, conditions: Sequence[str]) -> str:
    return ", ".join(f"{condition}: {row[condition]}" for condition in conditions if row[condition] == row[condition])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m creditlab.analysis.studies.tuning", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("folders", nargs="+", metavar="DIR", type=Path, help="the folders of the sweep's runs")
    parser.add_argument("--key", default="optimiser.lr", help="what is tuned (default: %(default)s)")
    parser.add_argument("--score", default="validation/accuracy", help="what should be high (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    try:
        table = tuning(load(*chosen.folders), chosen.key, chosen.score)
    except (AnalysisError, RecordError) as error:
        print(f"tuning: {error}", file=sys.stderr)
        return 2
    print(table.to_string(index=False, float_format="{:.4g}".format))
    print(f"\nhydra.sweeper.pairs:\n{pairs(table, chosen.key)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
