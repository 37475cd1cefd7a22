"""The classifiers against plain search and their definitions."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from creditlab.analysis.agreement.classifiers import balanced_accuracy, nearest_by_metric, nearest_run, recall_weights


def test_each_metric_alone_finds_its_nearest_neighbour():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(30, 4)).round(1), rng.normal(size=(9, 4)).round(1)  # with ties
    nearest = nearest_by_metric(train, test)
    for metric in range(4):
        gap = np.abs(test[:, None, metric] - train[None, :, metric])
        reached = np.take_along_axis(gap, nearest[metric][:, None], axis=1)[:, 0]
        assert reached == pytest.approx(gap.min(axis=1), abs=1e-12)


def test_balanced_accuracy_is_the_mean_recall():
    true, identified = np.array([[0, 0, 0, 1]]), np.array([[0, 0, 1, 1]])
    for levels in (2, 3):  # a level that no run has does not count
        assert balanced_accuracy(true, identified, recall_weights(true, levels)) == pytest.approx((2 / 3 + 1) / 2)


def test_the_nearest_run_is_that_of_sklearns_classifier():
    rng = np.random.default_rng(0)
    train, test, labels = rng.normal(size=(30, 4)), rng.normal(size=(9, 4)), rng.integers(3, size=(5, 30))
    for drawn, identified in zip(labels, nearest_run(train, test, labels, 3), strict=True):
        assert (identified == KNeighborsClassifier(1).fit(train, drawn).predict(test)).all()
