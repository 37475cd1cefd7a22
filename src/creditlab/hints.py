"""The nearest valid name, for error messages about a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """The sentence " Did you mean …?", with a space before it; empty if no allowed name is near. A name of the same
    letters in another order is near.
    """
    names = list(allowed)
    same_letters = [other for other in names if sorted(other) == sorted(name)]
    close = get_close_matches(name, names, n=1, cutoff=0.6) or same_letters
    return f" Did you mean {close[0]}?" if close else ""
