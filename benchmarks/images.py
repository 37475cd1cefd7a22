"""Random images of MNIST's shape and number, for benchmarks on a machine without the data: made in memory, written
nowhere. Speed does not depend on what an image shows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch

from creditlab.datasets.base import Arrays, Dataset, image_arrays


class RandomImages(Dataset):
    """Takes the keys of dataset=mnist; `root` and `download` are of no effect."""

    def __init__(
        self,
        *,
        root: str,
        download: bool,
        pad: int,
        normalise: Literal["standard", "unit"],
        limit: int | None,
        test_limit: int | None,
        validation: float,
        crop: int,
        flip: bool,
    ) -> None:
        super().__init__(
            _arrays(pad),
            normalise=normalise,
            limit=limit,
            test_limit=test_limit,
            validation=validation,
            crop=crop,
            flip=flip,
        )


@lru_cache(maxsize=1)
def _arrays(pad: int) -> Arrays:
    generator = torch.Generator().manual_seed(0)
    sets = [
        (
            torch.randint(256, (samples, 1, 28, 28), generator=generator, dtype=torch.uint8),
            torch.randint(10, (samples,), generator=generator),
        )
        for samples in (60_000, 10_000)
    ]
    return image_arrays(*sets, classes=10, high=255, pad=pad)
