import pytest
import torch
from torch import nn


def gradients(steps=6):
    return torch.randn(steps, 8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("restore_norm", [False, True])
def test_at_full_rank_it_is_sgd_with_momentum(build, restore_norm):
    """torch's velocity is a sum, ours a mean: the same with lr/(1 − β)."""
    ours, theirs = (nn.Parameter(torch.ones(8, 5, dtype=torch.float64)) for _ in range(2))
    optimiser = build("lowrank", [ours], rank=5, restore_norm=restore_norm, lr=0.1, momentum=0.9)
    sgd = torch.optim.SGD([theirs], lr=0.01, momentum=0.9)
    for g in gradients():
        ours.grad = theirs.grad = g
        optimiser.step()
        sgd.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("restore_norm", [False, True])
def test_a_step_has_the_rank_and_the_norm_asked_for(build, rank, restore_norm):
    w = nn.Parameter(torch.zeros(8, 5, dtype=torch.float64))
    optimiser = build("lowrank", [w], rank=rank, restore_norm=restore_norm, lr=1.0, momentum=0.0)
    g = gradients()[0]
    w.grad = g
    optimiser.step()
    u, s, vh = torch.linalg.svd(g)
    best = (u[:, :rank] * s[:rank]) @ vh[:rank]
    expected = best * (g.norm() / best.norm()) if restore_norm else best
    torch.testing.assert_close(w.detach(), -expected, rtol=0, atol=1e-10)


def test_flattened_it_is_muon_cut_to_its_leading_directions(build):
    w = nn.Parameter(torch.zeros(8, 5, dtype=torch.float64))
    g = gradients()[0]
    cut = build("lowrank", [w], rank=2, flatten=True, restore_norm=False).map(g)
    u, _, vh = torch.linalg.svd(g)
    torch.testing.assert_close(cut, u[:, :2] @ vh[:2], rtol=0, atol=1e-10)
