import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from creditlab.metrics.activations import class_means, class_selectivity, dead_fraction, zero_fraction


def test_dead_and_zero_fractions_by_hand():
    maps = torch.zeros(3, 4, 2)  # samples, units, positions
    maps[0, 0, 0] = 1.0
    maps[2, 1] = torch.tensor([-2.0, 0.1])
    assert dead_fraction(maps, threshold=0.0) == pytest.approx(2 / 4)
    assert dead_fraction(maps, threshold=1.0) == pytest.approx(3 / 4)
    assert zero_fraction(maps, threshold=0.0) == pytest.approx(21 / 24)
    assert zero_fraction(maps, threshold=0.5) == pytest.approx(22 / 24)


def test_selectivity_of_units_that_answer_to_one_class_to_all_and_to_none():
    label = torch.tensor([0, 0, 1, 1, 1, 2])
    one = (label == 1).double()
    both = torch.tensor([1.0, 3.0, 2.0, 2.0, 2.0, 0.0], dtype=torch.float64)  # means 2, 2, 0
    every = torch.ones(6, dtype=torch.float64)
    silent = torch.zeros(6, dtype=torch.float64)
    unit = lambda *columns: torch.stack(columns, 1)  # noqa: E731
    assert class_selectivity(unit(one), label) == pytest.approx(1)
    assert class_selectivity(unit(both), label) == pytest.approx(1 / 2)
    assert class_selectivity(unit(every), label) == pytest.approx(1 / 3)
    assert class_selectivity(unit(one, every, silent), label) == pytest.approx((1 + 1 / 3) / 2)
    assert math.isnan(class_selectivity(unit(silent), label))


def test_class_means_are_plain_means():
    activation = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    label = torch.arange(20) % 4
    expected = torch.stack([activation[label == k].mean(0) for k in range(4)])
    torch.testing.assert_close(class_means(activation, label), expected)


@given(st.integers(0, 1000), st.floats(1e-2, 1e2))
def test_selectivity_is_bounded_and_free_of_scale_and_order(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    activation = torch.rand(30, 5, generator=generator, dtype=torch.float64)
    label = torch.arange(30) % 3
    value = class_selectivity(activation, label)
    order = torch.randperm(30, generator=generator)
    assert 1 / 3 <= value <= 1
    assert class_selectivity(scale * activation[order], label[order]) == pytest.approx(value)
