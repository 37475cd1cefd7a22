import torch
from torch import nn


def test_a_step_is_the_chaotic_map_of_the_singular_values(build):
    w = nn.Parameter(torch.zeros(5, 7, dtype=torch.float64))
    optimiser = build("kaon", [w], lr=1.0, momentum=0.0, scale="none", steps=3)
    w.grad = torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    optimiser.step()
    u, s, vh = torch.linalg.svd(w.grad, full_matrices=False)
    s = s / w.grad.norm()
    for _ in range(3):
        s = 4.1 * s * (1 - s**2) ** 2
    torch.testing.assert_close(w.detach(), -(u * s / 1.175) @ vh, rtol=0, atol=1e-12)


def test_the_dtype_of_the_iteration(build):
    w = nn.Parameter(torch.zeros(5, 7))
    g = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    same, double = (build("kaon", [w], dtype=dtype).map(g) for dtype in ("same", "float64"))
    assert 0 < (same - double).abs().max() < 1e-3
