import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ortho_group

from creditlab.metrics import signals

KEYS = {"centred": False, "normalised": False, "spectrum": "gram"}


def with_spectrum(values, rows, columns):
    u = torch.tensor(ortho_group.rvs(rows, random_state=1))[:, : len(values)]
    v = torch.tensor(ortho_group.rvs(columns, random_state=2))[: len(values)]
    return u @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ v


@pytest.mark.parametrize("metric", [signals.gradient, signals.update])
def test_ranks_of_a_known_spectrum(metric):
    measured = metric(with_spectrum([3.0, 1.0], 6, 9))
    p = [0.75, 0.25]
    assert measured["effective_rank"] == pytest.approx(math.exp(-sum(q * math.log(q) for q in p)))
    assert measured["stable_rank"] == pytest.approx(10 / 9)
    assert measured["participation_ratio"] == pytest.approx(100 / 82)


def test_an_errors_rows_are_samples_or_positions():
    error = torch.zeros(2, 3, 4, dtype=torch.float64)  # batch, units, positions
    error[0, 0] = torch.tensor([1.0, 0, 0, 0])
    error[1, 1] = torch.tensor([1.0, 0, 0, 0])
    error[1, 2] = torch.tensor([0, 0, 1.0, 0])
    assert signals.error(error, rows="samples")["effective_rank"] == pytest.approx(
        math.exp(-sum(q * math.log(q) for q in (1 / (1 + 2**0.5), 2**0.5 / (1 + 2**0.5))))
    )
    assert signals.error(error, rows="positions")["effective_rank"] == pytest.approx(3)


def test_the_output_error_has_at_most_one_direction_less_than_classes():
    """softmax − one-hot sums to zero over classes."""
    delta = torch.randn(50, 10, dtype=torch.float64).softmax(1) - torch.eye(10, dtype=torch.float64).repeat(5, 1)
    assert 1 < signals.error(delta[:, :, None], rows="samples")["effective_rank"] <= 9


def test_directions():
    a, b = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    for metric in (signals.gradient_to_true, signals.error_to_true):
        assert metric(a, b)["cosine"] == pytest.approx(math.sqrt(0.5))
        assert metric(a, b)["angle"] == pytest.approx(45)
    assert signals.update_to_true(-a, b)["angle"] == pytest.approx(45)
    assert math.isnan(signals.gradient_to_true(a, 0 * b)["cosine"])


def test_a_trajectory_on_a_line_in_a_plane_and_in_every_direction():
    line = torch.outer(torch.arange(1.0, 9), torch.randn(50, dtype=torch.float64))
    assert signals.trajectory(line, **KEYS)["effective_rank"] == pytest.approx(1)
    every = torch.eye(8, 50, dtype=torch.float64)
    measured = signals.trajectory(every, **KEYS)
    assert measured == pytest.approx({"effective_rank": 8, "participation_ratio": 8, "length": 8})
    assert signals.trajectory(every, **KEYS | {"centred": True})["effective_rank"] == pytest.approx(7)
    uneven = torch.diag(torch.tensor([1.0, 1.0, 100.0]))
    assert signals.trajectory(uneven, **KEYS)["effective_rank"] < 1.01
    assert signals.trajectory(uneven, **KEYS | {"normalised": True})["effective_rank"] == pytest.approx(3)


def test_the_gram_spectrum_is_the_square_of_the_gradients():
    r = with_spectrum([3.0, 1.0], 5, 20)
    entropy = lambda p: math.exp(-sum(q * math.log(q) for q in p))  # noqa: E731
    assert signals.trajectory(r, **KEYS)["effective_rank"] == pytest.approx(entropy([0.9, 0.1]))
    gradients = signals.trajectory(r, **KEYS | {"spectrum": "gradients"})
    assert gradients["effective_rank"] == pytest.approx(entropy([0.75, 0.25]), rel=1e-6)


def test_too_short_or_not_finite_gives_nan():
    assert math.isnan(signals.trajectory(torch.ones(1, 4), **KEYS)["effective_rank"])
    assert math.isnan(signals.trajectory(torch.full((3, 4), torch.nan), **KEYS)["effective_rank"])
    assert math.isnan(signals.gradient(torch.full((3, 4), torch.nan))["effective_rank"])
    assert signals.gradient(torch.zeros(3, 4))["effective_rank"] == 0


@given(st.integers(0, 500), st.floats(1e-3, 1e3))
def test_laws(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    r = torch.randn(6, 30, generator=generator, dtype=torch.float64)
    q = torch.linalg.qr(torch.randn(30, 30, generator=generator, dtype=torch.float64))[0]
    for metric in (signals.gradient, signals.update, lambda r: signals.trajectory(r, **KEYS)):
        one, other = metric(r), metric(scale * r @ q)
        assert other == pytest.approx(one, rel=1e-6)
        assert 1 <= one["participation_ratio"] <= 6 + 1e-9
        assert 1 <= one["effective_rank"] <= 6 + 1e-9
