"""Can a run's algorithm (or optimiser) be identified from its metrics?

Each run is identified by a classifier that has seen no run of its seed (*leave one seed out*), or none of its level of
another factor: its optimiser, data set, width, … (*leave one level out*: does the fingerprint carry over?). Two
classifiers, neither with a setting to tune:

    linear    ridge regression of indicators of the levels, the largest wins (Hastie, Tibshirani, Friedman 2009, 4.2)
    nearest   the level of the nearest run

Accuracy is balanced: the mean over levels of the share identified, so chance is 1 / levels. Metrics are standardised by
the training runs of each fold. Four sets of metrics: *encoding*, *behaviour*, *signals*, and as a control *initial*,
the encoding metrics before training. Signals, which teach the network, are not part of the encoding: the angle between
backpropagation's gradient and the true one is 0, and an update has the rank that its optimiser gives it. The other
control is labels shuffled within blocks: their mean accuracy and, from how often they do as well, p. *Single*: the
metric that identifies best by itself, by `nearest`; its p is that of the best among all metrics under shuffled labels,
which pays for having been chosen.

A metric takes part only if it is finite in every complete run, and varies: nothing is imputed, so nothing leaks between
folds, and that a metric exists for one algorithm only gives nothing away.

After Nayebi, Srivastava, Ganguli, Yamins (NeurIPS 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from creditlab.analysis.agreement.classifiers import (
    CLASSIFIERS,
    balanced_accuracy,
    nearest_by_metric,
    recall_weights,
)
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.model.fits import Fits
from creditlab.analysis.model.permutation import blocks, shuffled
from creditlab.analysis.model.questions import question
from creditlab.analysis.names import BEHAVIOUR, SEED, SQUARES, coded, labels, level_order
from creditlab.analysis.table import once, stacked, statistic

TARGETS = ("algorithm", "optimiser")
SIGNALS = "signals/"
DRAWS = 499  # of shuffled labels, fewer where there are many runs
LABELS = 200_000  # that are shuffled, at most, if 99 draws allow
MOST = 2000  # runs: of more, whole seeds are sampled at random
ABOUT = {
    "target": "the factor whose level is identified",
    "held_out": "what the classifier has not seen: one seed, or one level of another factor",
    "metrics": "set of metrics: encoding, behaviour, signals, or initial (encoding before training)",
}
CLASSIFIER = "linear (ridge regression), nearest (level of the nearest run), or single (the best metric alone)"


@statistic(
    "Fingerprint",
    "One row per target, what is held out, set of metrics and classifier.",
    {
        **ABOUT,
        "n_metrics": "metrics in the set",
        "classifier": CLASSIFIER,
        "n_runs": "runs that were classified",
        "n_identified": "of these, runs whose level was identified",
        "accuracy": "balanced accuracy: the mean over levels of the share identified",
        "chance": "1 / levels",
        "shuffled": "mean accuracy under shuffled labels",
        "p": "how often shuffled labels do as well; not adjusted over rows",
        "best_metric": "the single metric that identifies best",
    },
    place=60,
)
def fingerprint(sweep: Sweep) -> tuple[pd.DataFrame, list[str]]:
    """Identify the algorithm and the optimiser, where they vary, of each complete run. The order of rows is nothing."""
    rows, _, notes = _identified(sweep)
    return rows, notes


@question
def identification(fits: Fits) -> pd.DataFrame:
    """Can a level be identified from internal metrics, in runs of a new seed or of another level of another factor?"""
    table = fingerprint(fits).frame
    table = table[(table["metrics"] == "encoding") & table["classifier"].isin(["linear", "single"])]
    named = [question_of(*row) for row in table[["target", "held_out", "classifier"]].itertuples(index=False)]
    return pd.DataFrame(named, columns=["question", "metric"]).assign(p=table["p"].to_numpy(float))


def question_of(target: str, held_out: str, classifier: str) -> tuple[str, str]:
    """The question that an identification belongs to, and its name there."""
    return f"{target}: identified", f"{classifier}, new {held_out}"


@statistic(
    "Fingerprint: confusion",
    "One row per target, what is held out, set of metrics, classifier, fold, true level and level identified.",
    {
        **ABOUT,
        "classifier": CLASSIFIER,
        "fold": "the seed, or the level, that was held out",
        "true": "true level",
        "identified_as": "level identified",
        "n_runs": "runs",
    },
    place=65,
)
def fingerprint_confusion(sweep: Sweep) -> pd.DataFrame:
    """How many runs of a level were identified as which."""
    return _identified(sweep)[1]


@once
def _identified(sweep: Sweep) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """The frames of `fingerprint` and of `fingerprint_confusion`, and the notes."""
    notes: list[str] = []
    keys = [key for key in ("run", *sweep.factors, SEED, *sweep.outcomes[:1]) if key in sweep.runs]
    complete = sweep.complete.sort_values(keys, key=lambda column: column.astype(str), kind="stable", ignore_index=True)
    if diverged := len(sweep.usable) - len(complete):
        notes.append(f"left out, diverged: {diverged}")
    complete = _thinned(complete, notes)
    words = labels(complete[[*sweep.factors, SEED]])
    chosen = set(sweep.outcomes)
    sets = sets_of([m for m in sweep.metrics if m.removesuffix("@init") in chosen])
    used = {name: usable_metrics(complete, metrics) for name, metrics in sets.items()}
    for name, metrics in sets.items():
        if unused := len(metrics) - len(used[name]):
            notes.append(f"{name}: metrics left out, not finite in every run or constant: {unused} of {len(metrics)}")
    rows: list[dict[str, Any]] = []
    confusions: list[pd.DataFrame] = []
    for target in (t for t in TARGETS if t in sweep.factors):
        level, names = coded(words[target])
        if len(names) < 2:
            notes.append(f"{target}: one level among the complete runs, nothing to identify")
            continue
        others = [f for f in sweep.factors if f != target]
        level = level.astype(np.int16)
        draws = int(np.clip(LABELS // len(level), 99, DRAWS))
        random = shuffled(level, blocks(complete, target, others), draws, np.random.default_rng(0))
        for held_out in (SEED, *others):
            question = _question(target, held_out, words, names, np.vstack([level[None], random]), notes)
            if question is None:
                continue
            for name, metrics in used.items():
                if metrics:
                    _identify(question, name, metrics, complete[metrics].to_numpy(dtype=float), rows, confusions)
    table = pd.DataFrame(rows, columns=list(fingerprint.columns))
    return table, stacked(confusions, list(fingerprint_confusion.columns)), list(dict.fromkeys(notes))


@dataclass(frozen=True)
class Fold:
    """The runs to train on and those to identify, of a level seen in training; `name` says what was held out."""

    name: str
    train: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Question:
    """Identify the level of `target` in each run, with one `held_out` left out of training."""

    target: str
    held_out: str
    names: Sequence[str]  # of the levels
    levels: np.ndarray  # (1 + draws, runs): the true levels, then shuffled ones
    folds: list[Fold]
    tested: np.ndarray  # the runs that are identified, fold by fold

    @property
    def about(self) -> dict[str, Any]:
        chance = 1 / len(self.names)
        return {"target": self.target, "held_out": self.held_out, "n_runs": len(self.tested), "chance": chance}


def _question(
    target: str, held_out: str, words: pd.DataFrame, names: Sequence[str], levels: np.ndarray, notes: list[str]
) -> Question | None:
    """None where nothing can be held out, or what is left is of one level."""
    group, level = words[held_out].to_numpy(), levels[0]
    if len(set(group)) < 2:
        notes.append(f"{target}: cannot leave one {held_out} out, there is only {words[held_out].iloc[0]}")
        return None
    folds = _folds(group, level)
    tested = np.concatenate([fold.test for fold in folds]) if folds else np.array([], dtype=int)
    if missed := len(level) - len(tested):
        notes.append(f"{target}, {held_out} held out: not identified, as training has no run like it: {missed}")
    return Question(target, held_out, names, levels, folds, tested) if len(set(level[tested])) > 1 else None


def _identify(
    question: Question,
    name: str,
    metrics: list[str],
    values: np.ndarray,
    rows: list[dict],
    confusions: list[pd.DataFrame],
) -> None:
    """Add a row for each classifier of the set of `metrics` called `name`, and its confusion."""
    scaled = [_standardised(values, fold.train, fold.test) for fold in question.folds]
    names = np.repeat([fold.name for fold in question.folds], [len(fold.test) for fold in question.folds])
    for classifier, identify in CLASSIFIERS.items():
        parts = [
            identify(train, test, question.levels[:, fold.train], len(question.names))
            for (train, test), fold in zip(scaled, question.folds, strict=True)
        ]
        identified = np.hstack(parts)
        row = question.about | {"metrics": name, "n_metrics": len(metrics), "classifier": classifier}
        rows.append(row | _score(question.levels[:, question.tested], identified, len(question.names)))
        confusions.append(_confusion(names, question.names, question.levels[0, question.tested], identified[0], row))
    if question.held_out == SEED and name != "initial":
        rows.append(question.about | {"metrics": name} | _best_single(question, metrics, scaled))


def _folds(group: np.ndarray, level: np.ndarray) -> list[Fold]:
    """One fold per value of `group`."""
    folds = []
    for name in sorted(set(group), key=level_order):
        train = np.flatnonzero(group != name)
        test = np.flatnonzero((group == name) & np.isin(level, level[train]))
        if len(test) and len(set(level[train])) > 1:
            folds.append(Fold(str(name), train, test))
    return folds


def _thinned(runs: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    """Of more than MOST runs those of some seeds, at least two: their accuracy is known to a hundredth as it is."""
    words = labels(runs[[SEED]])[SEED]
    counts = words.value_counts().sort_index()
    if len(runs) <= MOST or len(counts) < 3:
        return runs
    order = np.random.default_rng(0).permutation(len(counts))
    kept = max(2, int((counts.iloc[order].cumsum() <= MOST).sum()))
    chosen = runs[words.isin(counts.index[order[:kept]])].reset_index(drop=True)
    notes.append(f"of {len(runs)} runs those of {kept} seeds out of {len(counts)}, sampled at random: {len(chosen)}")
    return chosen


def _standardised(values: np.ndarray, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(values[train])
    return scaler.transform(values[train]), scaler.transform(values[test])


def usable_metrics(runs: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """Those of `metrics` that are finite in every run, vary, and have values whose squares can be summed."""
    if runs.empty:
        return []
    values = runs[list(metrics)].to_numpy(dtype=float)
    varies = (np.abs(values) < SQUARES[1]).all(axis=0)  # so finite, too
    varies[varies] = np.ptp(values[:, varies], axis=0) > 1e-12 * np.abs(values[:, varies]).max(axis=0, initial=0)
    return [metric for metric, used in zip(metrics, varies, strict=True) if used]


def sets_of(metrics: Sequence[str]) -> dict[str, list[str]]:
    """Encoding, behaviour, learning signals, and encoding before training."""
    final = [m for m in metrics if not m.endswith("@init")]
    encoding = [m for m in final if not m.startswith((*BEHAVIOUR, SIGNALS))]
    return {
        "encoding": encoding,
        "behaviour": [m for m in final if m.startswith(BEHAVIOUR)],
        "signals": [m for m in final if m.startswith(SIGNALS)],
        "initial": [f"{m}@init" for m in encoding if f"{m}@init" in set(metrics)],
    }


def _score(true: np.ndarray, identified: np.ndarray, levels: int) -> dict[str, Any]:
    """Accuracy of the first row, against that of the others, whose labels are shuffled."""
    accuracy = balanced_accuracy(true, identified, recall_weights(true, levels))
    return {
        "n_identified": int((true[0] == identified[0]).sum()),
        "accuracy": float(accuracy[0]),
        "shuffled": float(accuracy[1:].mean()),
        "p": _p(accuracy),
    }


def _p(accuracy: np.ndarray) -> float:
    return float((accuracy >= accuracy[0] - 1e-9).mean())  # the first is the observed one


def _best_single(question: Question, metrics: Sequence[str], scaled: list) -> dict[str, Any]:
    """The metric that identifies best alone (of equals the first), its p that of the maximum over metrics."""
    nearest = [
        fold.train[nearest_by_metric(train, test)] for (train, test), fold in zip(scaled, question.folds, strict=True)
    ]
    index = np.hstack(nearest)
    true = question.levels[:, question.tested]
    weights = recall_weights(true, len(question.names))
    accuracy = np.stack(
        [balanced_accuracy(true, question.levels[:, row], weights) for row in index]
    )  # (metrics, draws)
    best = int(accuracy[:, 0].argmax())
    highest = accuracy.max(axis=0)
    return {
        "n_metrics": 1,
        "classifier": "single",
        "n_identified": int((true[0] == question.levels[0, index[best]]).sum()),
        "accuracy": float(highest[0]),
        "shuffled": float(highest[1:].mean()),
        "p": _p(highest),
        "best_metric": metrics[best],
    }


def _confusion(
    fold: np.ndarray, names: Sequence[str], true: np.ndarray, identified: np.ndarray, about: dict[str, Any]
) -> pd.DataFrame:
    """Rows of `fingerprint_confusion`; `about` has the columns that are the same in all."""
    level = np.asarray(names, dtype=object)
    pairs = pd.DataFrame({"fold": fold, "true": level[true], "identified_as": level[identified]})
    counts = pairs.value_counts(sort=False).sort_index().rename("n_runs").reset_index()
    return counts.assign(**{key: about[key] for key in fingerprint_confusion.columns if key not in counts})
