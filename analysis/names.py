"""What all rooms of the analysis share: the names of special columns and terms, levels in words, the order of names.

This is the ground floor of the analysis: it imports no other room.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

SEED = "seed"
OUTCOME = "test/accuracy"
# How names of metrics of what is learned begin, ours and those of tables from elsewhere; all others are of encoding.
BEHAVIOUR = (
    *("test/", "validation/", "train/", "val/", "eval/", "test_", "validation_", "train_", "val_", "eval_"),
    *("acc", "loss", "error", "score", "reward", "return", "f1", "auc", "perplexity"),
)
LEVEL = 0.95  # of every confidence interval
SQUARES = 1e-140, 1e140  # the sizes of values whose squares can be summed
ALPHA = 0.05  # a p below this counts as shown


class AnalysisError(ValueError):
    """The data cannot bear what was asked; the message is meant for the user."""


def outcome_of(metrics: Sequence[str]) -> str | None:
    """Of `metrics`, the one that says how well a run learned: test accuracy, else an accuracy, else the first of
    behaviour, if any."""
    behaviour = [metric for metric in metrics if metric.startswith(BEHAVIOUR)]
    accuracies = [metric for metric in behaviour if "acc" in metric.lower()]
    return OUTCOME if OUTCOME in metrics else next(iter([*accuracies, *behaviour]), None)


def lower_is_better(metric: str) -> bool:
    """Whether less of `metric` is better: a loss, an error, a perplexity."""
    return any(word in metric for word in ("loss", "error", "perplexity"))


def family(metric: str) -> str:
    """The family of a metric: *behaviour* (test, validation, train), or what stands before the first slash of its name
    (weights, changes, activations, signals, …)."""
    return "behaviour" if metric.startswith(BEHAVIOUR) else metric.partition("/")[0]


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """A sort key that puts block2 before block10."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name))


def metric_order(name: str) -> tuple:
    """A sort key: behaviour before encoding, then by name."""
    return not name.startswith(BEHAVIOUR), natural(name)


def level_order(level: str) -> tuple:
    """A sort key for levels in words: numbers by their value, then names in their natural order."""
    try:
        return 0, float(level), ()
    except ValueError:
        return 1, 0.0, natural(level)


def coded(words: pd.Series) -> tuple[np.ndarray, list[str]]:
    """The number of each word among the distinct ones, (rows,), and these in the order of `level_order`."""
    import numpy as np

    levels = sorted(set(words), key=level_order)
    number = {level: i for i, level in enumerate(levels)}
    return np.array([number[word] for word in words], dtype=np.intp), levels


def labels(settings: pd.DataFrame) -> pd.DataFrame:
    """Levels as words, column by column. A key that an option does not have gets the level `absent`."""
    import numpy as np
    import pandas as pd

    def words(column: pd.Series) -> pd.Series:
        # Only a column of one type can be named level by level: as objects 1, 1.0 and True are one level.
        one_type = column.dtype != object
        codes, levels = pd.factorize(column, use_na_sentinel=False) if one_type else (slice(None), column)
        named = np.array(["absent" if pd.isna(level) else str(level) for level in levels.astype(object)], dtype=object)
        return pd.Series(named[codes], column.index, dtype=object)

    return pd.DataFrame({name: words(settings[name]) for name in settings}, index=settings.index)


def some(items: Sequence[str], shown: int = 8) -> str:
    """A list in words: the first `shown` items, and how many more."""
    return ", ".join(items[:shown]) + (f" and {len(items) - shown} more" if len(items) > shown else "")


def many(n: int, noun: str) -> str:
    """A number and its noun, in the plural where it needs it."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
