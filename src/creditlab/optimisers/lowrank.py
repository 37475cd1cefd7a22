"""Low-rank descent, the opposite of Muon: only the leading singular directions of the momentum.

    w ← (1 − η λ) w − η · scale · U_K Σ_K V_Kᵀ

Source: Boeshertz, Pascanu & Clopath, "Overcoming rank collapse in feedback alignment" (arXiv 2606.11123), Fig. 3. They
do not give K, nor say whether they keep the singular values or the norm. The values in the YAML come from a later
script that follows the figure.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from creditlab.keys import PositiveInt
from creditlab.optimisers.spectral_descent import SpectralDescent
from creditlab.spectral import keep_top


class LowRank(SpectralDescent):
    """If `rank` exceeds that of every weight, values are kept and `scale: none`, this is SGD (momentum a mean)."""

    def __init__(self, params: Any, *, rank: PositiveInt, flatten: bool, restore_norm: bool, **family: Any) -> None:
        super().__init__(params, **family)
        self.rank, self.flatten, self.restore_norm = rank, flatten, restore_norm

    def map(self, x: Tensor) -> Tensor:
        return keep_top(x, k=self.rank, flatten=self.flatten, restore_norm=self.restore_norm)
