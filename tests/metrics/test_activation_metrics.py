import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from creditlab.metrics.activations import (
    centred,
    class_means,
    class_selectivity,
    dead_fraction,
    hoyer_sparsity,
    morcos_selectivity,
    treves_rolls_sparsity,
    zero_fraction,
)


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


def hot(k, n=16, samples=12):
    """(samples, n): k units at the same size, others silent, another k for each sample."""
    activation = torch.zeros(samples, n)
    for i in range(samples):
        activation[i, torch.randperm(n, generator=torch.Generator().manual_seed(i))[:k]] = 0.5 + i
    return activation


@pytest.mark.parametrize("k", [1, 4, 16])
def test_sparsity_of_k_active_units_of_n(k):
    assert hoyer_sparsity(hot(k)) == pytest.approx((4 - math.sqrt(k)) / 3)
    assert hoyer_sparsity(-hot(k)) == pytest.approx((4 - math.sqrt(k)) / 3)
    assert treves_rolls_sparsity(hot(k))["population"] == pytest.approx((16 - k) / 15)
    assert treves_rolls_sparsity(hot(k).T)["lifetime"] == pytest.approx((16 - k) / 15)


def test_population_and_lifetime_differ():
    """Each sample on one unit, all on the same: the code is sparse, the unit is not."""
    activation = torch.zeros(10, 4)
    activation[:, 2] = 3.0
    assert treves_rolls_sparsity(activation) == pytest.approx({"population": 1, "lifetime": 0})


def test_sparsity_leaves_silent_samples_and_units_out():
    activation = hot(4)
    padded = torch.cat([activation, torch.zeros(5, 16)])
    assert hoyer_sparsity(padded) == pytest.approx(hoyer_sparsity(activation))
    measured = treves_rolls_sparsity(torch.cat([activation.T, torch.zeros(3, 12)]).T)  # units added: n grows
    assert measured["lifetime"] == pytest.approx(treves_rolls_sparsity(activation)["lifetime"])
    assert measured["population"] == pytest.approx((19 - 4) / 18)
    for silent in (torch.zeros(6, 4), torch.zeros(6, 1)):
        assert math.isnan(hoyer_sparsity(silent))
        assert all(math.isnan(v) for v in treves_rolls_sparsity(silent).values())


def test_morcos_index_by_hand():
    label = torch.tensor([0, 0, 1, 1, 2, 2])
    by_class = torch.tensor([[4.0, 1.0, 0.0, -1.0], [1.0, 1.0, 0.0, 0.0], [3.0, 1.0, 0.0, 0.0]])
    units = by_class[label]
    assert morcos_selectivity(units[:, [0]], label) == pytest.approx((4 - 2) / (4 + 2))
    assert morcos_selectivity(units[:, [1]], label) == pytest.approx(0)
    assert morcos_selectivity(units[:, [3]], label) == pytest.approx(1)  # by size
    assert morcos_selectivity(units, label) == pytest.approx((1 / 3 + 0 + 1) / 3)  # without the silent unit
    assert math.isnan(morcos_selectivity(units[:, [2]], label))


def test_selectivity_needs_two_classes():
    for selectivity in (class_selectivity, morcos_selectivity):
        with pytest.raises(ValueError, match="1 class: at least 2"):
            selectivity(torch.rand(5, 3), torch.zeros(5))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_gives_nan(bad):
    activation, label = hot(4), torch.arange(12) % 3
    activation[3, 5] = bad
    values = [
        zero_fraction(activation[:, :, None], threshold=0.0),
        dead_fraction(activation[:, :, None], threshold=0.0),
        hoyer_sparsity(activation),
        *treves_rolls_sparsity(activation).values(),
        class_selectivity(activation, label),
        morcos_selectivity(activation, label),
    ]
    assert all(math.isnan(v) for v in values)


@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_sparsity_and_selectivity_are_bounded_and_free_of_scale_and_order(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    activation = torch.randn(30, 7, generator=generator).relu()
    label = torch.arange(30) % 3
    samples, units = torch.randperm(30, generator=generator), torch.randperm(7, generator=generator)
    other, relabelled = scale * activation[samples][:, units], label[samples]
    measured = {"hoyer": hoyer_sparsity(activation), "morcos": morcos_selectivity(activation, label)}
    measured |= treves_rolls_sparsity(activation)
    again = {"hoyer": hoyer_sparsity(other), "morcos": morcos_selectivity(other, relabelled)}
    again |= treves_rolls_sparsity(other)
    assert all(0 <= v <= 1 for v in measured.values())
    assert again == pytest.approx(measured, rel=1e-5)


def test_centring_is_exact_for_what_does_not_vary_and_far_from_the_origin():
    generator = torch.Generator().manual_seed(0)
    activation = torch.randn(40, 3, generator=generator)
    activation[:, 1] = 0.1
    assert not centred(activation)[:, 1].any()
    far = activation + 1000  # float32: the differences are exact from here on
    expected = far.double() - far.double().mean(0)
    torch.testing.assert_close(centred(far).double(), expected, rtol=0, atol=1e-6)


def test_zeros_of_a_large_map_are_all_counted():
    maps = torch.randn(150, 4, 9, generator=torch.Generator().manual_seed(0)).relu()
    assert zero_fraction(maps, threshold=0.0) == (maps == 0).double().mean().item()
