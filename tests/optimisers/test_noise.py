import pytest
import torch
from torch import nn

from creditlab.optimisers.noise import add_update_noise


def moved(dtype=torch.float64):
    params = [nn.Parameter(torch.full(s, 3.0, dtype=dtype)) for s in ((20, 30), (40,), (3, 2, 2, 2), (5,))]
    before = [p.detach().clone() for p in params]
    with torch.no_grad():
        for size, p in zip((1, 100, 0.01, 0), params, strict=True):
            p.add_(size)
    return before, params


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_each_tensor_gets_noise_of_its_own_updates_norm(scale):
    before, params = moved()
    after = [p.detach().clone() for p in params]
    add_update_noise(before, params, scale, torch.Generator().manual_seed(0))
    for old, new, p in zip(before, after, params, strict=True):
        assert (p - new).norm().item() == pytest.approx(scale * (new - old).norm().item(), rel=1e-9)


def test_it_is_gaussian_with_no_direction_of_its_own():
    before, params = moved()
    params[0].data.add_(1)
    after = params[0].detach().clone()
    add_update_noise(before, params, 1.0, torch.Generator().manual_seed(0))
    z = (params[0] - after).detach().flatten() / 2
    assert abs(z.mean()) < 4 / 600**0.5
    assert z.square().mean().item() == pytest.approx(1)
    assert z.pow(4).mean().item() == pytest.approx(3, abs=4 * (96 / 600) ** 0.5)


def test_it_depends_on_the_generator_alone_and_keeps_the_dtype():
    results = []
    for seed, size in ((0, 0.0), (0, 1.0), (1, 0.0)):
        before, params = moved(torch.float32)
        params[0].data.add_(size)  # what one tensor did changes no draw of the next
        add_update_noise(before, params, 0.5, torch.Generator().manual_seed(seed))
        results.append(params[1].detach())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert results[0].dtype is torch.float32
