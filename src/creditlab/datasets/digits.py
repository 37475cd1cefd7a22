"""Digits: 1,797 handwritten digits of 8 × 8 pixels with values 0 to 16. They come with scikit-learn: no download.

The file is read from the folder of scikit-learn. That package is not imported, because its import takes a second and
imports pandas. The test samples are drawn by class and are the same for every seed.

Source: Alpaydin, Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998: the test
part.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from creditlab import seeding
from creditlab.datasets.base import Arrays, Dataset, image_arrays
from creditlab.keys import Count, PositiveInt, Range


class Digits(Dataset):
    """The test set is the share `test_fraction` of each class. `pad` adds a border of that many zeros. For the other
    keys see `base.Dataset`.
    """

    def __init__(
        self,
        *,
        test_fraction: Annotated[float, Range(0, 1, open_low=True, open_high=True)],
        pad: Count,
        normalise: Literal["standard", "unit"],
        limit: PositiveInt | None,
        validation: Annotated[float, Range(0, 1, open_high=True)],
    ) -> None:
        super().__init__(
            _load(test_fraction, pad),
            normalise=normalise,
            limit=limit,
            test_limit=None,
            validation=validation,
            crop=0,
            flip=False,
        )


@lru_cache(maxsize=2)
def _load(test_fraction: float, pad: int) -> Arrays:
    package = importlib.util.find_spec("sklearn")
    assert package is not None
    assert package.submodule_search_locations
    path = Path(package.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    table = torch.from_numpy(np.loadtxt(path, delimiter=",", dtype=np.uint8))  # (1797, 64 pixels and the label)
    x, y = table[:, :64].reshape(-1, 1, 8, 8).contiguous(), table[:, 64].long()
    test = stratified(y, test_fraction)
    if test.all() or not test.any():
        raise ValueError(f"test_fraction={test_fraction} leaves no training samples or no test samples: try 0.2")
    return image_arrays((x[~test], y[~test]), (x[test], y[test]), classes=10, high=16, pad=pad)


def stratified(labels: Tensor, fraction: float) -> Tensor:
    """A mask (samples,) that chooses the share `fraction` of each class of `labels`. It is the same at every call."""
    order = torch.randperm(len(labels), generator=seeding.generator(0, "data"))
    order = order[labels[order].argsort(stable=True)]  # by class, in random order within a class
    sizes = labels.bincount()
    starts = sizes.cumsum(0) - sizes
    rank = torch.arange(len(labels)) - starts[labels[order]]
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[order] = rank < (fraction * sizes).round()[labels[order]]
    return mask
