"""Gaussian noise on the updates of an optimiser: rank without signal. A control for optimisers that raise the rank.

    w ← w + scale · ‖Δw‖ · z/‖z‖,   z ~ N(0, I),   where Δw is the optimiser's update of this tensor

Source: Boeshertz, Pascanu & Clopath, "Overcoming rank collapse in feedback alignment" (arXiv 2606.11123), Fig. 7, with
`scale` 1 and 0.1. The norm is that of each tensor, after the optimiser: this is our reading of the caption.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Generator, Tensor


@torch.no_grad()
def add_update_noise(before: Iterable[Tensor], params: Iterable[Tensor], scale: float, generator: Generator) -> None:
    """Add noise to each of `params`, in place. The norm of the noise is `scale` times that of the update since
    `before` (clones of `params` from before the optimiser's step). A tensor that did not move gets no noise, but its
    noise is still drawn.
    """
    for old, p in zip(before, params, strict=True):
        noise = torch.randn(p.shape, generator=generator, dtype=p.dtype, device=generator.device).to(p.device)
        size = scale * torch.linalg.vector_norm(p - old)
        p.add_(noise * (size / torch.linalg.vector_norm(noise)))
