"""In how many dimensions the activations of a hidden block lie.

The covariance sees the linear subspace (two dimensions for the arc of a circle), TwoNN the manifold (one).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from creditlab import spectral
from creditlab.keys import PositiveInt
from creditlab.metrics.activations import centred
from creditlab.metrics.needs import needs

FEWEST = 20  # distinct samples that TwoNN needs (its standard error is a third of the dimension there)
KEPT = 0.9  # of the ratios, the smallest; the greatest are the outliers that Facco et al. leave out
CLOSE = 1e-6  # of a sample's length: the distance below which two samples are equal but for rounding
BLOCK = 512  # samples whose distances to all are held at once


def covariance(activation: Tensor) -> dict[str, float]:
    """How many directions share the variance of the activations. At most samples − 1, so that few samples bound it;
    the participation ratio heeds the large directions only, the effective rank small ones too. NaN where no unit
    varies.

        participation ratio = (Σλ)² / Σλ²,   effective rank = exp(−Σ p ln p), p = λ/Σλ,
        λ the eigenvalues of the covariance of the centred activations over samples

    Range: 1 to min(units, samples − 1).
    Unit: none.
    Cost: one Gram matrix (of units or samples, whichever are fewer) and its eigenvalues, in float64.
    Source: Gao et al., bioRxiv 214262, 2017; Roy & Vetterli, "The effective rank", EUSIPCO 2007 (of the covariance: its
        singular values are λ, the squares of those of the activations).
    Parts: participation_ratio; effective_rank.
    """
    h = centred(activation).double()
    gram = h.T @ h if h.shape[1] <= len(h) else h @ h.T
    if not 0 < gram.trace() < math.inf:
        return {"participation_ratio": math.nan, "effective_rank": math.nan}
    eigenvalues = torch.linalg.eigvalsh(gram).clamp_min(0)
    return {
        "participation_ratio": spectral.participation_ratio(eigenvalues.sqrt()).item(),
        "effective_rank": spectral.effective_rank(eigenvalues).item(),
    }


@needs(samples=FEWEST)
def two_nn(activation: Tensor, *, samples: PositiveInt) -> dict[str, float]:
    """The dimension of the manifold that the activations lie on, from how much farther the second nearest sample is
    than the nearest. By the linear fit through the origin, without the greatest tenth of the ratios. The standard
    error is some 1.4 d/√n, twice that on a curve; with many dimensions it falls short of d, for want of samples and by
    the edges (a cube of 10 dimensions has 8.5 on 2,000 samples). Of equal samples one is kept, for the ratio is not
    defined between them; NaN where fewer than 20 are left.

        d = slope of −ln(1 − F(μ)) on ln μ,  μ = r₂/r₁ the ratio of the distances to the two nearest samples,
        F its empirical distribution function

    Range: above 0; without bound where all samples are equally far apart.
    Unit: none.
    Cost: distances between all pairs of `samples` samples, in float64.
    Source: Facco et al., "Estimating the intrinsic dimension of datasets by a minimal neighborhood information",
        Scientific Reports 2017.
    Parts: dimension; duplicates, the share of samples that equal another one and are left out.
    """
    h = activation[:samples]
    given = len(h)
    if not h.isfinite().all():
        return {"dimension": math.nan, "duplicates": math.nan}
    h = centred(torch.unique(h, dim=0).double())
    if len(h) < FEWEST:
        return {"dimension": math.nan, "duplicates": 1 - len(h) / given}
    nearest = [torch.cdist(rows, h).topk(3, largest=False).values for rows in h.split(BLOCK)]
    _, r1, r2 = torch.cat(nearest).unbind(1)  # the first is the sample itself
    x = (r2 / r1)[r1 > CLOSE * h.norm(dim=1)].log().sort().values
    n = len(x)
    y = -torch.log1p(-torch.arange(1, n + 1, dtype=x.dtype, device=x.device) / n)
    x, y = x[: int(KEPT * n)], y[: int(KEPT * n)]
    dimension = (x @ y / (x @ x)).item() if n >= FEWEST else math.nan
    return {"dimension": dimension, "duplicates": 1 - n / given}
