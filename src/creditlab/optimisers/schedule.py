"""The learning rate during training: a factor that depends only on the step.

    warm-up, step < w:   (step + 1)/(w + 1)
    then, with t = (step − w)/(total − w):   constant 1,   linear 1 − t,   cosine ½(1 + cos πt)

Source of the cosine: Loshchilov & Hutter, "SGDR", ICLR 2017 (arXiv 1608.03983), without restarts.
"""

from __future__ import annotations

import math
from typing import Literal

from torch.optim import Optimizer


def factor(step: int, total: int, shape: Literal["constant", "cosine", "linear"], warmup: int) -> float:
    """The share of the full learning rate, in (0, 1], at `step` from 0 to `total` − 1. It first reaches 1 at `warmup`.
    `linear` and `cosine` would reach 0 at `total`. Raises ValueError if the warm-up is longer than training.
    """
    if warmup > total:
        raise ValueError(f"warmup={warmup}: must not exceed the {total} steps of training. Lower it, or train longer.")
    assert 0 <= step < total, f"step {step} of {total}"
    if step < warmup:
        return (step + 1) / (warmup + 1)
    t = (step - warmup) / (total - warmup)
    return {"constant": 1.0, "linear": 1 - t, "cosine": (1 + math.cos(math.pi * t)) / 2}[shape]


def set_lr(optimiser: Optimizer, factor: float) -> None:
    """Set the `lr` of every group to `factor` times its initial value."""
    for group in optimiser.param_groups:
        group["lr"] = factor * group.setdefault("initial_lr", group["lr"])
