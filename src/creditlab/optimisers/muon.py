"""Muon: descent along the polar factor of the momentum, with every direction at full size.

    w ← (1 − η λ) w − η · scale · U Vᵀ,   where U Σ Vᵀ is the momentum

Source: Jordan et al., "Muon: an optimizer for hidden layers" (kellerjordan.github.io/posts/muon, 2024). With
`iteration: newton_schulz` and `dtype: bfloat16` it is `torch.optim.Muon`, but for weights of any shape. The map and the
scale see those of a convolution as (out, in · height · width), while Jordan's code scales by the shape of the kernel.
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
