"""How raters score the items of a test set, from what each run left of every sample.

    loss        an item is a test sample, its score the loss: how hard it is
    confusion   an item is a pair of classes i ≠ j, its score the share of samples of i that are confused with j

A rater is a level of a factor: its score for a seed is the mean over its runs of that seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np
import pandas as pd

from creditlab.analysis.names import SEED, labels, level_order
from creditlab.records import CONFUSED, Run


def confusion_rates(label: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The share of each class's samples confused with each other class, (classes · (classes − 1),), row by row."""
    classes = 1 + int(label.max())
    valid = predicted < classes  # a class that no test sample has is left out
    pairs = label[valid].astype(int) * classes + predicted[valid]
    counts = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    rates = counts / np.bincount(label, minlength=classes)[:, None].clip(min=1)
    return rates[~np.eye(classes, dtype=bool)]


def class_pairs(label: np.ndarray) -> pd.MultiIndex:
    """The items of `confusion_rates`: a class, and the other that it is confused with."""
    classes = range(1 + int(label.max()))
    return pd.MultiIndex.from_tuples(list(permutations(classes, 2)), names=["class", "taken_for"])


def _by_sample(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Loss, label and, if there is one, predicted class of each test sample. Raises KeyError or ValueError if the
    arrays of a run do not give them.
    """
    loss, label, predicted = arrays["test/loss"], arrays["test/label"], arrays.get("test/predicted")
    if loss.dtype.kind not in "fiu" or loss.ndim != 1 or not len(loss):
        raise ValueError("test/loss is not a list of numbers")
    for name, classes in {"test/label": label, "test/predicted": label if predicted is None else predicted}.items():
        if classes.dtype.kind not in "iu" or classes.shape != loss.shape or classes.min() < 0:
            raise ValueError(f"{name} is not a class for each sample")
    return loss.astype(float), label, predicted


def rate(
    runs: pd.DataFrame, named: Mapping[str, Run], factors: Sequence[str], notes: list[str]
) -> dict[tuple[str, str], pd.DataFrame]:
    """{(score, factor): scores} over `runs` of one data set, each read once; one row per rater and seed, one column
    per item (of confusion: a pair of classes, so that columns have two levels).

    {} if the runs do not have the same test set. `notes` gets what was left out and why.
    """
    diverged = int((runs["status"] != "complete").sum())
    if diverged:
        notes.append(f"left out, diverged: {diverged}")
    runs = runs[runs["status"] == "complete"].sort_values("run")
    sums: dict[tuple[str, str], dict[tuple[str, str], np.ndarray]] = {}
    counts: Counter[tuple[str, str, str, str]] = Counter()
    unread, unbounded = [], []
    first: tuple[str, np.ndarray] | None = None
    words = labels(runs[list(dict.fromkeys([*factors, SEED]))])
    for run, row in zip(runs["run"], words.to_dict("records"), strict=True):
        try:
            arrays = named[run].arrays()
            loss, label, predicted = _by_sample(arrays)
        except (ValueError, KeyError) as error:
            unread.append(f"{run} ({type(error).__name__}: {error})")
            continue
        if not np.isfinite(loss).all():
            unbounded.append(run)
            continue
        first = first or (run, label)
        if not np.array_equal(label, first[1]):
            notes.append(
                f"no concordance: {first[0]} and {run} have different test sets, whose items cannot be matched"
            )
            return {}
        scores = {"loss": loss}
        if predicted is not None and label.max(initial=0) < CONFUSED:
            scores["confusion"] = confusion_rates(label, predicted)
        for score, values in scores.items():
            for factor in factors:
                means = sums.setdefault((score, factor), {})
                rater = (row[factor], row[SEED])
                means[rater] = means[rater] + values if rater in means else values
                counts[score, factor, *rater] += 1
    for runs_out, why in ((unread, "no readable per-sample loss"), (unbounded, "a per-sample loss that is not finite")):
        if runs_out:
            more = f" and {len(runs_out) - 1} more" if runs_out[1:] else ""
            notes.append(f"left out, {why}: {runs_out[0]}{more}")
    return {
        (score, factor): pd.DataFrame(
            [total / counts[score, factor, *rater] for rater, total in means.items()],
            index=pd.MultiIndex.from_tuples(means, names=["rater", SEED]),
            columns=class_pairs(first[1]) if first and score == "confusion" else None,
        ).sort_index(key=lambda level: level.map(level_order))
        for (score, factor), means in sums.items()
    }
