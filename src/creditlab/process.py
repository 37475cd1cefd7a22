"""What a command changes in its own process before it trains. `creditlab.training` itself changes none of it."""

from __future__ import annotations

import ctypes

import torch

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # options of mallopt, from malloc.h
GIBIBYTE = 1 << 30


def prepare_process(threads: int) -> None:
    """Make this process compute with `threads` threads and keep the memory that it frees. A command calls this before
    it trains; a process that trains several runs calls it before each.
    """
    torch.set_num_threads(threads)
    keep_memory()


def keep_memory() -> None:
    """Let glibc keep freed memory. Without this, every step returns its tensors to the system, which takes a tenth of a
    run's time.
    """
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for option in (TRIM_THRESHOLD, MMAP_THRESHOLD):
            mallopt(option, GIBIBYTE)
