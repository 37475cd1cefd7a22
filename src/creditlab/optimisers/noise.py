"""Gaussian noise on what an optimiser did: rank without signal, the control for optimisers that raise the rank.

    w ← w + scale · ‖Δw‖ · z/‖z‖,   z ~ N(0, I),   Δw the optimiser's update of this tensor

Source: Boeshertz, Pascanu & Clopath, "Overcoming rank collapse in feedback alignment" (arXiv 2606.11123), Fig. 7, with
`scale` 1 and 0.1. That the norm is each tensor's own, and taken after the optimiser, is our reading of its caption.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Generator, Tensor


@torch.no_grad()
def add_update_noise(before: Iterable[Tensor], params: Iterable[Tensor], scale: float, generator: Generator) -> None:
    """Add to each of `params`, in place, noise of norm `scale` times that of its update since `before` (clones of
    `params` from before the optimiser's step). A tensor that did not move gets none, but takes its draw.
    """
    for old, p in zip(before, params, strict=True):
        noise = torch.randn(p.shape, generator=generator, dtype=p.dtype, device=generator.device).to(p.device)
        size = scale * torch.linalg.vector_norm(p - old)
        p.add_(noise * (size / torch.linalg.vector_norm(noise)))
