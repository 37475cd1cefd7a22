"""How alike two representations of the same samples are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from creditlab.metrics.activations import centred
from creditlab.metrics.needs import needs


@needs(samples=4)
def cka(activation: Tensor, initial_activation: Tensor) -> float:
    """How much of the geometry of the samples at initialisation is left, whatever the rotation, scale and offset of the
    units: linear centred kernel alignment, debiased, for the plain one is far above 0 for independent data where there
    are about as many units as samples. The ratio of unbiased estimates still has a bias of order 1/samples. A few
    outlying samples, or a subset moved far away, can set the value by themselves (Davari et al., arXiv 2210.16156).
    NaN where no unit varies.

        HSIC(X, X₀) / √(HSIC(X, X) · HSIC(X₀, X₀)),  X, X₀ (samples, units) centred, k = rows' ‖x‖², k₀ likewise,
        n (n − 3) HSIC(X, X₀) = ‖XᵀX₀‖² − n/(n − 2) k·k₀ + Σk Σk₀ / ((n − 1)(n − 2))

    Range: −1 to 1; about 0, on either side, for independent representations.
    Unit: none.
    Cost: three products of (units, samples) with (samples, units), in the activations' precision.
    Source: Kornblith et al., "Similarity of neural network representations revisited", ICML 2019; Song et al.,
        "Feature selection via dependence maximization", JMLR 2012 (the unbiased HSIC).
    """
    x, y = centred(activation), centred(initial_activation)
    product = _hsic(x, x) * _hsic(y, y)
    return _hsic(x, y) / math.sqrt(product) if product > 0 else math.nan


def _hsic(x: Tensor, y: Tensor) -> float:
    """n (n − 3) times the unbiased HSIC of centred (samples, units), linear kernels."""
    n = len(x)
    k, l = x.square().sum(1).double(), y.square().sum(1).double()  # noqa: E741
    inner = torch.matmul(x.T, y).double().square().sum()
    return (inner - n / (n - 2) * (k @ l) + k.sum() * l.sum() / ((n - 1) * (n - 2))).item()
