"""Named, independent random streams: each a function of (seed, stream, step), not of how one got there.

    state = SHA-256("creditlab/<stream>/<seed>/<step>"), its first 63 bits

So runs of one seed share initial weights and batches whatever the algorithm and the optimiser (contrasts are paired),
resuming needs no generator state, and a new stream changes no other. In use: init, order, augmentation, feedback,
algorithm, update, validation; data, trajectory and metrics (the same for every seed); metrics/<name>.
"""

from __future__ import annotations

import hashlib

import torch


def state(seed: int, stream: str, step: int = 0) -> int:
    """The 63-bit integer that starts `stream` at `step`."""
    digest = hashlib.sha256(f"creditlab/{stream}/{seed}/{step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, stream: str, step: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator at the start of `stream` for `step`. Numbers drawn on the CPU are the same on every machine."""
    return torch.Generator(device).manual_seed(state(seed, stream, step))
