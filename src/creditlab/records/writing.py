"""Writes what a run leaves behind. Only the holder of the folder's lock calls this."""

from __future__ import annotations

import hashlib
import json
import os
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from creditlab import files
from creditlab.files import finite, sync_folder, to_json, write_sealed, write_whole
from creditlab.provenance import provenance
from creditlab.records.identity import identifying, identity
from creditlab.records.reading import KEPT, SCHEMA, RecordError, Run, digest, read_run
from creditlab.sources import code_of


class History:
    """Appends to `history.jsonl`. A checkpoint keeps `size`, so that resuming drops later lines.

    Resuming continues in a new file. A former writer that still has the old file open can then do no harm.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        kept = files.read_bytes(path, files.HISTORY)[:size] if size else b""
        if kept:
            write_whole(path, lambda file: file.write(kept))
        else:
            path.unlink(missing_ok=True)
        self._file = open(path, "ab")  # noqa: SIM115 (kept open during the run)
        self.size, self._sha256 = len(kept), hashlib.sha256(kept)

    @property
    def sha256(self) -> str:
        """The digest of the lines so far."""
        return self._sha256.hexdigest()

    def append(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        line = json.dumps(finite({"step": step, "epoch": epoch, "metrics": metrics}), allow_nan=False) + "\n"
        self._file.write(line.encode())
        self._file.flush()
        self.size += len(line.encode())
        self._sha256.update(line.encode())

    def sync(self) -> None:
        """To be called before a checkpoint that relies on these lines."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self.sync()
        self._file.close()


def find_run(folder: Path, config: Mapping) -> Run:
    """The run of `config` in `folder`, which need not exist. Raises RecordError if the folder holds another config; the
    message names the keys that differ.
    """
    if folder.is_symlink():
        raise RecordError(f"{folder} is a link, which is not followed. Remove the link.")
    run = read_run(folder)
    if run.newer:
        raise RecordError(f"{folder}: {run.problem}.")
    if (
        run.config is not None
        and run.config != config
        and (run.status == "corrupt" or run.identity != identity(config))
    ):
        old, new = identifying(run.config), identifying(config)
        differ = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
        if differ:
            shown = "; ".join(f"{k}: {old.get(k)!r} in the folder, {new.get(k)!r} now" for k in differ[:5])
            raise RecordError(f"{folder} belongs to another config ({shown}). Move it away or give another folder.")
    return run


def open_run(folder: Path, config: Mapping) -> Run:
    """`find_run`, but makes the folder if necessary. Raises RecordError also if it cannot be written."""
    make_folder(folder)
    return find_run(folder, config)


def make_folder(folder: Path) -> None:
    """Make `folder` if necessary. Raises RecordError if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"cannot write to {folder.absolute()}: {error.strerror}. Give another folder.") from None
    if not os.access(folder, os.W_OK):
        raise RecordError(f"cannot write to {folder.absolute()}: permission denied. Give another folder.")


def begin(folder: Path, config: Mapping, hydra: Mapping[str, str]) -> None:
    """Open the record of a run that starts or resumes: write `run.json`, and the files of `hydra` to `.hydra/`. Remove
    what an earlier failure left, but keep a checkpoint.
    """
    if (folder / ".hydra").is_symlink():
        raise RecordError(f"{folder / '.hydra'} is a link, and files are written into it. Remove the link.")
    (folder / ".hydra").mkdir(exist_ok=True)
    left = [*folder.glob(".*.tmp"), *(folder / ".hydra").glob(".*.tmp")]
    left = [path for path in left if not path.match(".lock.*.tmp")]  # of processes that want the lock just now
    for stale in [folder / "error.txt", folder / "summary.json", *left]:
        stale.unlink(missing_ok=True)
    for name, text in hydra.items():
        write_whole(folder / ".hydra" / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
    head = {"schema": SCHEMA, "identity": identity(config), "config": config, "started": time.time()}
    write_sealed(folder / "run.json", head | provenance() | {"code": code_of(config)})


def fail(folder: Path, config: Mapping, error: BaseException | str, step: int | None) -> None:
    """Write `error.txt`, which shows why the run stopped: first the cause, in one line, then the last step (`step` is
    None if it is not known), the traceback and the config.
    """
    trace = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
    cause = cause_of(error) if isinstance(error, BaseException) else error
    reached = "" if step is None else f"after step {step}\n\n"
    text = f"{cause}\n\n{reached}{trace}\n{to_json(config)}"
    write_whole(folder / "error.txt", lambda file: file.write(text.encode()))


def cause_of(error: BaseException) -> str:
    """The kind of an error and the first line of its message, if it has one (a MemoryError has none)."""
    return f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")


def finish(
    folder: Path, config: Mapping, status: str, step: int, metrics: Mapping[str, float], more: Mapping[str, Any]
) -> None:
    """Write the summary, which makes the run finished, and remove the checkpoint. `more`: its further fields."""
    head = {"schema": SCHEMA, "identity": identity(config), "status": status, "steps": step, **more}
    kept = [name for name in KEPT if (folder / name).exists()]
    tail = {
        "metrics": metrics,
        "files": {name: (folder / name).stat().st_size for name in kept},
        "files_sha256": {name: files.sha256(folder / name) for name in kept},
        "history_sha256": digest(folder / "history.jsonl"),
    }
    write_sealed(folder / "summary.json", head | tail)
    sync_folder(folder)
    (folder / "checkpoint.pt").unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Make a finished run an unfinished one that starts again from step 0."""
    for name in ("summary.json", "checkpoint.pt", "error.txt"):
        (folder / name).unlink(missing_ok=True)
