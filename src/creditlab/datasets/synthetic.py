"""Synthetic tasks whose truth is known: labels from a random teacher network, or one Gaussian per class.

    teacher:   x ~ N(0, I),  y = argmax_c of (z_c − mean z_c) / std z_c,  z = V tanh(U x),  U ~ N(0, 1/d),
               V ~ N(0, 1/width)
    gaussian:  x ~ N(μ_y, I),  |μ_a − μ_b| = separation for every pair of classes, the sum of the means is zero

The teacher's scores are standardised over the training samples, which makes the classes about equally frequent. The
best possible accuracy for two Gaussian classes is Φ(separation / 2). The label of a training sample is replaced by
another class, chosen uniformly, with probability `noise`. Test labels are never replaced.

Source: Gardner, Derrida, "Three unfinished works on the optimal storage capacity of networks", J. Phys. A 1989 (teacher
and student).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Literal

import torch
from torch import Generator, Tensor

from creditlab import seeding
from creditlab.datasets.base import Arrays, Dataset
from creditlab.keys import Count, Fraction, NonNegative, PositiveInt, Range

Kind = Literal["teacher", "gaussian"]


class Synthetic(Dataset):
    """`samples` training inputs and `test_samples` test inputs of `shape`. They are drawn from `data_seed`, so they are
    the same for every seed of a run. `width` belongs to the teacher, `separation` to the Gaussians.
    """

    def __init__(
        self,
        *,
        kind: Literal["teacher", "gaussian"],
        samples: PositiveInt,
        test_samples: PositiveInt,
        shape: list[PositiveInt],
        classes: Annotated[int, Range(2)],
        width: PositiveInt,
        separation: NonNegative,
        noise: Fraction,
        data_seed: Count,
        validation: Annotated[float, Range(0, 1, open_high=True)],
    ) -> None:
        features = math.prod(shape)
        if len(shape) not in (1, 3):
            raise ValueError(f"shape={list(shape)}: must be [features] or [channels, height, width]")
        if kind == "gaussian" and features < classes:
            raise ValueError(
                f"shape={list(shape)} has {features} entries, too few for {classes} Gaussians: give at least as many"
            )
        super().__init__(
            _draw(kind, samples, test_samples, tuple(shape), classes, width, separation, noise, data_seed),
            normalise="standard",
            limit=None,
            test_limit=None,
            validation=validation,
            crop=0,
            flip=False,
        )


@lru_cache(maxsize=2)
def _draw(
    kind: Kind,
    samples: int,
    test_samples: int,
    shape: tuple[int, ...],
    classes: int,
    width: int,
    separation: float,
    noise: float,
    data_seed: int,
) -> Arrays:
    generator = seeding.generator(data_seed, "data")
    total, features = samples + test_samples, math.prod(shape)
    if kind == "teacher":
        x = torch.randn(total, features, generator=generator)
        y = teacher_labels(x, samples, classes, width, generator)
    else:
        y = torch.randint(classes, (total,), generator=generator)
        x = (
            torch.randn(total, features, generator=generator)
            + gaussian_means(classes, features, separation, generator)[y]
        )
    x = x.reshape(total, *shape)
    train_x, train_y = x[:samples], replaced(y[:samples], classes, noise, generator)
    low, high = train_x.min().item(), train_x.max().item()
    mean, std = (
        torch.zeros(1, dtype=torch.float64),
        torch.ones(1, dtype=torch.float64),
    )  # inputs are returned as they were drawn
    return Arrays(train_x, train_y, x[samples:], y[samples:], classes, low, high, mean, std)


def teacher_labels(x: Tensor, samples: int, classes: int, width: int, generator: Generator) -> Tensor:
    """The teacher's labels (n,) of inputs (n, features). Its scores are standardised over the first `samples`."""
    features = x.shape[1]
    first = torch.randn(features, width, generator=generator) / math.sqrt(features)
    second = torch.randn(width, classes, generator=generator) / math.sqrt(width)
    z = (x @ first).tanh() @ second  # (n, classes)
    std, mean = torch.std_mean(z[:samples], dim=0, correction=0)
    return ((z - mean) / std).argmax(1)


def gaussian_means(classes: int, features: int, separation: float, generator: Generator) -> Tensor:
    """Means (classes, features) in random directions. The distance between any two is `separation`."""
    directions = torch.linalg.qr(torch.randn(features, classes, generator=generator)).Q.T  # orthonormal rows
    means = directions * separation / math.sqrt(2)
    return means - means.mean(0)


def replaced(labels: Tensor, classes: int, noise: float, generator: Generator) -> Tensor:
    """`labels` (n,), each of them replaced by another class with probability `noise`."""
    other = (labels + torch.randint(1, classes, labels.shape, generator=generator)) % classes
    return torch.where(torch.rand(labels.shape, generator=generator) < noise, other, labels)
