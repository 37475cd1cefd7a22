"""Augmentation of a batch of images as tensor code: a draw for each sample, no loop over samples.

Random numbers are drawn on the CPU whatever the device of the images, so they are the same on every machine.

Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", CVPR 2016, §4.2: a crop of 4 pixels and the
flip, on CIFAR-10.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad


def random_crop(images: Tensor, padding: int, generator: Generator) -> Tensor:
    """Each of `images` (n, c, h, w) moved by up to `padding` pixels either way, down and across; zeros move in."""
    n, _, h, w = images.shape
    down, across = torch.randint(0, 2 * padding + 1, (2, n), generator=generator).to(images.device)
    windows = pad(images, (padding,) * 4).unfold(2, h, 1).unfold(3, w, 1)  # (n, c, 2p+1, 2p+1, h, w), a view
    return windows[torch.arange(n, device=images.device), :, down, across]


def random_flip(images: Tensor, generator: Generator) -> Tensor:
    """Each of `images` (n, c, h, w) mirrored left to right with probability ½."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(3), images)
