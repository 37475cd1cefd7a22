import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from creditlab import spectral

SHAPES = [(6, 6), (5, 12), (12, 5), (1, 4), (4, 1)]


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def with_spectrum(s, m, n, seed=0):
    """An m × n matrix with the singular values `s` and random singular vectors."""
    u = torch.linalg.qr(draw(m, len(s), seed=seed))[0]
    v = torch.linalg.qr(draw(n, len(s), seed=seed + 1))[0]
    return (u * torch.as_tensor(s, dtype=torch.float64)) @ v.mT


def pairs(s):
    """For each s the matrix diag(s, √(1 − s²)), of unit norm: what a map makes of σ/‖x‖_F = s is its first entry."""
    s = torch.as_tensor(s, dtype=torch.float64)
    return torch.diag_embed(torch.stack([s, (1 - s**2).sqrt()], -1))


MAPS = {
    "newton_schulz": lambda x: spectral.newton_schulz(x, steps=5, dtype=None),
    "polar_express": lambda x: spectral.polar_express(x, steps=5, dtype=None),
    "polar": spectral.polar,
    "kaon": lambda x: spectral.kaon(x, steps=3, dtype=None),
    "keep": lambda x: spectral.keep_top(x, k=2, flatten=False, restore_norm=False),
    "keep_norm": lambda x: spectral.keep_top(x, k=2, flatten=False, restore_norm=True),
    "flatten": lambda x: spectral.keep_top(x, k=2, flatten=True, restore_norm=False),
    "flatten_norm": lambda x: spectral.keep_top(x, k=2, flatten=True, restore_norm=True),
    "freon": lambda x: spectral.freon(x, c=0.75, floor=1e-3),
    "freon_sgd": lambda x: spectral.freon(x, c=0, floor=1e-3),
    "freon_inverse": lambda x: spectral.freon(x, c=1, floor=1e-3),
}
every_map = pytest.mark.parametrize("name", MAPS)
every_shape = pytest.mark.parametrize("shape", SHAPES)


# --- laws of all maps


@every_map
@every_shape
def test_a_map_acts_on_singular_values_alone(name, shape):
    f, x = MAPS[name], draw(*shape)
    u, v = torch.linalg.qr(draw(shape[0], shape[0], seed=1))[0], torch.linalg.qr(draw(shape[1], shape[1], seed=2))[0]
    torch.testing.assert_close(f(u @ x @ v), u @ f(x) @ v, rtol=0, atol=1e-9)
    torch.testing.assert_close(f(x.mT), f(x).mT, rtol=0, atol=1e-9)


@every_map
@every_shape
def test_a_batch_is_mapped_matrix_by_matrix(name, shape):
    f, x = MAPS[name], draw(2, 3, *shape)
    each = torch.stack([torch.stack([f(x[i, j]) for j in range(3)]) for i in range(2)])
    assert f(x).shape == x.shape
    torch.testing.assert_close(f(x), each, rtol=0, atol=1e-9)


@every_map
@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e20])
def test_scale_of_the_input_is_factored_out_exactly(name, factor):
    x = draw(5, 8, dtype=torch.float32)
    degree = 1 if name in ("keep", "keep_norm", "flatten_norm") else 0
    torch.testing.assert_close(MAPS[name](x * factor) / factor**degree, MAPS[name](x), rtol=1e-3, atol=1e-3)


@every_map
def test_zeros_give_zeros_and_what_is_not_finite_gives_nan_for_its_matrix_alone(name):
    x = draw(4, 3, 5)
    x[0] = 0
    x[1, 0, 0] = math.nan
    x[2, 2, 1] = math.inf
    y = MAPS[name](x)
    assert (y[0] == 0).all()
    assert y[1].isnan().all()
    assert y[2].isnan().all()
    torch.testing.assert_close(y[3], MAPS[name](x[3]), rtol=0, atol=1e-12)


@every_map
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.15), (torch.float32, 1e-4)])
def test_dtype_is_kept_and_the_input_left_alone(name, dtype, tolerance):
    x = with_spectrum([1, 0.8, 0.5, 0.3], 4, 7).to(dtype)
    before = x.clone()
    y = MAPS[name](x)
    assert y.dtype is dtype
    assert torch.equal(x, before)
    if name != "kaon" or dtype is not torch.bfloat16:  # its rounding grows fourfold a step
        torch.testing.assert_close(y.double(), MAPS[name](x.double()), rtol=0, atol=tolerance)


# --- polar factors


@every_shape
def test_polar_is_scipys(shape):
    x = draw(*shape, seed=3)
    torch.testing.assert_close(spectral.polar(x), torch.from_numpy(scipy.linalg.polar(x)[0]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_polar_of_a_rank_deficient_matrix_is_a_partial_isometry(dtype):
    o = spectral.polar((draw(20, 3) @ draw(3, 30, seed=1)).to(dtype)).double()
    expected = torch.tensor([1.0] * 3 + [0.0] * 17, dtype=torch.float64)
    torch.testing.assert_close(torch.linalg.svdvals(o), expected, rtol=0, atol=1e-6)


BOUNDS = {"newton_schulz": (0.68, 1.15, 0.47, 0.05), "polar_express": (0.87, 1.12, 0.85, 0.10)}


@pytest.mark.parametrize("name", BOUNDS)
def test_five_steps_take_singular_values_where_the_literature_says(name):
    low, high, at_1e3, at_1e4 = BOUNDS[name]
    y = MAPS[name](pairs(np.geomspace(5e-3, 1, 4000)))[:, 0, 0]
    assert y.min().item() == pytest.approx(low, abs=0.01)
    assert y.max().item() == pytest.approx(high, abs=0.01)
    assert MAPS[name](pairs([1e-3, 1e-4]))[:, 0, 0].tolist() == pytest.approx([at_1e3, at_1e4], abs=0.011)


def test_polar_express_converges_where_newton_schulz_stalls():
    x = with_spectrum(np.geomspace(1e-2, 1, 8), 8, 20)
    exact = spectral.polar(x)
    assert (spectral.polar_express(x, steps=12, dtype=None) - exact).abs().max() < 1e-12
    assert (spectral.newton_schulz(x, steps=12, dtype=None) - exact).norm() > 0.1


@every_shape
@pytest.mark.parametrize("steps", [1, 5, 9])
def test_the_polynomials_are_those_of_the_svd_form(shape, steps):
    x = draw(3, *shape, seed=4)
    jordan, express, chaos = [spectral.JORDAN] * steps, spectral.polar_express_triples(steps), [spectral.KAON] * steps
    close = {"rtol": 0, "atol": 1e-8 if steps == 9 else 1e-11}
    torch.testing.assert_close(
        spectral.newton_schulz(x, steps=steps, dtype=None), spectral.iterate_svd(x, jordan, 1, 1), **close
    )
    torch.testing.assert_close(
        spectral.polar_express(x, steps=steps, dtype=None), spectral.iterate_svd(x, express, 1.01, 1), **close
    )
    if steps < 9:  # rounding grows fourfold a step
        torch.testing.assert_close(
            spectral.kaon(x, steps=steps, dtype=None), spectral.iterate_svd(x, chaos, 1, 1.175), **close
        )


@pytest.mark.parametrize("name", ["newton_schulz", "polar_express"])
def test_the_dtype_of_the_iteration(name):
    x, f = draw(16, 40, dtype=torch.float32), getattr(spectral, name)
    exact = f(x.double(), steps=5, dtype=None)
    error = {
        dtype: ((f(x, steps=5, dtype=dtype).double() - exact).norm() / exact.norm()).item()
        for dtype in (torch.bfloat16, torch.float32, torch.float64)
    }
    assert 1e-4 < error[torch.bfloat16] < 3e-2
    assert error[torch.float32] < 1e-5
    assert error[torch.float64] < 1e-7


# --- top singular directions


@every_shape
@pytest.mark.parametrize("k", [1, 3, 50])
@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("restore_norm", [False, True])
def test_keep_top_is_its_svd_form(shape, k, flatten, restore_norm):
    x, keys = draw(2, *shape, seed=5), {"k": k, "flatten": flatten, "restore_norm": restore_norm}
    torch.testing.assert_close(spectral.keep_top(x, **keys), spectral.keep_top_svd(x, **keys), rtol=0, atol=1e-9)


def test_keep_top_is_the_best_approximation_of_its_rank():
    s = [3, 2, 1, 0.5]
    x = with_spectrum(s, 9, 6)
    kept = spectral.keep_top(x, k=2, flatten=False, restore_norm=False)
    assert torch.linalg.matrix_norm(x - kept).item() == pytest.approx(math.hypot(1, 0.5))
    assert torch.linalg.svdvals(kept)[:2].tolist() == pytest.approx([3, 2])
    restored = spectral.keep_top(x, k=2, flatten=False, restore_norm=True)
    torch.testing.assert_close(restored, kept * math.sqrt(14.25 / 13))
    flat = spectral.keep_top(x, k=2, flatten=True, restore_norm=False)
    torch.testing.assert_close(
        torch.linalg.svdvals(flat), torch.tensor([1, 1, 0, 0, 0, 0.0]).double(), atol=1e-9, rtol=0
    )
    flat = spectral.keep_top(x, k=2, flatten=True, restore_norm=True)
    assert torch.linalg.svdvals(flat)[:3].tolist() == pytest.approx([math.sqrt(14.25 / 2)] * 2 + [0], abs=1e-9)


def test_keep_top_of_all_is_the_matrix_or_its_polar_factor():
    x = draw(7, 4)
    for restore_norm in (False, True):
        kept = spectral.keep_top(x, k=4, flatten=False, restore_norm=restore_norm)
        torch.testing.assert_close(kept, x, rtol=0, atol=1e-13)
    flat = spectral.keep_top(x, k=9, flatten=True, restore_norm=False)
    torch.testing.assert_close(flat, spectral.polar(x), rtol=0, atol=1e-12)


# --- Freon

GRID = [0, 0.25, 0.5, 2 / 3, 0.75, 1]


@every_shape
@pytest.mark.parametrize("c", GRID)
def test_freon_is_its_svd_form(shape, c):
    x = draw(2, *shape, seed=6)
    reference = spectral.freon_svd(x, c=c, floor=1e-4)
    torch.testing.assert_close(spectral.freon(x, c=c, floor=1e-4), reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("c", GRID)
def test_freon_is_accurate_to_what_it_says(c):
    floor = 1e-5
    x = with_spectrum(np.geomspace(1e-6, 1, 30), 30, 50)
    error = spectral.freon(x, c=c, floor=floor) - spectral.freon_svd(x, c=c, floor=floor)
    assert error.norm() / spectral.freon_svd(x, c=c, floor=floor).norm() < 1e-15 * 30 / floor**2


def test_freon_at_its_three_landmarks():
    x = draw(5, 9)
    k = 5
    sgd = x / (torch.linalg.matrix_norm(x) / math.sqrt(k))
    torch.testing.assert_close(spectral.freon(x, c=0, floor=1e-7), sgd, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(spectral.freon(x, c=0.5, floor=1e-7), spectral.polar(x), rtol=0, atol=1e-11)
    s = torch.linalg.svdvals(x)
    inverse = torch.linalg.pinv(x).mT * s.log().mean().exp()
    torch.testing.assert_close(spectral.freon(x, c=1, floor=1e-7), inverse, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("c", GRID)
def test_freon_is_dual_to_the_mean_schatten_norm(c):
    s = np.geomspace(1, 15, 8)
    x = with_spectrum(s, 8, 20)
    q = 2 * (1 - c)
    norm = scipy.stats.pmean(s, q)  # the power mean; its limit at 0 is the geometric mean
    d = spectral.freon(x, c=c, floor=1e-7)
    assert ((d * x).sum() / 8).item() == pytest.approx(norm, rel=1e-9)
    produced = torch.linalg.svdvals(d).sort().values.numpy()
    expected = norm ** (1 - q) * s ** (q - 1)
    np.testing.assert_allclose(produced, np.sort(expected), rtol=1e-8)


def test_the_rms_of_freons_step_hardly_depends_on_the_exponent():
    """The reference gives 1.000, 0.949, 1.000, 1.134, 1.239, 1.698 for a 64 × 288 matrix of condition 15; that matrix
    is not known, one with a geometric spectrum comes close.
    """
    x = with_spectrum(np.geomspace(1, 15, 64), 64, 288)
    rms = [(spectral.freon(x, c=c, floor=1e-6).norm() / 8).item() for c in GRID]
    assert rms == pytest.approx([1.000, 0.949, 1.000, 1.134, 1.239, 1.698], rel=0.02)


def test_freon_of_a_direction_below_the_floor_falls_to_zero_with_it():
    tiny = [1e-4, 1e-5, 0]
    steps = []
    for s in tiny:
        x = torch.diag(torch.tensor([1.0, 1.0, s], dtype=torch.float64))
        steps.append(spectral.freon(x, c=1, floor=1e-3).diagonal()[2].item())
    assert steps[0] / steps[1] == pytest.approx(10, rel=1e-3)
    assert steps[2] == 0


# --- Kaon


def test_kaons_values_look_random_and_stay_in_their_support():
    s = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = spectral.kaon(pairs(s), steps=5, dtype=None)[:, 0, 0]
    assert y.min() >= 0
    assert 0.99 < y.max() <= 1.1735 / 1.175 + 1e-4
    assert y.mean().item() == pytest.approx(0.48, abs=0.01)
    assert y.square().mean().sqrt().item() == pytest.approx(0.59, abs=0.01)


def test_one_step_of_kaon():
    y = spectral.kaon(pairs([0.2, 1 / math.sqrt(5)]), steps=1, dtype=None)[:, 0, 0] * 1.175
    assert y.tolist() == pytest.approx([4.1 * 0.2 * 0.96**2, 1.1735], abs=1e-4)


# --- sums of a spectrum

spectra = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=12)


@given(spectra)
@settings(max_examples=200, deadline=None)
def test_the_ranks_are_ordered_and_free_of_scale(values):
    s = torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
    ranks = [f(s).item() for f in (spectral.stable_rank, spectral.participation_ratio, spectral.effective_rank)]
    bounds = [1, *ranks, len(values)]
    assert all(a <= b * (1 + 1e-9) for a, b in pairwise(bounds)), bounds
    for f, rank in zip(
        (spectral.stable_rank, spectral.participation_ratio, spectral.effective_rank), ranks, strict=True
    ):
        assert f(s * 1e-200).item() == pytest.approx(rank, rel=1e-9)


def test_the_ranks_of_known_spectra():
    s = torch.tensor([[2.0, 2, 2, 2], [3, 0, 0, 0], [0, 0, 0, 0], [4, 2, 1, 1]], dtype=torch.float64)
    entropy = scipy.stats.entropy([4, 2, 1, 1])
    assert spectral.effective_rank(s).tolist() == pytest.approx([4, 1, 0, math.exp(entropy)])
    assert spectral.stable_rank(s).tolist() == pytest.approx([4, 1, 0, 22 / 16])
    assert spectral.participation_ratio(s).tolist() == pytest.approx([4, 1, 0, 22**2 / (256 + 16 + 1 + 1)])
    assert spectral.effective_rank(torch.tensor([1.0, math.nan])).isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (1, 3)])
def test_singular_values_are_numpys_matrix_by_matrix(dtype, shape):
    x = draw(3, *shape).to(dtype)
    x[1, 0, 0] = math.nan
    s = spectral.singular_values(x)
    assert s.dtype is torch.float64
    np.testing.assert_allclose(s[::2], np.linalg.svd(x[::2].double(), compute_uv=False), rtol=1e-12)
    assert s[1].isnan().all()
    x[1, 0, 0] = math.inf
    assert spectral.singular_values(x)[1].isnan().all()


@given(st.integers(0, 1000), st.integers(1, 12), st.integers(1, 12), st.floats(-6, 0), st.floats(-18, 18))
@settings(deadline=None)
def test_singular_values_of_float32_are_as_exact_as_it_rounds(seed, m, n, smallest, scale):
    """Spectra that fall evenly on a log scale, down to 1e-6 of the first."""
    x = 10**scale * with_spectrum(np.logspace(0, smallest, min(m, n)), m, n, seed=seed)
    x = x.float()
    error = spectral.singular_values(x) - torch.linalg.svdvals(x.double())
    assert error.abs().max() <= 6e-8 * torch.linalg.matrix_norm(x.double(), 2)


def test_singular_values_a_million_apart():
    s = torch.tensor([1, 1e-3, 1e-6], dtype=torch.float64)
    x = torch.zeros(200, 300, dtype=torch.float32)
    x[[3, 50, 120], [7, 200, 30]] = s.float()  # rounded by itself: float32 keeps each to 6e-8 of its own size
    assert spectral.singular_values(x)[:3].tolist() == pytest.approx(s.tolist(), rel=1e-7)
    dense = with_spectrum(s, 200, 300).float()
    np.testing.assert_allclose(spectral.singular_values(dense)[:3], s, atol=6e-8)
    assert spectral.singular_values(dense)[3] <= 1.2e-7  # rank 3 but for rounding


def test_a_convolution_as_a_matrix():
    w = draw(8, 3, 5, 5)
    assert torch.equal(spectral.as_matrix(w), w.reshape(8, 75))
    assert spectral.as_matrix(draw(8, 3)).shape == (8, 3)
