import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group
from torch import nn

from creditlab import seeding, spectral
from creditlab.architectures.initialise import initialise
from creditlab.metrics.weights import (
    direction_stable_rank,
    effective_rank,
    feedback_alignment,
    filter_angle,
    frobenius_norm,
    kurtosis,
    neuron_angle,
    neuron_angle_null_spread,
    neuron_angle_pairs,
    neuron_angle_spread,
    participation_ratio,
    relative_change,
    row_norm_inequality,
    spectral_entropy,
    spectral_norm,
    stable_rank,
    tail,
    weight_hoyer,
)

OF_SPECTRUM = (stable_rank, effective_rank, participation_ratio, spectral_norm, frobenius_norm, spectral_entropy)
OF_WEIGHT = (
    *(direction_stable_rank, neuron_angle, neuron_angle_spread),
    *(row_norm_inequality, kurtosis, weight_hoyer),
)


def matrix(seed, rows=6, columns=9):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_spectrum(s, rows, columns, seed=0):
    """A matrix of the singular values `s` between orthogonal factors."""
    u, v = (ortho_group.rvs(n, random_state=seed + n)[:, : len(s)] for n in (rows, columns))
    return torch.tensor((u * np.asarray(s)) @ v.T)


def everything(weight):
    """All that is asked of a weight alone, by metric; the tail's parts apart."""
    s = spectral.singular_values(weight)
    return {f.__name__: f(s) for f in OF_SPECTRUM} | {f.__name__: f(weight) for f in OF_WEIGHT} | tail(s)


# --- the spectrum


def test_ranks_norms_and_entropy_of_known_spectra():
    s = spectral.singular_values(with_spectrum([4, 2, 1, 1], 6, 9))
    assert stable_rank(s) == pytest.approx(22 / 16)
    assert effective_rank(s) == pytest.approx(2 ** (0.5 * 1 + 0.25 * 2 + 2 * 0.125 * 3), rel=1e-6)  # in bits
    assert participation_ratio(s) == pytest.approx(22**2 / (256 + 16 + 1 + 1))
    assert spectral_norm(s) == pytest.approx(4)
    assert frobenius_norm(s) == pytest.approx(math.sqrt(22))
    assert spectral_entropy(s) == pytest.approx(scipy.stats.entropy([16, 4, 1, 1]) / math.log(6))


def test_the_extremes_of_a_spectrum():
    flat, single = spectral.singular_values(3 * torch.eye(5)), spectral.singular_values(torch.ones(5, 7))
    for rank in (stable_rank, effective_rank, participation_ratio):
        assert rank(flat) == pytest.approx(5)
        assert rank(single) == pytest.approx(1, abs=1e-5)  # what is left of the others is rounding
    assert spectral_entropy(flat) == pytest.approx(1)
    assert spectral_entropy(single) == pytest.approx(0, abs=1e-9)
    assert frobenius_norm(single) == pytest.approx(math.sqrt(35))


def test_a_low_stable_rank_of_orthogonal_rows_is_row_norm_inequality():
    lengths = torch.tensor([10.0, 1, 1, 1, 1, 1])
    weight = lengths[:, None] * torch.eye(6)
    assert stable_rank(spectral.singular_values(weight)) == pytest.approx(1.05)
    assert direction_stable_rank(weight) == pytest.approx(6)
    assert row_norm_inequality(weight) == pytest.approx(0.5)  # Σᵢⱼ|xᵢ − xⱼ| = 10 · 9, over 2 · 6 · 15


@given(st.integers(0, 1000), st.floats(0, 5))
@settings(deadline=None)
def test_stable_rank_is_bounded_by_the_mean_cosine_that_the_row_norms_weigh(seed, common):
    """Σᵢⱼ pᵢ pⱼ cosᵢⱼ ≤ 1/stable rank with p = ‖wᵢ‖²/Σ‖w‖², and with equal p once the rows are normalised."""
    weight = matrix(seed) * torch.logspace(-1, 1, 6, dtype=torch.float64)[:, None] + common * matrix(seed + 1)[:1]
    norms = weight.norm(dim=1)
    cosines = (weight @ weight.T) / norms / norms[:, None]
    p = norms**2 / (norms**2).sum()
    assert 1 / stable_rank(torch.linalg.svdvals(weight)) >= (p @ cosines @ p).item() - 1e-9
    assert 1 / direction_stable_rank(weight) >= cosines.mean().item() - 1e-6


def clauset(eigenvalues):
    """The definition by a plain loop, with scipy's Pareto distribution (whose shape is α − 1)."""
    best = (math.inf, math.nan)
    x = np.sort(eigenvalues)
    for i in range(len(x) - 1):
        above = x[i:]
        shape = scipy.stats.pareto.fit(above, floc=0, fscale=x[i])[0]
        gap = np.abs(scipy.stats.pareto.cdf(above, shape, scale=x[i]) - np.arange(len(above)) / len(above))
        best = min(best, (gap.max(), shape + 1))
    return best


@pytest.mark.parametrize("weight", [matrix(0, 60, 90), matrix(1, 20, 300), torch.logspace(0, 2, 50).diag()])
def test_tail_is_clausets_by_a_plain_loop(weight):
    s = spectral.singular_values(weight.double())
    measured = tail(s)
    assert (measured["distance"], measured["exponent"]) == pytest.approx(clauset(s.numpy() ** 2), rel=1e-9)


@pytest.mark.parametrize("exponent", [2.0, 3.5, 6.0])
def test_tail_finds_the_exponent_of_a_pareto_spectrum(exponent):
    eigenvalues = scipy.stats.pareto.ppf((np.arange(400) + 0.5) / 400, exponent - 1)
    s = torch.tensor(np.sqrt(eigenvalues)).flip(0)
    assert tail(s)["exponent"] == pytest.approx(exponent, rel=0.03)
    assert tail(s)["distance"] < 0.01
    assert tail(s)["spurious"] == 0
    drawn = scipy.stats.pareto.rvs(exponent - 1, size=400, random_state=0)
    assert tail(torch.tensor(np.sqrt(drawn)).sort(descending=True)[0])["exponent"] == pytest.approx(exponent, rel=0.15)


def test_where_a_tail_is_spurious():
    steep = torch.tensor(np.sqrt(scipy.stats.pareto.ppf((np.arange(400) + 0.5) / 400, 9))).flip(0)
    assert tail(steep)["exponent"] == pytest.approx(10, rel=0.03)
    assert tail(steep)["spurious"] == 1
    few = torch.logspace(2, 0, 49, dtype=torch.float64)
    assert tail(few)["exponent"] < 8
    assert tail(few)["spurious"] == 1
    assert tail(torch.cat([few, few[-1:] / 2]))["spurious"] == 0
    assert tail(torch.cat([few, few[-1:] * 1e-12]))["spurious"] == 1  # rounding does not count as the fiftieth
    for flat in (torch.ones(60), torch.zeros(60), torch.tensor([2.0, 0.0])):
        assert all(math.isnan(v) for v in tail(flat).values())


# --- angles


def test_angle_against_a_plain_double_loop():
    weight = matrix(0)
    angles = [
        math.degrees(math.acos(float(a @ b / (a.norm() * b.norm())))) for i, a in enumerate(weight) for b in weight[:i]
    ]
    assert neuron_angle(weight) == pytest.approx(sum(angles) / len(angles), abs=1e-10)
    assert neuron_angle_spread(weight) == pytest.approx(np.std(angles), abs=1e-10)


def test_angle_of_known_frames():
    assert neuron_angle(torch.eye(4)) == pytest.approx(90)
    assert neuron_angle_spread(torch.eye(4)) == pytest.approx(0)
    simplex = torch.eye(4) - 0.25  # four directions, cosines −1/3
    assert neuron_angle(simplex) == pytest.approx(math.degrees(math.acos(-1 / 3)))
    assert neuron_angle(torch.ones(3, 2)) == pytest.approx(0, abs=1e-5)
    cross = torch.tensor([[1.0, 0], [-2, 0], [0, 3], [0, -1]])  # 4 pairs at 90°, 2 at 180°
    assert neuron_angle(cross) == pytest.approx(120)
    assert neuron_angle_spread(cross) == pytest.approx(math.sqrt(1800))


def test_rows_of_zeros_have_no_direction():
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    assert neuron_angle(weight) == pytest.approx(90)
    assert direction_stable_rank(weight) == pytest.approx(2)
    assert neuron_angle_pairs(weight, torch.tensor([False, True, True]))["dead_share"] == 0
    assert math.isnan(neuron_angle(torch.zeros(3, 2)))
    assert math.isnan(neuron_angle_spread(torch.zeros(3, 2)))
    assert math.isnan(neuron_angle(torch.ones(1, 2)))


@pytest.mark.parametrize("dimension", [1, 2, 3, 9, 784])
def test_the_null_spread_is_that_of_random_directions(dimension):
    def density(t):
        return math.sin(t) ** (dimension - 2)

    expected = neuron_angle_null_spread(torch.empty(5, dimension))
    if dimension > 1:
        total = scipy.integrate.quad(density, 0, math.pi)[0]
        second = scipy.integrate.quad(lambda t: (t - math.pi / 2) ** 2 * density(t), 0, math.pi)[0]
        assert expected == pytest.approx(math.degrees(math.sqrt(second / total)), rel=1e-6)
    drawn = matrix(0, 400, dimension)
    assert neuron_angle_spread(drawn) == pytest.approx(expected, rel=0.02)
    assert dimension < 9 or expected == pytest.approx(57.3 / math.sqrt(dimension), rel=0.06)


def test_pairs_of_living_and_dead_units():
    weight = torch.tensor([[1.0, 0], [0, 1], [1, 1], [-2, -2], [-1, 0]])
    measured = neuron_angle_pairs(weight, torch.tensor([False, False, True, True, True]))
    expected = {"alive_alive": 90, "alive_dead": (45 + 45 + 135 + 135 + 180 + 90) / 6}
    expected |= {"dead_dead": (180 + 135 + 45) / 3, "dead_share": 3 / 10}
    assert measured == pytest.approx(expected, abs=1e-5)
    share = {"alive_alive": 1 / 10, "alive_dead": 6 / 10, "dead_dead": 3 / 10}
    assert sum(share[kind] * measured[kind] for kind in share) == pytest.approx(neuron_angle(weight))
    alive = neuron_angle_pairs(weight, torch.zeros(5, dtype=torch.bool))
    assert alive["alive_alive"] == pytest.approx(neuron_angle(weight))
    assert math.isnan(alive["dead_dead"])
    assert alive["dead_share"] == 0


def test_the_mean_angle_of_a_layer_of_dead_units_is_that_of_dead_pairs():
    """The first study's forward-forward: 248 of 256 units dead, so 93.8 % of the pairs are of two dead units."""
    dead = torch.arange(256) < 248
    weight = matrix(0, 256, 784) + 2 * dead[:, None]  # the dead ones share a direction
    measured = neuron_angle_pairs(weight, dead)
    assert measured["dead_share"] == pytest.approx(0.938, abs=5e-4)
    assert measured["alive_alive"] == pytest.approx(90, abs=1.5)
    assert measured["dead_dead"] == pytest.approx(math.degrees(math.acos(4 / 5)), abs=0.5)
    assert neuron_angle(weight) == pytest.approx(measured["dead_dead"], abs=4)


def test_filter_angle_is_of_spatial_slices():
    generator = torch.Generator().manual_seed(0)
    kernel = torch.zeros(2, 2, 1, 2)  # slices along x, y, x and −x: 90, 0, 180, 90, 90, 180
    kernel[0, 0, 0, 0], kernel[0, 1, 0, 1], kernel[1, 0, 0, 0], kernel[1, 1, 0, 0] = 1.0, 2.0, 0.5, -3.0
    assert filter_angle(kernel, generator, pairs=6) == pytest.approx(105)
    assert filter_angle(kernel, generator, pairs=7) == pytest.approx(105)
    kernel[1, 1] = 0
    assert filter_angle(kernel, generator, pairs=3) == pytest.approx(60)
    assert math.isnan(filter_angle(torch.zeros(2, 2, 3, 3), generator, pairs=10))
    orthogonal = torch.eye(4).reshape(2, 2, 2, 2)  # drawn pairs are never of a slice with itself
    assert all(filter_angle(orthogonal, generator, pairs=3) == pytest.approx(90) for _ in range(20))


def test_filter_angle_of_drawn_pairs_is_the_mean_over_all_within_its_error():
    kernel = matrix(0, 40 * 30, 9).reshape(40, 30, 3, 3) + torch.linspace(0, 1, 40).reshape(-1, 1, 1, 1)
    exact = filter_angle(kernel, torch.Generator(), pairs=10**6)
    spread = neuron_angle_spread(kernel.reshape(1200, 9))
    errors = [filter_angle(kernel, torch.Generator().manual_seed(seed), pairs=4000) - exact for seed in range(50)]
    assert np.std(errors) == pytest.approx(spread / math.sqrt(4000), rel=0.4)
    assert np.mean(errors) == pytest.approx(0, abs=4 * spread / math.sqrt(4000 * 50))
    again = (filter_angle(kernel, torch.Generator().manual_seed(1), pairs=4000) for _ in range(2))
    assert next(again) == next(again)


# --- the entries


@given(st.integers(0, 1000))
def test_gini_is_half_the_relative_mean_difference(seed):
    weight = matrix(seed)
    norms = weight.norm(dim=1)
    expected = (norms[:, None] - norms).abs().mean() / (2 * norms.mean())
    assert row_norm_inequality(weight) == pytest.approx(expected.item())


def test_the_extremes_of_gini_and_hoyer():
    single = torch.zeros(4, 5)
    single[2, 1] = -3.0
    assert row_norm_inequality(single) == pytest.approx(3 / 4)
    assert weight_hoyer(single) == pytest.approx(1)
    same = torch.ones(4, 5) * torch.tensor([1, -1, 1, -1, 1])
    assert row_norm_inequality(same) == pytest.approx(0, abs=1e-12)
    assert weight_hoyer(same) == pytest.approx(0, abs=1e-12)
    assert weight_hoyer(torch.tensor([[3.0, 4.0]])) == pytest.approx((math.sqrt(2) - 7 / 5) / (math.sqrt(2) - 1))


def test_kurtosis_is_scipys_excess():
    weight = matrix(0).exp()
    assert kurtosis(weight) == pytest.approx(scipy.stats.kurtosis(weight.flatten().numpy()))
    assert kurtosis(torch.tensor([[1.0, -1.0]])) == pytest.approx(-2)
    assert math.isnan(kurtosis(torch.full((3, 3), 0.1)))


# --- against another matrix


def test_relative_change():
    start = matrix(1)
    assert relative_change(start, start) == 0
    assert relative_change(3 * start, start) == pytest.approx(2)
    assert relative_change(start, torch.zeros_like(start)) == math.inf
    assert relative_change(0 * start, 0 * start) == 0
    assert math.isnan(relative_change(torch.full((2, 2), math.nan), torch.zeros(2, 2)))
    assert math.isnan(relative_change(torch.full((2, 2), math.inf), torch.ones(2, 2)))


def test_feedback_alignment():
    w = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert feedback_alignment(w, 5 * w) == pytest.approx({"cosine": 1, "angle": 0}, abs=1e-5)
    assert feedback_alignment(w, -w) == pytest.approx({"cosine": -1, "angle": 180}, abs=1e-5)
    assert feedback_alignment(w, w.flip(0)) == pytest.approx({"cosine": 0, "angle": 90})
    assert feedback_alignment(w, torch.ones(2, 2)) == pytest.approx({"cosine": math.sqrt(0.5), "angle": 45})
    assert math.isnan(feedback_alignment(w, 0 * w)["angle"])
    n = 200 * 300
    assert abs(feedback_alignment(matrix(0, 200, 300), matrix(1, 200, 300))["cosine"]) < 4 / math.sqrt(n)


# --- laws of all


NOT_FREE_OF_SCALE = {"spectral_norm", "frobenius_norm"}
NOT_FREE_OF_ROTATION = {"kurtosis", "weight_hoyer"}


@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_scale_sign_and_order_of_units_and_inputs_do_not_matter(seed, scale):
    weight, generator = matrix(seed), torch.Generator().manual_seed(seed)
    other = -scale * weight[torch.randperm(6, generator=generator)][:, torch.randperm(9, generator=generator)]
    expected = {n: v * (scale if n in NOT_FREE_OF_SCALE else 1) for n, v in everything(weight).items()}
    assert everything(other) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(st.integers(0, 1000))
@settings(deadline=None)
def test_rotating_the_inputs_does_not_matter(seed):
    weight = matrix(seed)
    rotated = weight @ torch.tensor(ortho_group.rvs(weight.shape[1], random_state=seed))
    expected = {n: v for n, v in everything(weight).items() if n not in NOT_FREE_OF_ROTATION}
    assert {n: everything(rotated)[n] for n in expected} == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(st.integers(0, 1000), st.integers(2, 9), st.integers(2, 9))
@settings(deadline=None)
def test_values_stay_in_their_ranges(seed, rows, columns):
    value = everything(matrix(seed, rows, columns))
    k = min(rows, columns)
    for rank in ("stable_rank", "effective_rank", "participation_ratio", "direction_stable_rank"):
        assert 1 - 1e-6 <= value[rank] <= k + 1e-6
    for share in ("spectral_entropy", "weight_hoyer", "distance"):
        assert 0 <= value[share] <= 1
    assert 0 <= value["row_norm_inequality"] <= 1 - 1 / rows
    assert value["spectral_norm"] <= value["frobenius_norm"]
    assert value["kurtosis"] >= -2
    assert value["exponent"] > 1
    assert value["spurious"] == 1  # fewer than 50


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_not_finite_gives_nan(bad, dtype):
    weight = matrix(0).to(dtype)
    weight[2, 3] = bad
    assert all(math.isnan(v) for v in everything(weight).values()), everything(weight)
    angles = neuron_angle_pairs(weight, torch.arange(6) < 3)
    assert all(math.isnan(angles[kind]) for kind in ("alive_alive", "alive_dead", "dead_dead"))
    assert math.isnan(feedback_alignment(weight, weight)["cosine"])
    for pairs in (5, 100):
        assert math.isnan(filter_angle(weight.reshape(2, 3, 3, 3), torch.Generator(), pairs=pairs))


def test_a_zero_matrix_has_rank_and_norm_0_and_nothing_else():
    value = everything(torch.zeros(4, 5))
    zero = {"stable_rank", "effective_rank", "participation_ratio", "direction_stable_rank", *NOT_FREE_OF_SCALE}
    assert all(value[n] == 0 for n in zero)
    assert all(math.isnan(v) for n, v in value.items() if n not in zero), value


@pytest.mark.parametrize(
    ("out", "rest", "expected", "by"),
    [(256, 784, 105.0, 4.5), (128, 256, 45.3, 3.5), (10, 128, 6.8, 1.0)],
)
def test_null_values_of_the_default_initialisation(out, rest, expected, by):
    """PyTorch's default: stable rank 105.0 ± 1.5 for 784 → 256; pairs at 90° ± 2.05°; no power law."""
    layer = nn.Linear(rest, out)
    with torch.no_grad():
        layer.weight.uniform_(-(rest**-0.5), rest**-0.5, generator=seeding.generator(0, "init"))
    weight = layer.weight.detach()
    value = everything(weight)
    assert value["stable_rank"] == pytest.approx(expected, abs=by)
    assert value["direction_stable_rank"] == pytest.approx(expected, abs=by)
    null = neuron_angle_null_spread(weight)
    assert value["neuron_angle"] == pytest.approx(90, abs=4 * null / math.sqrt(out * (out - 1) / 2))
    assert value["neuron_angle_spread"] == pytest.approx(null, rel=0.15)
    assert value["kurtosis"] == pytest.approx(-1.2, abs=0.1)
    assert value["weight_hoyer"] == pytest.approx(1 - math.sqrt(3) / 2, abs=0.01)
    if rest == 784:
        assert null == pytest.approx(2.05, abs=5e-3)
    assert value["distance"] > 0.1


def test_null_values_of_the_first_layer_over_seeds():
    """784 → 256: stable rank 105.0 ± 1.5 (standard deviation), angles of 90° ± 2.05°."""
    measured = []
    for seed in range(20):
        with torch.device("meta"):
            network = nn.Sequential(nn.Linear(784, 256))
        weight = initialise(network, "default", seeding.generator(seed, "init"))[0].weight.detach()
        rank = stable_rank(spectral.singular_values(weight))
        measured.append((rank, neuron_angle(weight), neuron_angle_spread(weight)))
    ranks, angles, spreads = np.array(measured).T
    assert ranks.mean() == pytest.approx(105.0, abs=3 * 1.5 / math.sqrt(20))
    assert ranks.std(ddof=1) == pytest.approx(1.5, rel=0.4)
    assert angles == pytest.approx(90, abs=0.1)
    assert spreads == pytest.approx(2.05, abs=0.03)
