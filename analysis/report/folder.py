"""A report's folder holds one analysis: what an earlier one wrote and this one did not is taken away.

`analysis.json` lists the files (`files`: name → SHA-256) and what they are of (`of`, a digest of runs and options). A
file that is not listed there, or was changed since, is left alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from creditlab.analysis.data.collect import Sweep

NOTES = "analysis.json"


def digest(sweep: Sweep, options: Mapping[str, Any]) -> str:
    """Of what a table depends on: the runs as they stand, and the options."""
    from pandas.util import hash_pandas_object

    told = json.dumps([list(sweep.runs), options], sort_keys=True, default=str).encode()
    return hashlib.sha256(told + hash_pandas_object(sweep.runs, index=False).to_numpy().tobytes()).hexdigest()


def supersede(out: Path, written: Sequence[Path], of: str, page: bool) -> tuple[dict[str, str], list[str]]:
    """The files that `out` now holds, with their digests, and the names of those of an earlier analysis that were taken
    away. None are where this one made no `page` and is `of` the same: then its tables stand beside the others.
    """
    before = _read(out)
    now = {path.relative_to(out).as_posix(): _sha256(path) for path in written}
    if not page and before.get("of") == of:
        return before["files"] | now, []
    gone = [name for name, known in before.get("files", {}).items() if name not in now and _is(out, name, known)]
    for name in gone:
        (out / name).unlink()
    for folder in {(out / name).parent for name in gone} - {out}:
        if not any(folder.iterdir()):
            folder.rmdir()
    return now, gone


def _read(out: Path) -> dict[str, Any]:
    """What the last analysis said of its files; nothing where that cannot be read."""
    try:
        notes = json.loads((out / NOTES).read_text())
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) and isinstance(notes.get("files"), dict) else {}


def _is(out: Path, name: str, known: str) -> bool:
    """Whether the file is still what the analysis wrote, in `out`."""
    path = out / name
    return path.resolve().is_relative_to(out.resolve()) and path.is_file() and _sha256(path) == known


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
