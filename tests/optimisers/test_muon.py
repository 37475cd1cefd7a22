import pytest
import torch
from torch import nn

from creditlab.spectral import polar


def trajectories(ours, theirs, a, b, steps=8):
    """Step both on the same gradients; how far apart the weights end, relative to how far they went."""
    start = a.detach().clone()
    generator = torch.Generator().manual_seed(3)
    for _ in range(steps):
        a.grad = torch.randn(a.shape, generator=generator, dtype=a.dtype)
        b.grad = a.grad.clone()
        ours.step()
        theirs.step()
    return ((a - b).norm() / (a - start).norm()).item()


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (30, 30)])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
def test_it_is_torchs_muon(build, shape, nesterov, scale):
    """Both iterate in bfloat16, whose steps of 2⁻⁸ = 0.4 % add up to about 1 % of an update; ours normalises before
    it rounds.
    """
    start = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    a, b = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    keys = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.95, "nesterov": nesterov}
    ours = build("muon", [a], **keys, scale=scale, dtype="bfloat16")
    theirs = torch.optim.Muon([b], **keys, adjust_lr_fn=scale)
    assert trajectories(ours, theirs, a, b) < 0.015


def test_the_tolerance_would_catch_a_wrong_factor(build):
    start = torch.randn(24, 40, generator=torch.Generator().manual_seed(0))
    a, b = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours = build("muon", [a], lr=0.02, momentum=0.9, dtype="bfloat16")
    theirs = torch.optim.Muon([b], lr=0.02, momentum=0.95, weight_decay=0)
    assert trajectories(ours, theirs, a, b) > 0.05


@pytest.mark.parametrize(("iteration", "low", "high"), [("newton_schulz", 0.6, 1.16), ("polar_express", 0.84, 1.13)])
def test_the_iterations_near_the_exact_polar_factor(build, iteration, low, high):
    w = nn.Parameter(torch.zeros(10, 30, dtype=torch.float64))
    g = torch.randn(10, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    approximate, exact = build("muon", [w], iteration=iteration), build("muon", [w], iteration="exact")
    torch.testing.assert_close(exact.map(g), polar(g))
    s = torch.linalg.svdvals(approximate.map(g))
    assert low < s.min() <= s.max() < high
    alignment = (approximate.map(g) * exact.map(g)).sum() / 10  # the mean singular value, if directions agree
    assert alignment.item() == pytest.approx(s.mean().item(), rel=1e-9)


def test_steps_and_dtype_reach_the_iteration(build):
    w = nn.Parameter(torch.zeros(10, 30))
    g = torch.randn(10, 30, generator=torch.Generator().manual_seed(0))
    converged = build("muon", [w], iteration="polar_express", steps=12, dtype="float64").map(g)
    assert (converged - polar(g)).abs().max() < 1e-6
    rough = build("muon", [w], iteration="polar_express", steps=12, dtype="bfloat16").map(g)
    assert 1e-3 < (rough - polar(g)).abs().max() < 3e-2
