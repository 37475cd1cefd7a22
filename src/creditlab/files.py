"""The files of a run: written so that each is complete or does not exist, read so that no content can do harm.

A folder may come from a stranger. So a file is read only if it is a regular file, not a link, a device or a pipe, and
only up to a limit. What a file claims about its own size is checked before memory is allocated.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MIB = 2**20
RECORD = 64 * MIB  # the most bytes of a file of JSON that are read
PLAN = 512 * MIB  # of a sweep's plan: 1,000,000 runs
HISTORY = 1024 * MIB  # of a history
ARRAYS = 2048 * MIB  # of all arrays of a run together, once they are decompressed
TAIL = MIB  # of the end of a history, when only its last line is asked for
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # that np.savez uses


class Unreadable(ValueError):
    """A file is not one that creditlab reads. The message gives the reason in one line, without the path."""


# Writing -------------------------------------------------------------------------------------------------------------


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Have `write` fill a temporary file, sync it, and move it to `path`. So `path` is the old file or the new
    one, never a part, even after a power cut. Only `sync_folder` makes sure that it is the new one.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        aside.unlink(missing_ok=True)
        with open(aside, "xb") as file:  # a new file, so that no link that lies there leads the bytes elsewhere
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
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


def write_sealed(path: Path, content: Mapping) -> None:
    """As `write_json`, with a seal (see `sealed`)."""
    text = sealed(content)
    write_whole(path, lambda file: file.write(text))


def sealed(content: Mapping) -> bytes:
    """`content` as JSON, with a last field `sha256`: the digest of the text without that field (see `is_sealed`)."""
    text = to_json(content).encode()
    return text.removesuffix(END) + SEAL + hashlib.sha256(text).hexdigest().encode() + b'"' + END


SEAL, END = b',\n "sha256": "', b"\n}\n"


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    write_whole(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))  # type: ignore[arg-type]


# Reading -------------------------------------------------------------------------------------------------------------


def open_regular(path: Path) -> BufferedReader:
    """Open the regular file `path` for reading. Raises Unreadable if it is a link, a device, a pipe or a folder, or if
    it cannot be read; FileNotFoundError or NotADirectoryError if there is none. It never waits for a pipe.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        link = error.errno in (errno.ELOOP, getattr(errno, "EMLINK", errno.ELOOP))
        raise Unreadable("is a link, which is not followed" if link else str(error.strerror)) from None
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return open(descriptor, "rb")
    os.close(descriptor)
    raise Unreadable(os.strerror(errno.EISDIR) if stat.S_ISDIR(kind) else "is not a regular file")


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of the regular file `path`. Raises as `open_regular`, and Unreadable if it is longer than `limit`."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise Unreadable(_too_large(size, limit))
        try:
            content = file.read(limit + 1)
        except OSError as error:
            raise Unreadable(str(error.strerror)) from None
    if len(content) > limit:  # it grew meanwhile
        raise Unreadable(_too_large(len(content), limit))
    return content


def read_tail(path: Path, length: int) -> bytes:
    """The last `length` bytes of the regular file `path`. Raises as `open_regular`."""
    with open_regular(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - length))
        return file.read(length)


def sha256(path: Path, limit: int | None = None) -> str:
    """The digest of the regular file `path`, in hex. Raises as `read_bytes`."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if limit is not None and size > limit:
            raise Unreadable(_too_large(size, limit))
        return hashlib.file_digest(file, "sha256").hexdigest()


def _too_large(size: int, limit: int) -> str:
    return f"holds {size} bytes, and at most {limit} are read"


def is_sealed(content: bytes) -> bool:
    """Whether `content`, JSON with a field `sha256`, is as `write_sealed` wrote it."""
    head, seal, tail = content.rpartition(SEAL)
    return bool(seal) and tail == hashlib.sha256(head + END).hexdigest().encode() + b'"' + END


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name. Raises Unreadable if it is not one, or FileNotFoundError."""
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return _arrays(archive)
        except Unreadable:
            raise
        except Exception as error:  # the bytes may be anything, and zipfile and NumPy raise errors of many kinds
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise Unreadable(f"is not a file of arrays ({printable(reason)})") from None


def _arrays(archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """The arrays in `archive`. What each claims to hold must be what the archive holds of it."""
    entries = archive.infolist()
    total = sum(entry.file_size for entry in entries)
    if total > ARRAYS:
        raise Unreadable(_too_large(total, ARRAYS))
    arrays = {}
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        if entry.compress_type not in COMPRESSIONS or name in arrays or not name.isprintable():
            raise Unreadable(f"holds an entry that creditlab does not write ({printable(name)[:80]})")
        with archive.open(entry) as file:
            version = np.lib.format.read_magic(file)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read_header is None:
                raise Unreadable(f"holds an array of an unknown format ({version})")
            shape, _, dtype = read_header(file)
            claimed = math.prod(shape) * dtype.itemsize + file.tell()
        if dtype.hasobject or min(shape, default=0) < 0 or claimed != entry.file_size:
            raise Unreadable(f"{name} claims {shape} of {dtype}, which is not what the file holds")
        with archive.open(entry) as file:
            arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
            if file.read(1):  # reads to the end, where the checksum is compared
                raise Unreadable(f"{name} is longer than it claims")
    return arrays


def printable(text: str) -> str:
    """`text` with an escape such as \\x1b instead of each character that a terminal or a page would not show."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """`text` of several lines, as `printable` makes it but with its line breaks and tabs."""
    return HIDDEN.sub(lambda match: printable(match.group()), text)
