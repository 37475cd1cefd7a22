from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from creditlab.datasets.augmentation import random_crop, random_flip


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shifted(image: Tensor, down: int, across: int) -> Tensor:
    """Pixel by pixel: out[y, x] = image[y + down, x + across], zero outside."""
    _, h, w = image.shape
    out = torch.zeros_like(image)
    for y in range(h):
        for x in range(w):
            if 0 <= y + down < h and 0 <= x + across < w:
                out[:, y, x] = image[:, y + down, x + across]
    return out


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    padding=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_crop_is_the_loop_over_samples(shape: tuple[int, ...], padding: int, seed: int) -> None:
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(seed))
    down, across = torch.randint(0, 2 * padding + 1, (2, shape[0]), generator=generator(seed)) - padding
    expected = [shifted(i, int(d), int(a)) for i, d, a in zip(images, down, across, strict=True)]
    cropped = random_crop(images, padding, generator(seed))
    assert cropped.dtype == torch.uint8
    assert torch.equal(cropped, torch.stack(expected))


@given(n=st.integers(1, 20), seed=st.integers(0, 1000))
def test_flip_is_the_loop_over_samples(n: int, seed: int) -> None:
    images = torch.randint(0, 256, (n, 3, 4, 5), dtype=torch.uint8, generator=generator(seed))
    mirrored = torch.rand(n, generator=generator(seed)) < 0.5
    flipped = random_flip(images, generator(seed))
    for image, out, m in zip(images, flipped, mirrored, strict=True):
        columns = [4, 3, 2, 1, 0] if m else [0, 1, 2, 3, 4]
        assert torch.equal(out, image[:, :, columns])


def test_every_offset_is_as_likely() -> None:
    images = torch.zeros(20_000, 1, 3, 3, dtype=torch.uint8)
    images[:, :, 1, 1] = 1  # where the bright pixel lands tells the offset
    counts = random_crop(images, 1, generator(0)).sum(0).flatten().double()
    assert counts.sum() == 20_000
    assert ((counts - 20_000 / 9).abs() < 5 * (20_000 * 8 / 81) ** 0.5).all()


def test_images_are_left_as_they_are() -> None:
    images = torch.randint(0, 256, (4, 1, 5, 5), dtype=torch.uint8, generator=generator(0))
    before = images.clone()
    random_crop(images, 2, generator(1))
    random_flip(images, generator(1))
    assert torch.equal(images, before)
