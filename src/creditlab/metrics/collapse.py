"""Neural collapse: how near the features that the output layer receives are to K equal and equally distant points.

With h the features of a sample, M (K, features) the class means less their mean, and W the rows of the output layer for
the same classes, all in float64. Centring at the mean of the class means lets classes be of different size.

Sources: Papyan, Han & Donoho, "Prevalence of neural collapse during the terminal phase of deep learning training", PNAS
2020; Zhu et al., "A geometric analysis of neural collapse with unconstrained features", NeurIPS 2021.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from creditlab.metrics.activations import centred, class_means
from creditlab.metrics.needs import needs

PARTS = ("nc1", "nc2", "equinorm", "equiangular", "nc3", "self_duality", "nc4")


@needs(classes=2)
def neural_collapse(features: Tensor, label: Tensor, readout_weight: Tensor, readout_bias: Tensor) -> dict[str, float]:
    """How far the features and the output layer are from neural collapse, each part 0 when collapsed. On test samples,
    where collapse is weaker than on the training samples that its theory speaks of. Of the classes present, which are
    at least two. NaN where the quantity is not defined: all for values that are not finite or equal class means.

        nc1 = tr(Σ_W Σ_B⁺)/K,  Σ_W the covariance within classes, Σ_B = MᵀM/K;
        nc2 = ‖MMᵀ/‖MMᵀ‖ − E‖,  nc3 = ‖WMᵀ/‖WMᵀ‖ − E‖,  E = (I − 11ᵀ/K)/√(K − 1), the simplex;
        self_duality = ‖W/‖W‖ − M/‖M‖‖,  Frobenius norms

    Range: nc1 0 or more; nc2 0 to √2; nc3, self_duality and equiangular 0 to 2; equinorm 0 to √(K − 1); nc4 0 to 1.
    Unit: none.
    Cost: one SVD of (classes, features) and a product with the features.
    Source: Papyan et al., PNAS 2020; Zhu et al., arXiv 2105.02375, 2021 (the errors nc2 and nc3).
    Parts: nc1, the spread within classes over that between them; nc2, the distance of the class means' angles and
        lengths from the simplex; equinorm, the lengths' standard deviation over their mean; equiangular, the mean
        distance of the cosines between class means from −1/(K − 1); nc3, the distance from the simplex of what
        the output layer makes of the class means; self_duality, the distance of the output layer from the class means;
        nc4, the share of samples that the output layer assigns to another class than the nearest class mean does.
    """
    classes, index = label.unique(return_inverse=True)
    k = len(classes)
    h, w = centred(features.double()), readout_weight[classes].double()
    means = class_means(h, label)  # (K, features)
    m = means - means.mean(0)
    if not (torch.isfinite(h).all() and torch.isfinite(w).all() and m.any()):
        return dict.fromkeys(PARTS, math.nan)
    norms = m.norm(dim=1)
    cosines = (m @ m.T / (norms[:, None] * norms))[~torch.eye(k, dtype=torch.bool, device=m.device)]
    nearest = torch.cdist(h, means).argmin(1)
    assigned = (features.double() @ w.T + readout_bias[classes]).argmax(1)
    values = (
        _within_over_between(h - means[index], m, torch.finfo(features.dtype).eps),
        _from_simplex(m @ m.T),
        norms.std(correction=0) / norms.mean(),
        (cosines + 1 / (k - 1)).abs().mean(),
        _from_simplex(w @ m.T),
        (w / w.norm() - m / m.norm()).norm(),
        (assigned != nearest).double().mean(),
    )
    return {part: value.item() for part, value in zip(PARTS, values, strict=True)}


def _within_over_between(residual: Tensor, m: Tensor, eps: float) -> Tensor:
    """tr(Σ_W Σ_B⁺)/K by the SVD of M, which has rank K − 1 at most. Directions of M below the rounding of the features
    (`eps`) do not count.
    """
    _, s, v = torch.linalg.svd(m, full_matrices=False)  # (K,), (K, features) where features are not fewer
    s, v = s[: len(m) - 1], v[: len(m) - 1]
    real = s > len(m) * eps * s[0]
    along = torch.matmul(residual, v[real].T) / s[real]  # (samples, directions)
    return along.square().sum(1).mean()


def _from_simplex(gram: Tensor) -> Tensor:
    """The distance of (K, K), scaled to norm 1, from the Gram matrix of a simplex; NaN for zeros."""
    k = len(gram)
    simplex = (torch.eye(k, dtype=gram.dtype, device=gram.device) - 1 / k) / (k - 1) ** 0.5
    return (gram / gram.norm() - simplex).norm()
