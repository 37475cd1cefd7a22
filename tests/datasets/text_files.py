"""A small text in Tiny Shakespeare's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

KINDS = "abcdefghij \n"
LENGTH = 3000


def write_text(root: Path) -> Path:
    """3,000 characters of twelve kinds, each followed by some more often than by others."""
    draw = np.random.default_rng(0)
    steps = draw.choice([1, 2, 5], LENGTH, p=[0.6, 0.3, 0.1]).cumsum() % len(KINDS)
    path = root / "tinyshakespeare" / "input.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(KINDS[i] for i in steps).encode())
    return path
