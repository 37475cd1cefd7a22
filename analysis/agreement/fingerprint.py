"""Can a run's algorithm (or optimiser) be told from its metrics?

Each run is identified by a classifier that has seen no run of its seed (*leave one seed out*), or none of its level of
another factor: its optimiser, data set, width, … (*leave one level out*: does the fingerprint carry over?). Two
classifiers, neither with a setting to tune:

    linear    ridge regression of indicators of the levels, the largest wins (Hastie, Tibshirani, Friedman 2009, 4.2)
    nearest   the level of the nearest run

Accuracy is balanced: the mean over levels of the share identified, so chance is 1 / levels. Metrics are standardised by
the training runs of each fold. Four sets of metrics: *encoding*, *behaviour*, *signals*, and as a control *initial*,
the encoding metrics before training. Signals, what the network is taught by, are none of the encoding: the angle
between backpropagation's gradient and the true one is 0, and an update's rank is its optimiser's. The other control is
labels shuffled within blocks: their mean accuracy and, from how often they do as well, p. *Single*: the metric that
identifies best alone, by `nearest`; its p is that of the best among all metrics under shuffled labels, so having been
chosen is paid for.

A metric takes part only if it is finite in every complete run, and varies: nothing is imputed, so nothing leaks between
folds, and that a metric exists for one algorithm only gives nothing away.

After Nayebi, Srivastava, Ganguli, Yamins (NeurIPS 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from creditlab.analysis.model.permutation import blocks, shuffled
from creditlab.analysis.names import BEHAVIOUR, SEED, labels

TARGETS = ("algorithm", "optimiser")
SIGNALS = "signals/"
COLUMNS = [
    *["target", "held_out", "metrics", "n_metrics", "classifier", "n_runs", "n_identified", "accuracy", "chance"],
    *["shuffled", "p", "best_metric"],
]
CONFUSION = ["target", "held_out", "metrics", "classifier", "fold", "true", "identified_as", "n_runs"]
DRAWS = 499  # of shuffled labels, fewer where there are many runs
LABELS = 200_000  # that are shuffled, at most, if 99 draws allow
MOST = 2000  # runs: of more, whole seeds are drawn

Identify = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Fingerprint:
    table: pd.DataFrame  # COLUMNS; a row a target, split, set of metrics and classifier
    confusion: pd.DataFrame  # CONFUSION; how many runs of a level were identified as which, by fold
    notes: list[str]


def linear(train: np.ndarray, test: np.ndarray, known: np.ndarray, levels: int) -> np.ndarray:
    """Levels of the rows of `test` (m, metrics) from those `known` (draws, n) of `train` (n, metrics): (draws, m).

    Ridge is linear in what it fits, so one factorisation serves all draws.
    """
    from sklearn.linear_model import Ridge

    indicators = (known.T[:, :, None] == np.arange(levels)).reshape(len(train), -1).astype(train.dtype)
    predicted = Ridge(alpha=1.0).fit(train, indicators).predict(test)
    return predicted.reshape(len(test), len(known), levels).argmax(axis=2).T


def nearest(train: np.ndarray, test: np.ndarray, known: np.ndarray, levels: int) -> np.ndarray:
    """The same by the nearest row of `train`."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(train).kneighbors(test, return_distance=False)
    return known[:, index[:, 0]]


CLASSIFIERS: dict[str, Identify] = {"linear": linear, "nearest": nearest}


def nearest_by_metric(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """For each metric alone the row of `train` (n, metrics) nearest to each of `test` (m, metrics): (metrics, m)."""
    order = np.argsort(train, axis=0, kind="stable")
    found = np.empty(test.T.shape, dtype=np.int64)
    for metric, (ranks, values) in enumerate(zip(order.T, test.T, strict=True)):
        line = train[ranks, metric]
        above = np.searchsorted(line, values).clip(max=len(line) - 1)
        below = (above - 1).clip(min=0)
        closer = np.abs(values - line[below]) <= np.abs(line[above] - values)
        below = np.searchsorted(line, line[below])  # of equals the first, whichever side they are found from
        found[metric] = ranks[np.where(closer, below, above)]
    return found


def recall_weights(true: np.ndarray, levels: int) -> np.ndarray:
    """What each run counts for in `balanced_accuracy`, (draws, runs): the levels' equal shares, split among runs."""
    counts = np.stack([(true == level).sum(axis=1) for level in range(levels)], axis=1)
    share = 1 / (counts.clip(min=1) * (counts > 0).sum(axis=1, keepdims=True))
    return np.take_along_axis(share, true.astype(np.intp), axis=1)


def balanced_accuracy(true: np.ndarray, found: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean over levels of the share identified, in [0, 1], (draws,); all three are (draws, runs)."""
    return np.where(true == found, weights, 0).sum(axis=1).round(12)  # all of them is 1, not 0.999…


def _folds(group: np.ndarray, level: np.ndarray) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """By value of `group`: its name, the runs to train on, and those to identify: of a level seen in training."""
    folds = []
    for name in sorted(set(group)):
        train = np.flatnonzero(group != name)
        test = np.flatnonzero((group == name) & np.isin(level, level[train]))
        if len(test) and len(set(level[train])) > 1:
            folds.append((str(name), train, test))
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
    notes.append(f"of {len(runs)} runs those of {kept} seeds out of {len(counts)}, drawn by lot: {len(chosen)}")
    return chosen


def _standardised(values: np.ndarray, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(values[train])
    return scaler.transform(values[train]), scaler.transform(values[test])


def usable_metrics(runs: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """Those of `metrics` that are finite in every run, and vary."""
    if runs.empty:
        return []
    values = runs[list(metrics)].to_numpy(dtype=float)
    varies = np.isfinite(values).all(axis=0)
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


def fingerprint(runs: pd.DataFrame, factors: Sequence[str], metrics: Sequence[str]) -> Fingerprint:
    """Identify the algorithm and the optimiser, where they vary, of each complete run among `runs`: a row a run,
    with run, status, seed, `factors` and `metrics` (those at initialisation among them). The order of rows is nothing.
    """
    notes: list[str] = []
    complete = runs[runs["status"] == "complete"].sort_values("run", ignore_index=True)
    if len(complete) < len(runs):
        notes.append(f"left out, diverged: {len(runs) - len(complete)}")
    complete = _thinned(complete, notes)
    words = labels(complete[[*factors, SEED]])
    sets = {name: (usable_metrics(complete, of), len(of)) for name, of in sets_of(metrics).items()}
    for name, (used, there) in sets.items():
        if len(used) < there:
            notes.append(
                f"{name}: metrics left out, not finite in every run or constant: {there - len(used)} of {there}"
            )
    rows: list[dict[str, Any]] = []
    confusions: list[pd.DataFrame] = []
    for target in (t for t in TARGETS if t in factors):
        level, names = pd.factorize(words[target], sort=True)
        if len(names) < 2:
            notes.append(f"{target}: one level among the complete runs, nothing to tell apart")
            continue
        others = [f for f in factors if f != target]
        block = blocks(complete, target, others)
        level = level.astype(np.int16)
        draws = int(np.clip(LABELS // len(level), 99, DRAWS))
        known = np.vstack([level[None], shuffled(level, block, draws, np.random.default_rng(0))])
        for held_out in (SEED, *others):
            group = words[held_out].to_numpy()
            folds = _folds(group, level)
            if len(set(group)) < 2:
                notes.append(f"{target}: cannot leave one {held_out} out, there is only {words[held_out].iloc[0]}")
                continue
            tested = np.concatenate([test for *_, test in folds]) if folds else np.array([], dtype=int)
            if missed := len(complete) - len(tested):
                notes.append(f"{target}, {held_out} held out: not identified, as training has no run like it: {missed}")
            if len(set(level[tested])) < 2:
                continue
            about = {"target": target, "held_out": held_out, "n_runs": len(tested), "chance": 1 / len(names)}
            for name, (used, _) in sets.items():
                if not used:
                    continue
                values = complete[used].to_numpy(dtype=float)
                scaled = [_standardised(values, train, test) for _, train, test in folds]
                for classifier, identify in CLASSIFIERS.items():
                    found = np.hstack(
                        [
                            identify(a, b, known[:, train], len(names))
                            for (a, b), (_, train, _) in zip(scaled, folds, strict=True)
                        ]
                    )
                    row = about | {"metrics": name, "n_metrics": len(used), "classifier": classifier}
                    rows.append(row | _score(known[:, tested], found, len(names)))
                    fold = np.repeat([name for name, *_ in folds], [len(test) for *_, test in folds])
                    confusions.append(_confusion(fold, names, level[tested], found[0], row))
                if held_out == SEED and name != "initial":
                    rows.append(
                        about | {"metrics": name} | _best_single(used, scaled, folds, known, tested, len(names))
                    )
    table = pd.DataFrame(rows, columns=COLUMNS)
    confusion = pd.concat(confusions, ignore_index=True)[CONFUSION] if confusions else pd.DataFrame(columns=CONFUSION)
    return Fingerprint(table, confusion, list(dict.fromkeys(notes)))


def _score(true: np.ndarray, found: np.ndarray, levels: int) -> dict[str, Any]:
    """Accuracy of the first row, against that of the others, whose labels are shuffled."""
    accuracy = balanced_accuracy(true, found, recall_weights(true, levels))
    return {
        "n_identified": int((true[0] == found[0]).sum()),
        "accuracy": float(accuracy[0]),
        "shuffled": float(accuracy[1:].mean()),
        "p": _p(accuracy),
    }


def _p(accuracy: np.ndarray) -> float:
    return float((accuracy >= accuracy[0] - 1e-9).mean())  # the first is the observed one


def _best_single(
    metrics: Sequence[str], scaled: list, folds: list, known: np.ndarray, tested: np.ndarray, levels: int
) -> dict[str, Any]:
    """The metric that identifies best alone (of equals the first), its p that of the maximum over metrics."""
    index = np.hstack([train[nearest_by_metric(a, b)] for (a, b), (_, train, _) in zip(scaled, folds, strict=True)])
    true = known[:, tested]
    weights = recall_weights(true, levels)
    accuracy = np.stack([balanced_accuracy(true, known[:, row], weights) for row in index])  # (metrics, draws)
    best = int(accuracy[:, 0].argmax())
    highest = accuracy.max(axis=0)
    return {
        "n_metrics": 1,
        "classifier": "single",
        "n_identified": int((true[0] == known[0, index[best]]).sum()),
        "accuracy": float(highest[0]),
        "shuffled": float(highest[1:].mean()),
        "p": _p(highest),
        "best_metric": metrics[best],
    }


def _confusion(
    fold: np.ndarray, names: pd.Index, true: np.ndarray, found: np.ndarray, about: dict[str, Any]
) -> pd.DataFrame:
    """Rows of CONFUSION; `about` tells the columns that are the same in all."""
    level = np.asarray(names, dtype=object)
    each = pd.DataFrame({"fold": fold, "true": level[true], "identified_as": level[found]})
    counts = each.value_counts(sort=False).sort_index().rename("n_runs").reset_index()
    return counts.assign(**{key: about[key] for key in CONFUSION if key not in counts})
