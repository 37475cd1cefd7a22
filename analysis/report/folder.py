"""A report's folder holds one analysis: a new one removes what an earlier one wrote and it did not.

`analysis.json` lists the files (`files`: name → SHA-256) and what they are of (`of`, a digest of runs and options). A
file that is not listed there, or was changed since, is left alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from creditlab import files
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.names import AnalysisError
from creditlab.analysis.report.export import SUFFIXES, as_bytes
from creditlab.records import write_json, write_whole

NOTES = "analysis.json"


def digest(sweep: Sweep, options: Mapping[str, Any]) -> str:
    """A hash of what a table depends on: the runs as they stand, and the options."""
    from pandas.util import hash_pandas_object

    head = json.dumps([list(sweep.runs), options], sort_keys=True, default=str).encode()
    return hashlib.sha256(head + hash_pandas_object(sweep.runs, index=False).to_numpy().tobytes()).hexdigest()


class Folder:
    """The folder `path` of the analysis that is `of` these runs and options; `whole` unless it makes some tables only.

    Raises AnalysisError where the folder cannot be made.
    """

    def __init__(self, path: Path, of: str, whole: bool) -> None:
        self.path, self.of, self.whole = path, of, whole
        self.written: list[Path] = []
        try:
            path.mkdir(exist_ok=True, parents=True)
        except OSError as error:
            raise AnalysisError(f"cannot write to {path}: {error.strerror}.") from None

    @property
    def is_new(self) -> bool:
        """Whether no earlier analysis has been written here."""
        return not (self.path / NOTES).exists()

    def write_table(self, name: str, frame: pd.DataFrame, formats: Sequence[str]) -> None:
        for form in formats:
            path = self.path / f"{name}.{SUFFIXES[form]}"
            write_whole(path, lambda file, form=form: file.write(as_bytes(frame, form)))  # type: ignore[misc]
            self.written.append(path)

    def add(self, paths: Iterable[Path]) -> None:
        """Files that were written beside the tables."""
        self.written += paths

    def finish(self, notes: Mapping[str, Any]) -> list[str]:
        """Write analysis.json with `notes`, and remove what an earlier analysis wrote; the names of what was removed.

        Nothing is removed where this analysis made some tables only, of the same runs and options: they stand beside
        the others.
        """
        before = _read(self.path)
        made = {path.relative_to(self.path).as_posix(): files.sha256(path) for path in self.written}
        removed: list[str] = []
        if not self.whole and before.get("of") == self.of:
            made = before["files"] | made
        else:
            listed = before.get("files", {})
            removed = [name for name in listed if name not in made and self._holds(name, listed[name])]
        for name in removed:
            (self.path / name).unlink()
        for folder in {(self.path / name).parent for name in removed} - {self.path}:
            if not any(folder.iterdir()):
                folder.rmdir()
        self.written.append(self.path / NOTES)
        write_json(self.written[-1], {"of": self.of, "files": made, **notes})
        return removed

    def _holds(self, name: str, sha256: str) -> bool:
        """Whether the file `name` lies in this folder and is still what an analysis wrote."""
        path = self.path / name
        try:
            return path.resolve().is_relative_to(self.path.resolve()) and files.sha256(path) == sha256
        except (OSError, ValueError):  # there is none, or it is a link, say
            return False


def _read(folder: Path) -> dict[str, Any]:
    """What the last analysis noted; nothing where that cannot be read."""
    try:
        notes = json.loads(files.read_bytes(folder / NOTES, files.RECORD))
    except (OSError, ValueError, RecursionError):
        return {}
    return notes if isinstance(notes, dict) and isinstance(notes.get("files"), dict) else {}
