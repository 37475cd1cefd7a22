"""What a run leaves behind, written and read.

    multirun/<sweep>/<label>-<identity>/   run.json  history.jsonl  arrays.npz  weights.safetensors  summary.json ...

*Identity* is the first 12 hex digits of the SHA-256 of the resolved config as canonical JSON, less the keys that cannot
change the result (`EXCLUDED`). Every file but the history is written aside, synced and moved into place, and
`summary.json` comes last, so a reader never sees half a file and *finished* means: the summary parses, its digest of
the history matches, and the files that it names are there, each of its size. Nothing is ever unpickled but the
checkpoint's tensors (`weights_only`). Only the holder of the folder's lock (`creditlab.lock`) writes.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import math
import os
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from creditlab.files import finite, sync_folder, to_json, write_arrays, write_json, write_whole  # noqa: F401 (for who writes records)
from creditlab.provenance import provenance

SCHEMA = 1
CONFUSED = 1000  # classes of which a confusion matrix is kept at most: one of 50,257 tokens is 2.5 billion counts
EXCLUDED = (
    "choices",
    "dataset.download",
    "dataset.root",
    "device",
    "retry",
    "sweep",
    "threads",
    "tracker",
    "training.checkpoint_seconds",
)
Status = Literal["complete", "diverged", "failed", "unfinished", "corrupt"]
FINISHED: tuple[Status, ...] = ("complete", "diverged")
KEPT = (
    "arrays.npz",
    "weights.safetensors",
)  # beside the history: the summary has their sizes


class RecordError(ValueError):
    """A folder that does not hold the records it should; the message is meant for the user."""


class SpoiltPlan(RecordError):
    """A `sweep.json` that says nothing any more; the run folders still do."""


class NewerSchema(ValueError):
    """A record that a later creditlab wrote, which must not be taken for a spoilt one."""


# Identity ------------------------------------------------------------------------------------------------------------


LEAVES = frozenset(
    (str, int, float, bool, type(None), list)
)  # for sure: whether a value is a Mapping takes long to tell


def flatten(config: Mapping, prefix: str = "") -> dict[str, Any]:
    """{'optimiser.lr': 0.1, …}; lists and empty mappings stay values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if type(value) not in LEAVES and isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def identifying(config: Mapping) -> dict[str, Any]:
    """The flat config without the keys that cannot change the result."""
    return {key: value for key, value in flatten(config).items() if identifies(key)}


@cache
def identifies(key: str) -> bool:
    """Whether a key of the config can change the result."""
    return not any(key == other or key.startswith(f"{other}.") for other in EXCLUDED)


def identity(config: Mapping) -> str:
    """12 hex digits, the same for the same experiment whatever the order of keys."""
    canonical = json.dumps(identifying(config), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def folder_name(config: Mapping) -> str:
    """`<label>-<identity>`, the label readable: algorithm, optimiser, dataset, architecture, seed."""
    choices = config["choices"]
    parts = [choices[group] for group in ("algorithm", "optimiser", "dataset", "architecture")]
    label = "-".join([*parts, f"s{config['seed']}"]).replace("/", "_")
    return f"{label}-{identity(config)}"


# Writing -------------------------------------------------------------------------------------------------------------


class History:
    """The append side of `history.jsonl`; `size` is what a checkpoint keeps, so that resuming drops later lines.

    It goes on in a new file, so that a former writer which still has the old one open writes into the void.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        kept = path.read_bytes()[:size] if size else b""
        if kept:
            write_whole(path, lambda file: file.write(kept))
        else:
            path.unlink(missing_ok=True)
        self._file = open(path, "ab")  # noqa: SIM115 (kept open while the run goes)
        self.size = len(kept)

    def append(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        line = json.dumps(finite({"step": step, "epoch": epoch, "metrics": metrics}), allow_nan=False) + "\n"
        self._file.write(line.encode())
        self._file.flush()
        self.size += len(line.encode())

    def sync(self) -> None:
        """Before a checkpoint that counts on these lines."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self.sync()
        self._file.close()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes() if path.exists() else b"").hexdigest()


def find_run(folder: Path, config: Mapping) -> Run:
    """The run of `config` as it stands in `folder`, which need not exist. Raises RecordError if the folder holds
    another config, naming the keys that differ.
    """
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
            shown = "; ".join(f"{k}: {old.get(k)!r} there, {new.get(k)!r} now" for k in differ[:5])
            raise RecordError(f"{folder} belongs to another config ({shown}). Move it away or give another folder.")
    return run


def open_run(folder: Path, config: Mapping) -> Run:
    """`find_run`, with the folder made if need be. Raises RecordError also where it cannot be written."""
    make_folder(folder)
    return find_run(folder, config)


def make_folder(folder: Path) -> None:
    """Make `folder` if need be. Raises RecordError where it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"cannot write to {folder.absolute()}: {error.strerror}. Give another folder.") from None
    if not os.access(folder, os.W_OK):
        raise RecordError(f"cannot write to {folder.absolute()}: permission denied. Give another folder.")


def begin(folder: Path, config: Mapping, hydra: Mapping[str, str]) -> None:
    """Open the record of a run that starts, or starts again: `run.json`, and `hydra`'s files under `.hydra/`. What an
    earlier failure left is cleared; a checkpoint stays.
    """
    (folder / ".hydra").mkdir(exist_ok=True)
    left = [*folder.glob(".*.tmp"), *(folder / ".hydra").glob(".*.tmp")]
    for stale in [folder / "error.txt", folder / "summary.json", *left]:
        stale.unlink(missing_ok=True)
    for name, text in hydra.items():
        write_whole(folder / ".hydra" / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
    record = {"schema": SCHEMA, "identity": identity(config), "config": config, "started": time.time(), **provenance()}
    write_json(folder / "run.json", record)


def fail(folder: Path, config: Mapping, error: BaseException | str, step: int | None) -> None:
    """Say in `error.txt` why the run stopped: the cause in the first line, then the last step (None where it is not
    known), the traceback and the config.
    """
    trace = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
    cause = f"{type(error).__name__}: {error}".splitlines()[0] if isinstance(error, BaseException) else error
    reached = "" if step is None else f"after step {step}\n\n"
    text = f"{cause}\n\n{reached}{trace}\n{to_json(config)}"
    write_whole(folder / "error.txt", lambda file: file.write(text.encode()))


def finish(
    folder: Path, config: Mapping, status: str, step: int, metrics: Mapping[str, float], more: Mapping[str, Any]
) -> None:
    """Write the summary, which makes the run finished, and drop the checkpoint. `more`: further fields of it."""
    head = {"schema": SCHEMA, "identity": identity(config), "status": status, "steps": step, **more}
    files = {name: (folder / name).stat().st_size for name in KEPT if (folder / name).exists()}
    tail = {"metrics": metrics, "files": files, "history_sha256": digest(folder / "history.jsonl")}
    write_json(folder / "summary.json", head | tail)
    sync_folder(folder)
    (folder / "checkpoint.pt").unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Make a finished run one that is to be done again, from its start."""
    for name in ("summary.json", "checkpoint.pt", "error.txt"):
        (folder / name).unlink(missing_ok=True)


# Reading -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Reading makes millions of objects, none of them garbage: looking for it takes a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass
class Run:
    """One run's folder as it was found. `config` is None where there is no readable `run.json`; `metrics` is empty
    unless the run is finished; `problem` says in a line why a run is failed or corrupt; `newer` that a later creditlab
    wrote it.
    """

    folder: Path
    status: Status
    problem: str = ""
    record: dict = field(default_factory=dict)
    summary: dict = field(default_factory=dict)
    newer: bool = False

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
        """The instruments that failed under way, with the step and the reason (others are absent by their nature)."""
        absent = self.summary.get("absent", {})
        return {name: reason for name, reason in absent.items() if reason.startswith("step ")}

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Flat; NaN where the value was not finite."""
        metrics = self.summary.get("metrics", {})
        return {k: math.nan if v is None else v for k, v in metrics.items()} if None in metrics.values() else metrics

    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.folder / "arrays.npz", allow_pickle=False) as file:
            return dict(file)

    def history(self) -> list[dict]:
        """The lines so far; see `read_history`."""
        return read_history(self.folder / "history.jsonl")


def read_history(path: Path) -> list[dict]:
    """The lines of a history. One torn last line is dropped (the run was killed as it wrote); any other is an error."""
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    torn = lines.pop()  # empty when the last line is whole
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            row["metrics"] = {k: math.nan if v is None else v for k, v in row["metrics"].items()}
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{path}, line {number} of {len(lines) + bool(torn)}: {error}") from None
        rows.append(row)
    return rows


def _load(path: Path) -> dict:
    """The object in a JSON file. Raises FileNotFoundError, or ValueError for whatever else is wrong with it."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(error.strerror) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    schema = content.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise NewerSchema(f"schema {schema}, of a newer creditlab; this one reads {SCHEMA}. Update creditlab")
    if schema != SCHEMA:
        raise ValueError(f"schema {schema!r}, this creditlab reads {SCHEMA}")
    return content


def read_run(folder: Path) -> Run:
    """The state of the run in `folder`, told from its files alone. Never raises for what the files hold."""
    try:
        record = _load(folder / "run.json")
        config = record.get("config")
        if not isinstance(config, dict) or not isinstance(config.get("choices"), dict):
            raise ValueError("config is not a mapping with the choices made")
    except (FileNotFoundError, NotADirectoryError):
        record = {}
    except ValueError as error:
        return Run(folder, "corrupt", f"run.json: {error}", newer=isinstance(error, NewerSchema))
    if record and not _is_identity(record):
        return Run(folder, "corrupt", "run.json: identity does not match the config", record)
    try:
        summary = _load(folder / "summary.json")
    except (FileNotFoundError, NotADirectoryError):
        return _unfinished(folder, record)
    except ValueError as error:
        return Run(folder, "corrupt", f"summary.json: {error}", record, newer=isinstance(error, NewerSchema))
    if not record:
        return Run(folder, "unfinished", "no run.json")
    try:
        _check_summary(folder, record, summary)
    except KeyError as error:
        return Run(folder, "corrupt", f"summary.json: no {error}", record)
    except (ValueError, OSError) as error:
        return Run(folder, "corrupt", f"summary.json: {error}", record)
    return Run(folder, summary["status"], "", record, summary)


def _is_identity(record: Mapping) -> bool:
    try:
        return record.get("identity") == identity(record["config"])
    except (ValueError, TypeError, RecursionError):  # a config that no JSON of ours would hold
        return False


def _unfinished(folder: Path, record: dict) -> Run:
    """A run without a summary."""
    try:
        lines = (folder / "error.txt").read_text(errors="replace").strip().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return Run(folder, "unfinished", "" if record else "no run.json", record)
    except OSError as error:
        return Run(folder, "corrupt", f"error.txt: {error.strerror}", record)
    return Run(folder, "failed", lines[0] if lines else "no cause written", record)


def _check_summary(folder: Path, record: dict, summary: dict) -> None:
    """Raises ValueError, OSError or KeyError, unless the summary is that of a finished run, whole on the disk."""
    if summary["status"] not in FINISHED:
        raise ValueError(f"status {summary['status']!r}")
    if summary["identity"] != record["identity"]:
        raise ValueError("identity does not match the config")
    if not isinstance(summary["metrics"], dict):
        raise ValueError("metrics is not a mapping")
    files = summary.get("files", {})
    if not isinstance(files, dict):
        raise ValueError("files is not a mapping")
    for name, size in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise ValueError(f"{name} is not there as it was written")
    if summary["history_sha256"] != digest(folder / "history.jsonl"):
        raise ValueError("history.jsonl does not match its digest")


def run_folders(sweep: Path) -> Iterator[Path]:
    """The folders in `sweep` that hold a run's record, by name."""
    with os.scandir(sweep) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    for name in names:
        if any((sweep / name / file).exists() for file in ("run.json", "summary.json", "error.txt")):
            yield sweep / name


def read_sweep(sweep: Path) -> list[Run]:
    """Every run in the folder of a sweep. Raises RecordError where there is no folder or no run in it."""
    if not sweep.is_dir():
        raise RecordError(f"{sweep} is not a folder. Give the folder of a sweep, as `creditlab -m …` printed it.")
    runs = [read_run(folder) for folder in run_folders(sweep)]
    if not runs:
        inside = sorted(p.name for p in sweep.iterdir())[:5]
        below = [p.name for p in sweep.iterdir() if p.is_dir() and any(p.glob("*/run.json"))]
        hint = f" Did you mean {sweep / below[0]}?" if below else ""
        if read_run(sweep).record:
            hint = f" It is the folder of a run: give that of its sweep, {sweep.absolute().parent}."
        raise RecordError(f"{sweep} holds no run (it holds {', '.join(inside) or 'nothing'}).{hint}")
    return runs


def read_plan(sweep: Path) -> dict | None:
    """`sweep.json`: the factors with their levels, and the runs planned, each with its name, identity and levels. None
    where there is none. Raises RecordError if it cannot be read.
    """
    path = sweep / "sweep.json"
    try:
        plan = _load(path)
        factors, runs = plan.get("factors"), plan.get("runs")
        if not isinstance(factors, dict) or not all(isinstance(levels, list) for levels in factors.values()):
            raise ValueError("factors is not a mapping to lists")
        if not isinstance(runs, list) or not all(_is_entry(entry) for entry in runs):
            raise ValueError("runs is not a list of entries, each with a name and levels")
    except FileNotFoundError:
        return None
    except NewerSchema as error:
        raise RecordError(f"{path}: {error}.") from None
    except ValueError as error:
        raise SpoiltPlan(f"{path}: {error}. The sweep's command, given again, makes it anew; no run is lost.") from None
    return plan


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("levels", {}), dict)
