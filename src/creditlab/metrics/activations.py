"""What the units of a hidden block do on a fixed set of test samples: silence, sparsity, preference for classes.

Where activations may be negative (tanh, identity) their size counts: a unit that answers to a class by a large negative
value prefers that class.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from creditlab.keys import NonNegative
from creditlab.metrics.needs import needs

BLOCK = 64  # samples of a map that are worked on at once: what is made on the way then stays in the cache


def zero_fraction(activation_map: Tensor, *, threshold: NonNegative) -> float:
    """The share of activations, over samples, units and positions, that are zero, or no larger than `threshold`. The
    first study's "sparsity", judging by its numbers (a network that "uses all units" is 39.8 % sparse there).

        mean over samples, units and positions of [|h| ≤ threshold]

    Range: 0 to 1.
    Unit: none.
    Cost: one pass over the activations.
    Source: Glorot, Bordes & Bengio, "Deep sparse rectifier neural networks", AISTATS 2011.
    """
    if not activation_map.sum().isfinite():
        return math.nan
    zeros = sum(torch.count_nonzero(h.abs() <= threshold) for h in activation_map.split(BLOCK))
    return float(zeros) / activation_map.numel()


def dead_fraction(activation_map: Tensor, *, threshold: NonNegative) -> float:
    """The share of units whose activation is zero, or no larger than `threshold`, for every sample at every position.
    Dead on the samples that are looked at: more samples may find a unit alive.

        mean over units of [max over samples and positions |h| ≤ threshold]

    Range: 0 to 1.
    Unit: none.
    Cost: two passes over the activations.
    Source: Lu et al., "Dying ReLU and initialization", arXiv 1903.06733, 2019.
    """
    size = torch.maximum(activation_map.amax(dim=(0, 2)), -activation_map.amin(dim=(0, 2)))  # (units,)
    if not size.isfinite().all():
        return math.nan
    return torch.count_nonzero(size <= threshold).item() / len(size)


def hoyer_sparsity(activation: Tensor) -> float:
    """How far a sample's activation is concentrated on few units: taken for each sample over the units, then averaged
    over the samples. Activations of convolutions are averaged over space first, which makes them less sparse. Samples
    on which all units are silent are left out; NaN where none is left or there is one unit only.

        mean over samples of (√n − ‖h‖₁/‖h‖₂) / (√n − 1), n units

    Range: 0 (all units alike) to 1 (one unit).
    Unit: none.
    Cost: one pass over the activations.
    Source: Hoyer, "Non-negative matrix factorization with sparseness constraints", JMLR 2004.
    """
    n = activation.shape[1]
    return ((n**0.5 - _evenness(activation, 1)) / (n**0.5 - 1)).mean().item() if n > 1 else math.nan


def treves_rolls_sparsity(activation: Tensor) -> dict[str, float]:
    """How selective the code is: whether few units answer to a sample, and whether a unit answers to few samples.
    In Vinje and Gallant's form, which runs the other way than the a of Treves and Rolls and does not depend on n. Of
    |h|; activations of convolutions are averaged over space first. Silent samples, and silent units, are left out;
    NaN where none is left or there is one to compare only.

        (1 − a) / (1 − 1/n),  a = (Σ|h|/n)² / (Σh²/n)

    Range: 0 (all alike) to 1 (one of n).
    Unit: none.
    Cost: one pass over the activations.
    Source: Treves & Rolls, Network 1991; Vinje & Gallant, Science 2000.
    Parts: population, over the n units for each sample, averaged over samples; lifetime, over the n samples for each
        unit, averaged over units.
    """
    parts = {}
    for part, axis in (("population", 1), ("lifetime", 0)):
        n = activation.shape[axis]
        a = _evenness(activation, axis).square() / n
        parts[part] = ((1 - a) / (1 - 1 / n)).mean().item() if n > 1 else math.nan
    return parts


def _evenness(activation: Tensor, axis: int) -> Tensor:
    """‖h‖₁/‖h‖₂ along `axis`, from 1 (one entry) to √n (all of a size), float64, without the h that are silent."""
    total, length = (torch.linalg.vector_norm(activation, p, dim=axis).double() for p in (1, 2))
    answered = length != 0  # NaN stays
    return (total[answered] / length[answered]).clamp_max(activation.shape[axis] ** 0.5)


@needs(classes=2)
def class_selectivity(activation: Tensor, label: Tensor) -> float:
    """The share of a unit's activation that its preferred class makes up, averaged over units. Units that are silent
    throughout are left out; NaN where all are. The first study's definition, which is not Morcos's index.

        mean over units of max_k μ_k / Σ_k μ_k,  μ_k = mean |h| over the samples of class k

    Range: 1/classes (no preference) to 1.
    Unit: none.
    Cost: one pass over the activations.
    Source: O'Quinn, "What happens to a neural network's geometry when you change how it learns?", 2026.
    """
    means, total = _class_sizes(activation, label)
    return (means.amax(0) / total).mean().item()


@needs(classes=2)
def morcos_selectivity(activation: Tensor, label: Tensor) -> float:
    """How much more a unit answers to its preferred class than to the others, averaged over units. Of |h|: with signed
    activations the index would leave its range. Units that are silent throughout are left out; NaN where all are.

        mean over units of (μ_max − μ_rest) / (μ_max + μ_rest),  μ_k = mean |h| over the samples of class k,
        μ_rest the mean of μ_k over the classes but the preferred one

    Range: 0 (no preference) to 1 (one class only).
    Unit: none.
    Cost: one pass over the activations.
    Source: Morcos et al., "On the importance of single directions for generalization", arXiv 1803.06959, 2018.
    """
    means, total = _class_sizes(activation, label)
    best = means.amax(0)
    rest = (total - best) / (len(means) - 1)
    return ((best - rest) / (best + rest)).mean().item()


def _class_sizes(activation: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Mean |h| by class (classes, units) of the units that are not silent throughout, and its sum over classes."""
    means = class_means(activation.abs(), label)
    total = means.sum(0)
    answers = total != 0  # NaN stays
    return means[:, answers], total[answers]


def class_means(activation: Tensor, label: Tensor) -> Tensor:
    """(classes present, units): the mean over the samples of each class, in the order of the classes."""
    classes = label.unique()
    member = (label == classes[:, None]).to(activation.dtype)  # (classes, samples)
    return torch.matmul(member, activation) / member.sum(1, keepdim=True)


def centred(activation: Tensor) -> Tensor:
    """(samples, units) less its mean over the samples. The first sample is taken away before: differences of what lies
    close together are exact, so that units which do not vary give zeros, and float32 suffices.
    """
    difference = activation - activation[0]
    return difference.sub_(difference.mean(0))
