import pytest
import torch
from torch import nn


def run(optimiser, w, steps=5):
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        w.grad = torch.randn(w.shape, generator=generator, dtype=w.dtype)
        optimiser.step()
    return w.detach().clone()


def test_at_one_half_it_is_muon_with_the_exact_polar_factor(build):
    freon, muon = (nn.Parameter(torch.zeros(6, 4, dtype=torch.float64)) for _ in range(2))
    keys = {"lr": 0.05, "momentum": 0.9, "nesterov": True, "scale": "original"}
    a = run(build("freon", [freon], c=0.5, **keys), freon)
    b = run(build("muon", [muon], iteration="exact", **keys), muon)
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_at_zero_it_is_sgd_of_unit_rms_singular_value(build):
    w = nn.Parameter(torch.zeros(6, 4, dtype=torch.float64))
    moved = run(build("freon", [w], c=0.0, lr=1.0, momentum=0.0, scale="none"), w, steps=1)
    torch.testing.assert_close(moved, -w.grad / (w.grad.norm() / 2), rtol=0, atol=1e-10)


@pytest.mark.parametrize("c", [0.25, 0.75, 1.0])
def test_the_exponent_sets_the_slope_of_the_spectrum(build, c):
    optimiser = build("freon", [nn.Parameter(torch.zeros(3, 3))], c=c)
    s = torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64)
    d = optimiser.map(torch.diag(s)).diagonal().log()
    torch.testing.assert_close((d[1:] - d[0]) / s[1:].log(), torch.full((2,), 1 - 2 * c).double(), rtol=0, atol=1e-9)


def test_the_floor_reaches_the_map(build):
    w, x = nn.Parameter(torch.zeros(2, 2)), torch.diag(torch.tensor([1.0, 1e-3], dtype=torch.float64))
    low, high = (build("freon", [w], c=1.0, floor=f).map(x).diagonal() for f in (1e-4, 1e-2))
    assert (low[1] / low[0]).item() == pytest.approx(1e3, rel=1e-3)
    assert (high[1] / high[0]).item() == pytest.approx(1e-3 / 1e-2**2, rel=1e-3)
