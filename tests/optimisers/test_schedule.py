import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from creditlab.optimisers.schedule import factor, set_lr

SHAPES = ["constant", "cosine", "linear"]


def test_shapes_without_warmup():
    assert [factor(i, 4, "constant", 0) for i in range(4)] == [1, 1, 1, 1]
    assert [factor(i, 4, "linear", 0) for i in range(4)] == [1, 0.75, 0.5, 0.25]
    root = math.sqrt(0.5)
    assert [factor(i, 4, "cosine", 0) for i in range(4)] == pytest.approx([1, (1 + root) / 2, 0.5, (1 - root) / 2])


def test_warmup_rises_linearly_to_one_at_its_end():
    assert [factor(i, 7, "linear", 3) for i in range(7)] == pytest.approx([0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25])
    assert [factor(i, 5, "constant", 1) for i in range(5)] == [0.5, 1, 1, 1, 1]


@given(st.integers(1, 500), st.data())
def test_it_rises_then_falls_and_stays_positive(total, data):
    warmup = data.draw(st.integers(0, total))
    for shape in SHAPES:
        values = [factor(i, total, shape, warmup) for i in range(total)]
        assert all(0 < v <= 1 for v in values)
        assert all(a < b for a, b in pairwise(values[: warmup + 1]))
        assert all(a >= b for a, b in pairwise(values[warmup:]))
        assert warmup == total or values[warmup] == 1


def test_a_warmup_longer_than_training_is_refused():
    with pytest.raises(ValueError, match=r"warmup=11: must not exceed the 10 steps"):
        factor(0, 10, "constant", 11)


def test_set_lr_scales_what_each_group_was_built_with():
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.5}], lr=0.1)
    for share in (0.5, 0.1, 1.0):
        set_lr(optimiser, share)
        assert [g["lr"] for g in optimiser.param_groups] == [0.1 * share, 0.5 * share]
