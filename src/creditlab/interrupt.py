"""A request to stop, made by a signal or by the process itself. The training loop obeys at the end of a step, after a
checkpoint.

The first Ctrl-C is a request. A second one ends the process at once, as Ctrl-C does by default.
"""

from __future__ import annotations

import signal
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A run was stopped on request; its folder holds what it needs to resume."""


_asked: list[signal.Signals] = []


def watch(*signals: signal.Signals) -> None:
    """From now on each of `signals` is a request to stop."""
    for number in signals:
        signal.signal(number, _ask)


def _ask(number: int, frame: FrameType | None) -> None:
    _asked.append(signal.Signals(number))
    if number == signal.SIGINT:
        signal.signal(number, signal.default_int_handler)


def ask(number: signal.Signals) -> None:
    """Ask this process to stop, as the signal `number` would. Any thread may call this."""
    _asked.append(number)


def asked() -> signal.Signals | None:
    """The first signal that asked this process to stop; None if there was none."""
    return _asked[0] if _asked else None
