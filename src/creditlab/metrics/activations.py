"""What the units of a hidden block do on a fixed set of test samples."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from creditlab.keys import NonNegative


def zero_fraction(activation_map: Tensor, *, threshold: NonNegative) -> float:
    """The share of activations, over samples (axis 0), units and positions, whose size is at most `threshold`: the
    first study's "sparsity", as far as its numbers tell (a network that "uses all units" is 39.8 % sparse there).
    0 to 1.
    """
    return (activation_map.abs() <= threshold).double().mean().item()


def dead_fraction(activation_map: Tensor, *, threshold: NonNegative) -> float:
    """The share of units (axis 1 of samples, units, positions) whose activation is at most `threshold` in size for
    every sample at every position. 0 to 1.
    """
    return (activation_map.abs().amax(dim=(0, 2)) <= threshold).double().mean().item()


def class_selectivity(activation: Tensor, label: Tensor) -> float:
    """The share of a unit's activation that its preferred class makes up: max_k μ_k / Σ_k μ_k, with μ_k the mean of
    |activation| over the samples of class k; averaged over units that are not silent throughout.

    `activation` (samples, units), `label` (samples,). From 1/classes (no preference) to 1; NaN where all are silent.
    The first study's definition, which is not Morcos's index (arXiv 1803.06959).
    """
    means = class_means(activation.abs(), label)  # (classes, units)
    total = means.sum(0)
    if not (total > 0).any():
        return math.nan
    return (means.amax(0)[total > 0] / total[total > 0]).mean().item()


def class_means(activation: Tensor, label: Tensor) -> Tensor:
    """(classes present, units): the mean over the samples of each class, in the order of the classes."""
    classes = label.unique()
    member = (label == classes[:, None]).to(activation.dtype)  # (classes, samples)
    return torch.matmul(member, activation) / member.sum(1, keepdim=True)
