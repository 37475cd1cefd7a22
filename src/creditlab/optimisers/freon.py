"""Freon: descent along a power of the momentum's singular values, from SGD through Muon to inverted spectra.

    w ← (1 − η λ) w − η · scale · μ U Σ^(1−2c) Vᵀ,   μ = (mean σ^q)^((1−q)/q),   q = 2(1 − c)

Source: Shumaylov et al., "Muon is Not That Special" (arXiv 2605.11181); c is the exponent of Boeshertz et al. (arXiv
2606.11123), Fig. 6. The authors iterate a rational function; here the power is exact, by eigendecomposition of the
smaller Gram matrix. The paper does not say whether they scale by shape, nor gives their floor on σ.
"""

from __future__ import annotations

from typing import Annotated, Any

from torch import Tensor

from creditlab.keys import Fraction, Range
from creditlab.optimisers.spectral_descent import SpectralDescent
from creditlab.spectral import freon


class Freon(SpectralDescent):
    """`c` = 0 is normalised SGD, ½ is Muon with the exact polar factor. Above ½ small singular values step furthest."""

    def __init__(self, params: Any, *, c: Fraction, floor: Annotated[float, Range(1e-7, 1)], **family: Any) -> None:
        super().__init__(params, **family)
        self.c, self.floor = c, floor

    def map(self, x: Tensor) -> Tensor:
        return freon(x, c=self.c, floor=self.floor)
