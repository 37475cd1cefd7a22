"""How the network answers: how far its confidence can be trusted, and which classes it confuses."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from creditlab.keys import PositiveInt


def calibration(scores: Tensor, label: Tensor, *, bins: PositiveInt) -> dict[str, float]:
    """How far confidence, the probability of the predicted class, is from how often the prediction is right.

    The error compares the two within `bins` of equal width on confidence; it is never negative, so sampling noise lifts
    it, by up to √(bins/samples)/2. Softmax makes probabilities of any scores, also of goodness, which was not trained
    to be one. NaN where scores are not finite.

        error = Σ_b n_b/n |accuracy_b − confidence_b|,   brier = mean Σ_k (p_k − y_k)²

    Range: error 0 to 1, overconfidence −1 to 1, brier 0 to 2.
    Unit: none.
    Cost: one softmax.
    Source: Guo et al., "On calibration of modern neural networks", ICML 2017; Brier, Monthly Weather Review 1950.
    Parts: error, the expected calibration error; overconfidence, mean confidence minus accuracy; brier, its score.
    """
    p = scores.double().softmax(1)
    confidence, predicted = p.max(1)
    excess = confidence - (predicted == label).double()
    edges = torch.linspace(0, 1, bins + 1, dtype=p.dtype, device=p.device)[1:-1]
    by_bin = excess.new_zeros(bins).index_add(0, torch.bucketize(confidence, edges), excess)
    return {
        "error": (by_bin.abs().sum() / len(p)).item(),
        "overconfidence": excess.mean().item(),
        "brier": (p - one_hot(label, p.shape[1])).square().sum(1).mean().item(),
    }


def confusion(predicted: Tensor, label: Tensor, classes: int) -> Tensor:
    """(classes, classes) counts: rows are the labels, columns what was predicted, both (samples,) integers."""
    return torch.bincount(label * classes + predicted, minlength=classes**2).view(classes, classes)
