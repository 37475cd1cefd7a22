"""What a rater scores, from the samples of a run."""

from __future__ import annotations

import numpy as np
import pytest

from creditlab.analysis.data.ratings import confusion_rates


def test_confusion_is_the_share_of_a_class_taken_for_another():
    label, predicted = np.array([0, 0, 0, 0, 1, 1, 2]), np.array([0, 1, 1, 2, 1, 0, 2])
    assert confusion_rates(label, predicted) == pytest.approx([0.5, 0.25, 0.5, 0, 0, 0])
    assert confusion_rates(label, np.full(7, 9)) == pytest.approx(np.zeros(6))
