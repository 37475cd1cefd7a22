"""Reads what a sweep left: the folders of its runs, and its plan. The files may be spoilt, or a stranger's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from creditlab import files
from creditlab.files import printable
from creditlab.records.reading import ABSENT, NewerSchema, RecordError, Run, load_object, read_run, reason_of


class SpoiltPlan(RecordError):
    """A `sweep.json` is unreadable; the folders of the runs are not affected."""


def run_folders(sweep: Path) -> Iterator[Path]:
    """The folders in `sweep` that hold the record of a run, in the order of their names. A folder that cannot be looked
    into counts as one, so that it is not overlooked.
    """
    with os.scandir(sweep) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    for name in names:
        if _holds_record(sweep / name):
            yield sweep / name


def _holds_record(folder: Path) -> bool:
    try:
        return any(os.path.lexists(folder / file) for file in ("run.json", "summary.json", "error.txt")) or not (
            os.access(folder, os.X_OK)
        )
    except OSError:
        return True


def read_sweep(sweep: Path) -> list[Run]:
    """Every run in the folder of a sweep. Raises RecordError if there is no such folder, or no run in it."""
    try:
        if not sweep.is_dir():
            raise RecordError(f"{sweep} is not a folder. Give the folder of a sweep, which `creditlab -m …` printed.")
        runs = [read_run(folder) for folder in run_folders(sweep)]
        entries = [] if runs else sorted(sweep.iterdir())
    except OSError as error:
        raise RecordError(f"{sweep} cannot be read: {error.strerror}.") from None
    if not runs:
        below = [p for p in entries if os.access(p, os.R_OK | os.X_OK) and p.is_dir() and any(p.glob("*/run.json"))]
        hint = f" Did you mean {below[0]}?" if below else ""
        if read_run(sweep).record:
            hint = f" It is the folder of a run: give that of its sweep, {sweep.absolute().parent}."
        inside = ", ".join(printable(p.name) for p in entries[:5])
        raise RecordError(f"{sweep} holds no run (it holds {inside or 'nothing'}).{hint}")
    return runs


def read_plan(sweep: Path) -> dict | None:
    """`sweep.json`: the factors with their levels, and the planned runs, each with its name, identity and levels. None
    if there is no such file. Raises RecordError if it cannot be read.
    """
    path = sweep / "sweep.json"
    try:
        plan = load_object(path, files.PLAN)
        factors, runs = plan.get("factors"), plan.get("runs")
        if not isinstance(factors, dict) or not all(isinstance(levels, list) for levels in factors.values()):
            raise ValueError("factors is not a mapping to lists")
        if not isinstance(runs, list) or not all(_is_entry(entry) for entry in runs):
            raise ValueError("runs is not a list of entries, each with a name and levels")
    except ABSENT:
        return None
    except NewerSchema as error:
        raise RecordError(f"{path}: {error}.") from None
    except (ValueError, OSError) as error:
        hint = "Give the sweep's command again to write it anew; no run is lost."
        raise SpoiltPlan(f"{path}: {reason_of(error)}. {hint}") from None
    return plan


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("levels", {}), dict)
