"""The contract of data sets. A data set lies in memory as a whole, as integers. Batches are made by tensor operations:
indexing, augmentation, normalisation.

    x = (raw − offset) / spread

With `normalise: standard`, offset and spread are the mean and standard deviation of each channel of the training
images. They are exact, because they come from the histogram of the integers. `unit` maps the range of the raw values to
[0, 1]. No Python code runs per sample and there is no worker process. The test samples, and the samples that `limit`
keeps, are the same for every seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad as pad_border

from creditlab import seeding
from creditlab.datasets.augmentation import random_crop, random_flip
from creditlab.datasets.rows import Rows
from creditlab.keys import Count, PositiveInt, Range
from creditlab.task import Task


@dataclass(frozen=True)
class Arrays:
    """A data set as it was read. All data sets of a process share it, so nothing may write to its tensors."""

    train_x: Tensor  # (samples, *input_shape), raw
    train_y: Tensor  # (samples,) integers
    test_x: Tensor
    test_y: Tensor  # (samples,) int64
    classes: int
    low: float  # the smallest value of a raw entry; `high` is the largest
    high: float
    mean: Tensor  # float64, broadcasts over input_shape: (channels, 1, 1) for images
    std: Tensor
    tokens: int | None = None  # as in Task


def image_arrays(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], classes: int, high: int, pad: int
) -> Arrays:
    """Arrays of images (samples, channels, height, width), uint8 in [0, high], and of their labels. Each image gets a
    border of `pad` zeros. Mean and standard deviation are those of the training images without the border.
    """
    (train_x, train_y), (test_x, test_y) = train, test
    mean, std = moments(train_x)
    if pad:
        train_x, test_x = (pad_border(x, (pad,) * 4) for x in (train_x, test_x))
    return Arrays(train_x, train_y.long(), test_x, test_y.long(), classes, 0.0, float(high), mean, std)


def moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of uint8 `images` (n, c, h, w): two (c, 1, 1) in float64."""
    counts = torch.stack([torch.bincount(images[:, c].flatten(), minlength=256) for c in range(images.shape[1])])
    share = counts.double() / counts.sum(1, keepdim=True)  # (c, 256)
    values = torch.arange(256.0, dtype=torch.float64)
    mean = share @ values
    std = (share * (values - mean[:, None]).square()).sum(1).sqrt()
    return mean[:, None, None], torch.where(std > 0, std, 1.0)[:, None, None]


class Dataset:
    """Training, validation and test samples of a classification task.

    `train_x`, `validation_x` and `test_x` are raw inputs, as `normalise` takes them. Their labels are `train_y` and so
    on. The validation set is empty until `split` is called; then both parts are `Rows` of the samples.
    `low` and `high` are the smallest and the largest value of a raw entry.

    `limit` and `test_limit` keep that many samples. The choice is the same for every seed, and a smaller set is part of
    a larger one. `validation` is the share of the training samples that `split` holds out. `crop` and `flip` augment
    images.
    """

    def __init__(
        self,
        arrays: Arrays,
        *,
        normalise: Literal["standard", "unit"],
        limit: PositiveInt | None,
        test_limit: PositiveInt | None,
        validation: Annotated[float, Range(0, 1, open_high=True)],
        crop: Count,
        flip: bool,
    ) -> None:
        self.train_x: Tensor | Rows
        self.train_y: Tensor | Rows
        self.validation_x: Tensor | Rows
        self.validation_y: Tensor | Rows
        self.train_x, self.train_y = train_x, train_y = _subset(arrays.train_x, arrays.train_y, limit, "limit")
        self.test_x, self.test_y = _subset(arrays.test_x, arrays.test_y, test_limit, "test_limit")
        self.validation_x, self.validation_y = train_x[:0], train_y[:0]
        self._held_out = round(validation * len(self.train_y))
        if self._held_out == len(self.train_y):
            raise ValueError(
                f"validation={validation} leaves none of the {len(self.train_y)} samples to train on: lower it"
            )
        if validation and not self._held_out:
            raise ValueError(
                f"validation={validation} holds out none of {len(self.train_y)} samples: raise it, or give 0"
            )
        self.crop, self.flip = crop, flip
        self.low, self.high = arrays.low, arrays.high
        standard = normalise == "standard"
        offset = arrays.mean if standard else torch.full_like(arrays.mean, arrays.low)
        spread = arrays.std if standard else torch.full_like(arrays.std, arrays.high - arrays.low)
        self._gain, self._bias = 1 / spread, -offset / spread  # float64
        self.task = Task(
            input_shape=tuple(train_x.shape[1:]),
            classes=arrays.classes,
            low=(arrays.low * self._gain + self._bias).min().item(),
            high=(arrays.high * self._gain + self._bias).max().item(),
            tokens=arrays.tokens,
        )
        self.to(torch.device("cpu"), torch.float32)

    @classmethod
    def require(cls, **keys: Any) -> None:
        """Check that the data are on this machine, without reading them. Takes the keys of the constructor. Raises the
        ValueError that the constructor would raise if they are missing.
        """

    @property
    def augments(self) -> bool:
        """Whether `batch` needs a generator."""
        return bool(self.crop or self.flip)

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move everything to `device`. From now on inputs are returned in `dtype`."""
        moved: dict[int, Tensor] = {}  # a tensor that several parts share is moved once

        def move(part: Tensor | Rows) -> Tensor | Rows:
            whole = part.whole if isinstance(part, Rows) else part
            on_device = moved.setdefault(id(whole), whole.to(device))
            return Rows(on_device, part.indices.to(device)) if isinstance(part, Rows) else on_device

        for name in ("train", "validation", "test"):
            for part in (f"{name}_x", f"{name}_y"):
                setattr(self, part, move(getattr(self, part)))
        self._dtype = dtype
        self._gain_on_device, self._bias_on_device = (t.to(dtype).to(device) for t in (self._gain, self._bias))

    def split(self, seed: int) -> None:
        """Move the share `validation` of the training samples, chosen by `seed`, to the validation set. Call once."""
        assert not len(self.validation_y), "already split"
        if not self._held_out:
            return
        order = torch.randperm(len(self.train_y), generator=seeding.generator(seed, "validation"))
        held_out, kept = order[: self._held_out], order[self._held_out :]
        x, y = self.train_x, self.train_y
        assert isinstance(x, Tensor)
        assert isinstance(y, Tensor)
        self.validation_x, self.validation_y = Rows(x, held_out), Rows(y, held_out)
        self.train_x, self.train_y = Rows(x, kept), Rows(y, kept)

    def batch(self, indices: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """The training samples at `indices` (batch,), which lie on the device of the data: normalised inputs
        (batch, *input_shape) and int64 labels (batch,). They are augmented only if a generator (on the CPU) is given.
        """
        x = self.train_x.index_select(0, indices)
        if generator is not None:
            if self.crop:
                x = random_crop(x, self.crop, generator)
            if self.flip:
                x = random_flip(x, generator)
        return self.normalise(x), self.train_y.index_select(0, indices).long()

    def normalise(self, raw: Tensor) -> Tensor:
        """Raw inputs (any, *input_shape) in the form that the network takes, in the dtype given to `to`."""
        return torch.addcmul(self._bias_on_device, raw.to(self._dtype), self._gain_on_device)


def _subset(x: Tensor, y: Tensor, limit: int | None, key: str) -> tuple[Tensor, Tensor]:
    if limit is None:
        return x, y
    if limit > len(y):
        raise ValueError(f"{key}={limit}: there are {len(y)} samples. Give at most that many, or null for all")
    chosen = torch.randperm(len(y), generator=seeding.generator(0, "data"))[:limit]
    return x[chosen], y[chosen]
