"""What was read of a sweep's runs, kept in the sweep's folder for the next time.

A run is read again if the size or the time of one of its files has changed since; so a run that goes on, fails or is
repaired is never taken from the cache. A cache that cannot be read is ignored.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from creditlab import records

NAME = ".analysis-cache.npz"
SCHEMA = 3
FILES = ("run.json", "summary.json", "history.jsonl", "error.txt", *records.KEPT)  # those that a verdict rests on


def _stamp(folder: Path) -> list[list[int]]:
    """Time and size of each file of a run, empty for a file that is not there."""
    place, stamps = str(folder), []
    for name in FILES:
        try:
            status = os.stat(f"{place}/{name}")
            stamps.append([status.st_mtime_ns, status.st_size])
        except FileNotFoundError:
            stamps.append([])
    return stamps


def _load(path: Path) -> dict[str, tuple[list, records.Run]]:
    """{name: (stamp, run)} of the cache; {} where there is none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            head, values = json.loads(bytes(file["head"])), file["values"].tolist()
        if head["schema"] != [SCHEMA, records.SCHEMA]:
            return {}
        cached = {}
        for row, (name, stamp, status, problem, record, layout, odd) in zip(values, head["runs"], strict=True):
            metrics = dict(zip(head["layouts"][layout], row, strict=False)) | odd
            run = records.Run(path.parent / name, status, problem, record, {"metrics": metrics})
            cached[name] = (stamp, run)
        return cached
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile):
        return {}


def _save(path: Path, stamps: Sequence[list], runs: Sequence[records.Run]) -> None:
    """Numbers are kept as rows of an array, under names (a *layout*) that most runs share; values that are no floats
    stand beside them. A folder that cannot be written has no cache."""
    layouts: dict[tuple[str, ...], int] = {}
    rows, numbers = [], []
    for stamp, run in zip(stamps, runs, strict=True):
        odd = {name: value for name, value in run.metrics.items() if type(value) is not float}
        floats = {name: value for name, value in run.metrics.items() if name not in odd} if odd else run.metrics
        record = {key: run.record[key] for key in ("identity", "config", "code", "versions") if key in run.record}
        layout = layouts.setdefault(tuple(floats), len(layouts))
        rows.append([run.name, stamp, run.status, run.problem, record, layout, odd])
        numbers.append(list(floats.values()))
    values = np.full((len(runs), max(map(len, numbers))), math.nan)
    for row, of_run in zip(values, numbers, strict=True):
        row[: len(of_run)] = of_run
    head = json.dumps({"schema": [SCHEMA, records.SCHEMA], "layouts": list(layouts), "runs": rows}).encode()
    arrays = {"head": np.frombuffer(head, np.uint8), "values": values}
    with contextlib.suppress(OSError):
        records.write_whole(path, lambda file: np.savez(file, allow_pickle=False, **arrays))  # type: ignore[arg-type]


def read_runs(sweep: Path) -> list[records.Run]:
    """As `records.read_sweep`, from the cache where nothing has changed; a cached run has its status, identity, config
    and metrics only. Raises RecordError where there is no folder or no run in it."""
    if not sweep.is_dir():
        return records.read_sweep(sweep)  # says so
    cached = _load(sweep / NAME)
    stamps, runs = [], []
    for folder in records.run_folders(sweep):
        stamps.append(_stamp(folder))  # before reading: what changes meanwhile is read again the next time
        stamp, run = cached.get(folder.name, (None, None))
        runs.append(run if run and stamp == stamps[-1] else records.read_run(folder))
    if not runs:
        return records.read_sweep(sweep)  # says so
    if [stamp for stamp, _ in cached.values()] != stamps:
        _save(sweep / NAME, stamps, runs)
    return runs
