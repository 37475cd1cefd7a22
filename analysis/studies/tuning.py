"""The best value of a key, such as the learning rate, for each arm of a sweep that gave every arm as many tries.

    python -m creditlab.analysis.studies.tuning multirun/rank_collapse/learning_rates/optimisers-small

Prints a row an arm and, to be pasted into an experiment, the `hydra.sweeper.pairs` that set what was found. The score
is the mean over seeds of the accuracy on the validation set: what is chosen by the test set flatters itself. A best
value at the end of its range is marked, for a better one may lie beyond.
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
    """A row an arm (a combination of all other factors): the value of `key` with the highest `score`, that score, how
    many values were tried, whether the best is the smallest or greatest of them, and the score of the next best. A
    value of which a run diverged has no score, for the mean over the others would flatter it; an arm without any has no
    best (NaN). Raises AnalysisError where arms cannot be compared: the key does not vary, the score is not there, runs
    are not finished, or arms had unequal tries.
    """
    import pandas as pd

    varied = [*sweep.factors, *sweep.aliased, *sweep.nested]
    if key not in varied:
        told = ", ".join(varied) or "nothing"
        raise AnalysisError(f"{key} does not vary in {sweep.folder}. What varies: {told}.{did_you_mean(key, varied)}")
    if score not in sweep.runs:
        part, hint = (
            " Hold out a part of the training samples: dataset.validation=0.1",
            did_you_mean(score, sweep.outcomes),
        )
        raise AnalysisError(f"no run has {score}.{part if score.startswith('validation/') else hint}")
    if undone := sum(n for status, n in sweep.counts.items() if status not in FINISHED) + len(sweep.missing):
        raise AnalysisError(
            f"{undone} runs are not finished, so arms had unequal tries: creditlab-status {sweep.folder}"
        )
    arms = [factor for factor in varied if factor != key]
    runs = sweep.runs[~sweep.runs["run"].isin(sweep.repeats)]
    scored = runs.assign(**{score: runs[score].where(runs["status"] == "complete")})
    rows = []
    for arm, of_arm in scored.groupby(arms, dropna=False, sort=True) if arms else [((), scored)]:
        means = of_arm.groupby(key)[score].agg(lambda found: found.mean(skipna=False))
        ordered = pd.api.types.is_numeric_dtype(means.index)  # names have no ends
        best = means.idxmax() if means.notna().any() else math.nan
        ranked = means.dropna().sort_values(ascending=False)
        edge = ordered and best in (means.index.min(), means.index.max())
        tried, second = len(means), ranked.iloc[1] if len(ranked) > 1 else math.nan
        rows.append([*arm, best, means.max(), tried, edge, second])
    table = pd.DataFrame(rows, columns=[*arms, *COLUMNS])
    if (table["tried"] != table["tried"].iloc[0]).any():
        told = "; ".join(f"{_arm(row, arms)}: {row['tried']}" for row in table.to_dict("records"))
        raise AnalysisError(f"not every arm had as many values of {key} tried, so they do not compare. {told}")
    return table


def pairs(table: pd.DataFrame, key: str) -> str:
    """The rows of a table of `tuning` as lines of `hydra.sweeper.pairs`."""
    arms = [str(column) for column in table if column not in COLUMNS]
    found = [row for row in table.to_dict("records") if row["best"] == row["best"]]
    best = [f"{row['best']:g}" if isinstance(row["best"], int | float) else row["best"] for row in found]
    lines = zip((_arm(row, arms) for row in found), best, strict=True)
    return "\n".join(f"- {{when: {{{arm}}}, set: {{{key}: {value}}}}}" for arm, value in lines)


def _arm(row: dict, arms: Sequence[str]) -> str:
    return ", ".join(f"{arm}: {row[arm]}" for arm in arms if row[arm] == row[arm])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m creditlab.analysis.studies.tuning", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("folders", nargs="+", metavar="DIR", type=Path, help="the folders of the sweep's runs")
    parser.add_argument("--key", default="optimiser.lr", help="what is tuned (default: %(default)s)")
    parser.add_argument("--score", default="validation/accuracy", help="what is to be high (default: %(default)s)")
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
