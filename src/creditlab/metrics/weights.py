"""What a weight matrix (out, rest) looks like.

Null values, for rows drawn at random: neuron angle 90° ± 57.3°/√rest.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from creditlab import spectral


def stable_rank(singular_values: Tensor) -> float:
    """Σσ²/σ₁²: from 1 to the rank, free of scale; 0 for a zero matrix. Rudelson & Vershynin, J. ACM 2007."""
    return spectral.stable_rank(singular_values).item()


def effective_rank(singular_values: Tensor) -> float:
    """exp(−Σ p ln p) with p = σ/Σσ (not squared): from 1 to the rank, free of scale; 0 for a zero matrix.

    Roy & Vetterli, "The effective rank", EUSIPCO 2007.
    """
    return spectral.effective_rank(singular_values).item()


def neuron_angle(weight: Tensor) -> float:
    """Mean angle between the rows of `weight` (neurons, inputs), all pairs: mean arccos(wᵢ·wⱼ / ‖wᵢ‖‖wⱼ‖).

    In degrees, 0 to 180. Rows of zeros have no direction and are left out; NaN where fewer than two are left.
    """
    norms = weight.norm(dim=1)
    directions = weight[norms > 0] / norms[norms > 0, None]
    n = len(directions)
    if n < 2:
        return math.nan
    i, j = torch.triu_indices(n, n, offset=1, device=weight.device)
    cosines = (directions @ directions.T)[i, j].clamp(-1, 1)
    return torch.rad2deg(torch.arccos(cosines)).mean().item()


def relative_change(weight: Tensor, initial_weight: Tensor) -> float:
    """‖W − W₀‖ / ‖W₀‖ in the Frobenius norm; 0 or more, infinite where W₀ = 0 and W is not."""
    change, start = (weight - initial_weight).norm().item(), initial_weight.norm().item()
    return change / start if start > 0 else (0.0 if change == 0 else math.inf)
