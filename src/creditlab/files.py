"""Writing files so that each is complete or does not exist, even after a kill or a power cut."""

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
    """Have `write` fill a temporary file, sync it, and move it to `path`. So `path` is the old file or the new
    one, never a part, even after a power cut. Only `sync_folder` makes sure that it is the new one.
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
        if isinstance(error, OSError) and error.filename is None:  # the disk is full: name the file
            error.filename = str(path)
        raise


def sync_folder(folder: Path) -> None:
    """Wait until the files that were moved into `folder` are safe from a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def finite(value: Any) -> Any:
    """The same with null instead of NaN and infinities, which JSON lacks."""
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
