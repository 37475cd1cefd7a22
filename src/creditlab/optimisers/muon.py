"""Muon: descent along the polar factor of the momentum, every direction of it at full size.

    w ← (1 − η λ) w − η · scale · U Vᵀ,   U Σ Vᵀ the momentum

Source: Jordan et al., "Muon: an optimizer for hidden layers" (kellerjordan.github.io/posts/muon, 2024). With
`iteration: newton_schulz`, `dtype: bfloat16` it is `torch.optim.Muon`, for weights of any shape: those of a convolution
count as (out, in · height · width) in the map and in the scale (Jordan's code scales by the kernel's shape).
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from creditlab.keys import PositiveInt
from creditlab.optimisers.spectral_descent import SpectralDescent
from creditlab.spectral import newton_schulz, polar, polar_express

DTYPES = {"same": None, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


class Muon(SpectralDescent):
    """`steps` and `dtype` belong to the two iterations; `exact` is an SVD in float64 and needs neither."""

    def __init__(
        self,
        params: Any,
        *,
        iteration: Literal["newton_schulz", "polar_express", "exact"],
        steps: PositiveInt,
        dtype: Literal["same", "bfloat16", "float32", "float64"],
        **family: Any,
    ) -> None:
        super().__init__(params, **family)
        self.iteration, self.steps, self.dtype = iteration, steps, DTYPES[dtype]

    def map(self, x: Tensor) -> Tensor:
        if self.iteration == "exact":
            return polar(x)
        iterate = newton_schulz if self.iteration == "newton_schulz" else polar_express
        return iterate(x, steps=self.steps, dtype=self.dtype)
