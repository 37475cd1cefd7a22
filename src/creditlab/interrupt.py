"""A request to stop: a signal makes it, and the training loop obeys at the end of a step, after a checkpoint.

The first Ctrl-C asks; a second one ends the process at once, as it would have done without us.
"""

from __future__ import annotations

import signal
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A run was stopped as asked; its folder holds what it resumes from."""


_asked: list[signal.Signals] = []


def watch(*signals: signal.Signals) -> None:
    """Take each of `signals` as a request to stop."""
    for number in signals:
        signal.signal(number, _ask)


def _ask(number: int, frame: FrameType | None) -> None:
    _asked.append(signal.Signals(number))
    if number == signal.SIGINT:
        signal.signal(number, signal.default_int_handler)


def asked() -> signal.Signals | None:
    """The signal that asked this process to stop, if one did."""
    return _asked[0] if _asked else None
