"""Calibration and confusion against counts by hand and scikit-learn."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, confusion_matrix

from creditlab.metrics.behaviour import calibration, confusion
from tests.metrics.networks import RULES, batch, generator, mlp, rule


def scores(n=500, classes=4, scale=2.0, seed=0):
    return scale * torch.randn(n, classes, generator=generator(seed), dtype=torch.float64)


def labels(n=500, classes=4, seed=1):
    return torch.randint(classes, (n,), generator=generator(seed))


def test_calibration_by_hand():
    """Confidences .9 (right), .8 (wrong) and .6 (right), .6 (wrong) in four bins: (¼, ½] empty, (½, ¾] and (¾, 1]."""
    p = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.6, 0.4]], dtype=torch.float64)
    measured = calibration(p.log(), torch.tensor([0, 0, 0, 1]), bins=4)
    assert measured["error"] == pytest.approx(0.5 * abs(0.5 - 0.85) + 0.5 * abs(0.5 - 0.6))
    assert measured["overconfidence"] == pytest.approx(0.85 / 2 + 0.6 / 2 - 0.5)
    assert measured["brier"] == pytest.approx((2 * 0.01 + 2 * 0.64 + 2 * 0.16 + 2 * 0.36) / 4)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    p = torch.tensor([[0.75, 0.25], [0.7, 0.3]], dtype=torch.float64)
    assert calibration(p.log(), torch.tensor([0, 1]), bins=4)["error"] == pytest.approx(abs(0.5 - 0.725))
    assert calibration(p.log(), torch.tensor([0, 1]), bins=1)["error"] == pytest.approx(abs(0.5 - 0.725))


@given(st.integers(0, 100), st.integers(1, 20), st.floats(0.01, 30))
def test_calibration_against_scikit_learn(seed, bins, scale):
    s, y = scores(scale=scale, seed=seed), labels(seed=seed + 1)
    p, predicted = s.softmax(1).max(1)
    p = p.clamp(max=1.0)
    right = (predicted == y).numpy()
    accuracy, confidence = calibration_curve(right, p.numpy(), n_bins=bins, strategy="uniform")
    where = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], p.numpy())
    share = np.bincount(where, minlength=bins)[np.unique(where)] / len(y)
    measured = calibration(s, y, bins=bins)
    assert measured["error"] == pytest.approx((share * abs(accuracy - confidence)).sum(), abs=1e-12)
    assert measured["brier"] == pytest.approx(brier_score_loss(y, s.softmax(1).numpy(), labels=range(4)), abs=1e-12)
    assert measured["overconfidence"] == pytest.approx(p.mean().item() - right.mean(), abs=1e-12)
    assert abs(measured["overconfidence"]) - 1e-12 <= measured["error"] <= 1


def test_labels_drawn_from_the_probabilities_are_calibrated_and_sharper_scores_overconfident():
    s = scores(20_000)
    y = torch.multinomial(s.softmax(1), 1, generator=generator(5))[:, 0]
    honest, sharp, dull = (calibration(c * s, y, bins=15) for c in (1, 3, 0.3))
    assert honest["error"] < 0.5 * math.sqrt(15 / 20_000)
    assert honest["overconfidence"] == pytest.approx(0, abs=4 * 0.5 / math.sqrt(20_000))
    assert sharp["overconfidence"] > 0.1
    assert dull["overconfidence"] < -0.1
    assert honest["brier"] < min(sharp["brier"], dull["brier"])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_not_finite_have_no_calibration(value):
    s = scores()
    s[3, 1] = value
    assert all(math.isnan(v) for v in calibration(s, labels(), bins=15).values())


@pytest.mark.parametrize("name", RULES)
def test_of_real_rules(name):
    network, (x, y) = mlp(), batch(60)
    with torch.no_grad():
        measured = calibration(rule(name, network).predict(network, x), y, bins=15)
    assert 0 < measured["error"] <= 1
    assert 0 < measured["brier"] <= 2


def test_confusion_against_scikit_learn():
    predicted, y = labels(seed=7), labels(seed=8)
    predicted[predicted == 2] = 0  # never predicted: a column of zeros
    measured = confusion(predicted, y, 5)  # a class that does not occur: a row and a column
    assert measured.tolist() == confusion_matrix(y, predicted, labels=range(5)).tolist()
    assert measured[1, 0] == ((y == 1) & (predicted == 0)).sum()
