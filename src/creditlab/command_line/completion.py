"""What tab completion offers: those of Hydra's suggestions that creditlab accepts."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from creditlab.config import ConfigError

OF_A_SWEEP = re.compile(r"hydra(/(launcher|sweeper)|\.(launcher|sweeper|sweep)\.)")


def is_accepted(suggestion: str, in_sweep: bool) -> bool:
    """Whether creditlab accepts `suggestion`, part of an override. `in_sweep`: whether -m was given."""
    key = re.split(r"[=/]", suggestion)[0]
    if key.startswith(("+", "~")):
        return key == "+experiment"  # an option of the other groups is chosen already, and cannot be left out
    return key != "experiment" and (in_sweep or not OF_A_SWEEP.match(suggestion))


@contextlib.contextmanager
def only_accepted() -> Iterator[None]:
    """If a shell asks for suggestions, leave out those that creditlab would reject. A mistake in the words before the
    cursor is no reason to write into the user's line: then there are no suggestions.
    """
    if not {"-sc", "--shell-completion"} & {*sys.argv} or not any(word.startswith("query=") for word in sys.argv):
        yield
        return
    in_sweep = bool({"-m", "--multirun"} & {*os.environ.get("COMP_LINE", "").split()})
    with contextlib.redirect_stdout(io.StringIO()) as answer:
        try:
            yield
        except (ConfigError, HydraException, OmegaConfBaseException):
            return
    suggestions = answer.getvalue().strip()
    separator = "\n" if "\n" in suggestions else " "  # fish reads one per line, bash a single line
    print(separator.join(word for word in suggestions.split(separator) if is_accepted(word, in_sweep)))
