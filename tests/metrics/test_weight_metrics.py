import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ortho_group

from creditlab import seeding
from creditlab.metrics.weights import effective_rank, neuron_angle, relative_change, stable_rank


def matrix(seed, rows=6, columns=9):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spectrum(weight):
    return torch.linalg.svdvals(weight)


def test_known_spectra():
    assert stable_rank(torch.tensor([3.0, 0.0])) == pytest.approx(1)
    assert stable_rank(torch.ones(5)) == pytest.approx(5)
    assert stable_rank(torch.tensor([2.0, 1.0, 1.0])) == pytest.approx(6 / 4)
    assert effective_rank(torch.ones(5)) == pytest.approx(5)
    p = torch.tensor([0.5, 0.25, 0.25])
    assert effective_rank(4 * p) == pytest.approx(2**1.5)  # entropy 1.5 bits


def test_angle_against_a_plain_double_loop():
    weight = matrix(0)
    angles = [
        math.degrees(math.acos(float(a @ b / (a.norm() * b.norm())))) for i, a in enumerate(weight) for b in weight[:i]
    ]
    assert neuron_angle(weight) == pytest.approx(sum(angles) / len(angles), abs=1e-10)


def test_angle_of_known_frames():
    assert neuron_angle(torch.eye(4)) == pytest.approx(90)
    simplex = torch.eye(4) - 0.25  # four directions, cosines −1/3
    assert neuron_angle(simplex) == pytest.approx(math.degrees(math.acos(-1 / 3)), abs=1e-3)
    assert neuron_angle(torch.ones(3, 2)) == pytest.approx(0, abs=0.05)


def test_rows_of_zeros_have_no_direction():
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    assert neuron_angle(weight) == pytest.approx(90)
    assert math.isnan(neuron_angle(torch.zeros(3, 2)))


@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_scale_and_order_of_units_do_not_matter(seed, scale):
    weight = matrix(seed)
    other = scale * weight[torch.randperm(len(weight), generator=torch.Generator().manual_seed(seed))]
    assert neuron_angle(other) == pytest.approx(neuron_angle(weight), abs=1e-6)
    assert stable_rank(spectrum(other)) == pytest.approx(stable_rank(spectrum(weight)))
    assert effective_rank(spectrum(other)) == pytest.approx(effective_rank(spectrum(weight)))


@given(st.integers(0, 1000))
def test_rotating_the_inputs_does_not_matter(seed):
    weight = matrix(seed)
    rotated = weight @ torch.tensor(ortho_group.rvs(weight.shape[1], random_state=seed))
    assert neuron_angle(rotated) == pytest.approx(neuron_angle(weight), abs=1e-6)
    assert stable_rank(spectrum(rotated)) == pytest.approx(stable_rank(spectrum(weight)))


def test_null_values_of_the_default_initialisation():
    """PyTorch's default for 784 → 256: stable rank 105.0 ± 1.5; pairs at 90° ± 2.05°, so their mean at 90° ± 0.1°."""
    bound = 784**-0.5
    weight = torch.empty(256, 784).uniform_(-bound, bound, generator=seeding.generator(0, "init"))
    assert stable_rank(spectrum(weight)) == pytest.approx(105.0, abs=4.5)
    assert neuron_angle(weight) == pytest.approx(90, abs=0.1)


def test_relative_change():
    start = matrix(1)
    assert relative_change(start, start) == 0
    assert relative_change(3 * start, start) == pytest.approx(2)
    assert relative_change(start, torch.zeros_like(start)) == math.inf
