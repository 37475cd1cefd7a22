"""Named, independent random streams. Each depends only on (seed, stream, step), not on what was drawn before.

    state = SHA-256("creditlab/<stream>/<seed>/<step>"), its first 63 bits

So all runs of one seed have the same initial weights and the same batches, for every algorithm and optimiser: contrasts
are paired. Resuming needs no generator state. A new stream does not change the others. Streams in use: init, order,
augmentation, feedback, algorithm, update, validation, metrics/<name>; and data, trajectory and metrics, which are the
same for every seed.
"""

from __future__ import annotations

import hashlib

import torch


def state(seed: int, stream: str, step: int = 0) -> int:
    """The 63-bit integer that seeds `stream` at `step`."""
    digest = hashlib.sha256(f"creditlab/{stream}/{seed}/{step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, stream: str, step: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator at the start of `stream` for `step`. Numbers drawn on the CPU are the same on every machine."""
    return torch.Generator(device).manual_seed(state(seed, stream, step))
