"""Reads what runs left, from their files alone. The files may be spoilt, or a stranger's: no content makes it fail."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from creditlab import files
from creditlab.files import printable
from creditlab.records.identity import identity

SCHEMA = 1
ARRAYS, WEIGHTS = "arrays.npz", "weights.safetensors"
KEPT = (ARRAYS, WEIGHTS)  # the summary has their sizes and digests
DEPTH = 50  # of a config: levels of mappings and lists within each other
Status = Literal["complete", "diverged", "failed", "unfinished", "corrupt"]
FINISHED: tuple[Status, ...] = ("complete", "diverged")
LARGEST = 2**1023  # a number of this size fits into a float, ten times it may not
ALTERED = "was changed after it was written (its digest does not match)"
ABSENT = (FileNotFoundError, NotADirectoryError)
SCALARS = frozenset((str, int, float, bool, type(None)))


class RecordError(ValueError):
    """A folder does not hold the records that it should hold; the message is meant for the user."""


class NewerSchema(ValueError):
    """A later creditlab wrote this record. It must not be taken for a broken one."""


class Altered(ValueError):
    """A record is not as it was written; `content` is what it holds now."""

    def __init__(self, content: dict) -> None:
        super().__init__(ALTERED)
        self.content = content


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Reading makes millions of objects, none of them garbage. Collecting would take a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass
class Run:
    """The state of one run's folder. `config` is None if there is no readable `run.json`. `metrics` is empty unless the
    run is finished. `problem` gives in one line why a run is failed or corrupt. `newer`: a later creditlab wrote it.
    `weights_removed`: the run is finished and kept its weights, but the file was deleted since.
    """

    folder: Path
    status: Status
    problem: str = ""
    record: dict = field(default_factory=dict)
    summary: dict = field(default_factory=dict)
    newer: bool = False
    weights_removed: bool = False

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def config(self) -> dict | None:
        return self.record.get("config")

    @property
    def identity(self) -> str:
        return str(self.record.get("identity", self.name.rpartition("-")[2]))

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    @property
    def broken(self) -> dict[str, str]:
        """The metrics that failed during the run, with the step and the reason. Other absent metrics do not apply."""
        absent = self.summary.get("absent", {})
        return {name: reason for name, reason in absent.items() if reason.startswith("step ")}

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Flat. A value that was not finite is NaN."""
        metrics = self.summary.get("metrics", {})
        if not "".join(metrics).isprintable():
            metrics = {printable(name): value for name, value in metrics.items()}
        return {k: math.nan if v is None else v for k, v in metrics.items()} if None in metrics.values() else metrics

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name. Raises RecordError if there are none, or not those that the run wrote."""
        path = self.verified(ARRAYS)
        try:
            return files.read_arrays(path)
        except (OSError, ValueError) as error:
            raise RecordError(f"{path}: {reason_of(error)}") from None

    def history(self) -> list[dict]:
        """Its lines so far; see `read_history`."""
        return read_history(self.folder / "history.jsonl")

    def verified(self, name: str) -> Path:
        """The path of the file `name`, one of `KEPT`. Raises RecordError unless it holds what the run wrote."""
        path = self.folder / name
        try:
            written = self.summary.get("files_sha256", {}).get(name)
            if written is None:  # a run of an earlier creditlab
                files.open_regular(path).close()
            elif files.sha256(path) != written:
                raise ValueError(ALTERED)
        except (OSError, ValueError) as error:
            raise RecordError(f"{path}: {reason_of(error)}") from None
        return path


def reason_of(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or printable(str(error))


def digest(path: Path) -> str:
    """The SHA-256 of the history at `path`; that of nothing if there is no such file."""
    try:
        return files.sha256(path, files.HISTORY)
    except FileNotFoundError:
        return hashlib.sha256().hexdigest()


def read_history(path: Path, size: int | None = None) -> list[dict]:
    """The lines of a history, or of its first `size` bytes. An incomplete last line is dropped: the run was killed
    while it wrote that line. Any other broken line is an error.
    """
    try:
        content = files.read_bytes(path, files.HISTORY)[:size]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: {reason_of(error)}") from None
    lines = content.split(b"\n")
    incomplete_line = lines.pop()  # empty if the last line is complete
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_point(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            where = f"{path}, line {number} of {len(lines) + bool(incomplete_line)}"
            raise RecordError(f"{where}: {printable(str(error))}") from None
    return rows


def read_last_line(path: Path) -> dict | None:
    """The last complete line of a history that is being written; None if there is none that can be read."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return _point(json.loads(files.read_tail(path, files.TAIL).split(b"\n")[-2]))
    return None


def _point(row: Any) -> dict:
    """`row`, a line of a history. Raises ValueError, KeyError, TypeError or AttributeError if it cannot be one."""
    _check_metrics(row["metrics"])
    for key in ("step", "epoch"):
        if not _is_number(row[key]):
            raise ValueError(f"{key} is not a number")
    row["metrics"] = {printable(k): math.nan if v is None else v for k, v in row["metrics"].items()}
    if not all(type(value) in (int, float) for value in row["metrics"].values()):
        raise ValueError("metrics are not numbers")
    return row


def _is_number(value: Any) -> bool:
    """Whether `value`, from a file of JSON, is a number that is finite as a float."""
    return type(value) in (int, float) and -LARGEST < value < LARGEST


def load_object(path: Path, limit: int = files.RECORD) -> dict:
    """The object in a JSON file. Raises FileNotFoundError or NotADirectoryError, or ValueError for everything else."""
    text = files.read_bytes(path, limit)
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    schema = content.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise NewerSchema(f"schema {schema}, of a newer creditlab; this one reads {SCHEMA}. Update creditlab")
    if schema != SCHEMA:
        raise ValueError(f"schema {schema!r}, this creditlab reads {SCHEMA}")
    if "sha256" in content:
        del content["sha256"]
        if not files.is_sealed(text):
            raise Altered(content)
    return content


def read_run(folder: Path) -> Run:
    """The state of the run in `folder`, read from its files alone. Whatever they hold, it raises no error. A folder
    that is a link is not followed: it may lead to any place of this machine.
    """
    if folder.is_symlink():
        return Run(folder, "corrupt", "the folder is a link, which is not followed")
    try:
        record = load_object(folder / "run.json")
        _check_record(record)
    except ABSENT:
        record = {}
    except Altered as error:
        record = error.content if _is_record(error.content) else {}
        return Run(folder, "corrupt", f"run.json: {error}", record)  # `find_run` compares the config
    except (ValueError, OSError) as error:
        return Run(folder, "corrupt", f"run.json: {reason_of(error)}", newer=isinstance(error, NewerSchema))
    if record and not _is_identity(record):
        return Run(folder, "corrupt", "run.json: identity does not match the config", record)
    try:
        summary = load_object(folder / "summary.json")
    except ABSENT:
        return _unfinished(folder, record)
    except (ValueError, OSError) as error:
        newer = isinstance(error, NewerSchema)
        return Run(folder, "corrupt", f"summary.json: {reason_of(error)}", record, newer=newer)
    if not record:
        return Run(folder, "unfinished", "no run.json")
    try:
        _check_summary(record, summary)
        weights_removed = _check_files(folder, summary)
    except KeyError as error:
        return Run(folder, "corrupt", f"summary.json: no {error}", record)
    except (ValueError, OSError) as error:
        return Run(folder, "corrupt", f"summary.json: {reason_of(error)}", record)
    return Run(folder, summary["status"], "", record, summary, weights_removed=weights_removed)


def _check_record(record: dict) -> None:
    """Raise ValueError unless `record`, the content of a `run.json`, holds a config that can be worked with."""
    config = record.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("choices"), dict):
        raise ValueError("config is not a mapping with the choices made")
    if not all(isinstance(choice, str | None) for choice in config["choices"].values()):
        raise ValueError("config.choices is not a mapping to names")
    if _is_deeper(config, DEPTH):
        raise ValueError("config is nested too deeply")


def _is_record(record: dict) -> bool:
    try:
        _check_record(record)
    except ValueError:
        return False
    return True


def _is_deeper(value: dict, depth: int) -> bool:
    """Whether more than `depth` mappings and lists lie within each other in `value`."""
    level = [value]
    while level and depth >= 0:
        inner = [v.values() if isinstance(v, dict) else v for v in level]
        level = [v for values in inner for v in values if type(v) not in SCALARS]
        depth -= 1
    return bool(level)


def _is_identity(record: Mapping) -> bool:
    try:
        return record.get("identity") == identity(record["config"])
    except (ValueError, TypeError, RecursionError):  # a config that creditlab cannot have written
        return False


def _unfinished(folder: Path, record: dict) -> Run:
    """The state of a run without a summary."""
    try:
        text = files.read_bytes(folder / "error.txt", files.RECORD).decode(errors="replace")
    except ABSENT:
        return Run(folder, "unfinished", "" if record else "no run.json", record)
    except (ValueError, OSError) as error:
        return Run(folder, "corrupt", f"error.txt: {reason_of(error)}", record)
    lines = text.strip().splitlines()
    return Run(folder, "failed", printable(lines[0]) if lines else "no cause written", record)


def _check_summary(record: dict, summary: dict) -> None:
    """Raise ValueError, OSError or KeyError unless the summary is that of a finished run with this record."""
    if summary["status"] not in FINISHED:
        raise ValueError(f"status {summary['status']!r}")
    if summary["identity"] != record["identity"]:
        raise ValueError("identity does not match the config")
    _check_metrics(summary["metrics"])
    absent = summary.get("absent", {})
    if not isinstance(absent, dict) or not all(isinstance(reason, str) for reason in absent.values()):
        raise ValueError("absent is not a mapping to reasons")
    if not _is_number(summary.get("seconds", 0.0)):
        raise ValueError("seconds is not a number")


def _check_metrics(metrics: object) -> None:
    """Raise ValueError unless `metrics` is a mapping to single values that can be compared."""
    if not isinstance(metrics, dict):
        raise ValueError("metrics is not a mapping")
    kinds = set(map(type, metrics.values()))
    if not kinds <= SCALARS:
        raise ValueError("metrics is not a mapping to single values")
    if int in kinds and any(type(value) is int and abs(value) >= LARGEST for value in metrics.values()):
        raise ValueError("metrics holds a number that is too large")


def _check_files(folder: Path, summary: dict) -> bool:
    """Raise ValueError or OSError unless the files are those that the summary names. Returns whether the weights, which
    no analysis needs, have been removed.
    """
    sizes, digests = summary.get("files", {}), summary.get("files_sha256", {})
    if not isinstance(sizes, dict) or not isinstance(digests, dict) or not {*sizes, *digests} <= {*KEPT}:
        raise ValueError(f"files is not a mapping of {' and '.join(KEPT)}")
    weights_removed = False
    for name, size in sizes.items():
        try:
            with files.open_regular(folder / name) as file:
                actual_size = os.fstat(file.fileno()).st_size
        except files.Unreadable as error:
            raise ValueError(f"{name}: {error}") from None
        except FileNotFoundError:
            if name == WEIGHTS:
                weights_removed = True
                continue
            raise ValueError(f"{name} is missing") from None
        if actual_size != size:
            raise ValueError(f"{name} is not of the size that was written")
    if summary["history_sha256"] != _history_digest(folder):
        raise ValueError("history.jsonl does not match its digest")
    return weights_removed


def _history_digest(folder: Path) -> str:
    try:
        return digest(folder / "history.jsonl")
    except files.Unreadable as error:
        raise ValueError(f"history.jsonl: {error}") from None
