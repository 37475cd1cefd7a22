"""Kaon: descent along the momentum's singular directions, each with an arbitrary weight.

    σ ← 4.1 σ (1 − σ²)², T times;   w ← (1 − η λ) w − η · scale · U (Σ/1.175) Vᵀ

The map is far in its chaotic range: the singular values look random, but no generator is used. Their RMS is about
0.6, so at equal lr a step is 0.6 times as long as Muon's.

Source: Shumaylov et al., "Muon is Not That Special" (arXiv 2605.11181).
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from creditlab.keys import PositiveInt
from creditlab.optimisers.muon import DTYPES
from creditlab.optimisers.spectral_descent import SpectralDescent
from creditlab.spectral import kaon


class Kaon(SpectralDescent):
    """`steps` is T."""

    def __init__(
        self,
        params: Any,
        *,
        steps: PositiveInt,
        dtype: Literal["same", "bfloat16", "float32", "float64"],
        **family: Any,
    ) -> None:
        super().__init__(params, **family)
        self.steps, self.dtype = steps, DTYPES[dtype]

    def map(self, x: Tensor) -> Tensor:
        return kaon(x, steps=self.steps, dtype=self.dtype)
