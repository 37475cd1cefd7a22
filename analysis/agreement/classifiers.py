"""Classifiers without a setting to tune, and their accuracy under shuffled labels. They take all shuffles at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Identify = Callable[[np.ndarray, np.ndarray, np.ndarray, int], np.ndarray]


def linear(train: np.ndarray, test: np.ndarray, labels: np.ndarray, levels: int) -> np.ndarray:
    """Levels (draws, m) of the rows of `test` (m, metrics), from the `labels` (draws, n) of `train` (n, metrics).

    Ridge is linear in what it fits, so one factorisation serves all draws.
    """
    from sklearn.linear_model import Ridge

    indicators = (labels.T[:, :, None] == np.arange(levels)).reshape(len(train), -1).astype(train.dtype)
    predicted = Ridge(alpha=1.0).fit(train, indicators).predict(test)
    return predicted.reshape(len(test), len(labels), levels).argmax(axis=2).T


def nearest_run(train: np.ndarray, test: np.ndarray, labels: np.ndarray, levels: int) -> np.ndarray:
    """The same by the nearest row of `train`."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(train).kneighbors(test, return_distance=False)
    return labels[:, index[:, 0]]


CLASSIFIERS: dict[str, Identify] = {"linear": linear, "nearest": nearest_run}


def nearest_by_metric(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """For each metric alone the row of `train` (n, metrics) nearest to each of `test` (m, metrics): (metrics, m)."""
    order = np.argsort(train, axis=0, kind="stable")
    row = np.empty(test.T.shape, dtype=np.int64)
    for metric, (ranks, values) in enumerate(zip(order.T, test.T, strict=True)):
        line = train[ranks, metric]
        above = np.searchsorted(line, values).clip(max=len(line) - 1)
        below = (above - 1).clip(min=0)
        closer = np.abs(values - line[below]) <= np.abs(line[above] - values)
        below = np.searchsorted(line, line[below])  # of equals the first, whichever side they are found from
        row[metric] = ranks[np.where(closer, below, above)]
    return row


def recall_weights(true: np.ndarray, levels: int) -> np.ndarray:
    """What each run counts for in `balanced_accuracy`, (draws, runs): the levels' equal shares, split among runs."""
    counts = np.stack([(true == level).sum(axis=1) for level in range(levels)], axis=1)
    share = 1 / (counts.clip(min=1) * (counts > 0).sum(axis=1, keepdims=True))
    return np.take_along_axis(share, true.astype(np.intp), axis=1)


def balanced_accuracy(true: np.ndarray, identified: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean over levels of the share identified, in [0, 1], (draws,); all three are (draws, runs)."""
    return np.where(true == identified, weights, 0).sum(axis=1).round(12)  # all of them is 1, not 0.999…
