"""Files that are there whole or not at all, after a kill and after a power cut."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Have `write` fill a file aside, sync it, and move it to `path`: the old file or the new is there, no part, even
    after a power cut (which of the two it then is, only `sync_folder` makes sure).
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(aside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()
        if isinstance(error, OSError) and error.filename is None:  # of a full disk: say where
            error.filename = str(path)
        raise


def sync_folder(folder: Path) -> None:
    """Wait until what was moved into place in `folder` is there for good."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def finite(value: Any) -> Any:
    """NaN and infinities as null, for JSON has none of them."""
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_json(content: Mapping) -> str:
    return json.dumps(finite(content), indent=1, allow_nan=False) + "\n"


def write_json(path: Path, content: Mapping) -> None:
    text = to_json(content)
    write_whole(path, lambda file: file.write(text.encode()))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    write_whole(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))  # type: ignore[arg-type]
