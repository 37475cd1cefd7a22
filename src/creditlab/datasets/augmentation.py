"""Augmentation of a batch of images in tensor code: one draw per sample, no loop over samples.

Random numbers are always drawn on the CPU, so they are the same on every machine and for every device of the images.

Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016, §4.2, which
uses a crop of 4 pixels and the flip on CIFAR-10.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad


def random_crop(images: Tensor, padding: int, generator: Generator) -> Tensor:
    """Move each of `images` (n, c, h, w) by up to `padding` pixels in each direction, and fill with zeros."""
    n, _, h, w = images.shape
    down, across = torch.randint(0, 2 * padding + 1, (2, n), generator=generator).to(images.device)
    windows = pad(images, (padding,) * 4).unfold(2, h, 1).unfold(3, w, 1)  # (n, c, 2p+1, 2p+1, h, w), a view
    return windows[torch.arange(n, device=images.device), :, down, across]


def random_flip(images: Tensor, generator: Generator) -> Tensor:
    """Mirror each of `images` (n, c, h, w) left to right with probability ½."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(3), images)
