"""What a run leaves behind, written and read.

    multirun/<sweep>/<label>-<identity>/   run.json  history.jsonl  arrays.npz  weights.safetensors  summary.json ...

The *identity* of a run (its run ID) is the first 12 hex digits of the SHA-256 of the resolved config as canonical JSON.
The keys that cannot change the result (`EXCLUDED`) are left out of it.

Every file except the history is written under another name, synced and then moved to its own. So a reader never sees
half a file. `summary.json` comes last. A run is *finished* if the summary parses, if its digest of the history matches,
and if the files that it names exist with the sizes that it names. Nothing is ever unpickled except the tensors of a
checkpoint (`weights_only`). Only the holder of the folder's lock (`creditlab.lock`) writes.
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

from creditlab.files import finite, sync_folder, to_json, write_arrays, write_json, write_whole  # noqa: F401 (for modules that write records)
from creditlab.provenance import provenance
from creditlab.sources import code_of

SCHEMA = 1
CONFUSED = 1000  # no confusion matrix for more classes: with 50,257 tokens it would hold 2.5 billion counts
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
)  # the summary has their sizes


class RecordError(ValueError):
    """A folder does not hold the records that it should hold; the message is meant for the user."""


class SpoiltPlan(RecordError):
    """A `sweep.json` is unreadable; the folders of the runs are not affected."""


class NewerSchema(ValueError):
    """A later creditlab wrote this record. It must not be taken for a broken one."""


# Identity ------------------------------------------------------------------------------------------------------------


LEAVES = frozenset((str, int, float, bool, type(None), list))  # tested first: isinstance(value, Mapping) is slow


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
    """12 hex digits: the same for the same experiment, in whatever order its keys are."""
    canonical = json.dumps(identifying(config), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def folder_name(config: Mapping) -> str:
    """`<label>-<identity>`. The label is readable: algorithm, optimiser, dataset, architecture, seed."""
    choices = config["choices"]
    parts = [choices[group] for group in ("algorithm", "optimiser", "dataset", "architecture")]
    label = "-".join([*parts, f"s{config['seed']}"]).replace("/", "_")
    return f"{label}-{identity(config)}"


# Writing -------------------------------------------------------------------------------------------------------------


class History:
    """Appends to `history.jsonl`. A checkpoint keeps `size`, so that resuming drops later lines.

    Resuming continues in a new file. A former writer that still has the old file open can then do no harm.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        kept = path.read_bytes()[:size] if size else b""
        if kept:
            write_whole(path, lambda file: file.write(kept))
        else:
            path.unlink(missing_ok=True)
        self._file = open(path, "ab")  # noqa: SIM115 (kept open during the run)
        self.size = len(kept)

    def append(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        line = json.dumps(finite({"step": step, "epoch": epoch, "metrics": metrics}), allow_nan=False) + "\n"
        self._file.write(line.encode())
        self._file.flush()
        self.size += len(line.encode())

    def sync(self) -> None:
        """To be called before a checkpoint that relies on these lines."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self.sync()
        self._file.close()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes() if path.exists() else b"").hexdigest()


def find_run(folder: Path, config: Mapping) -> Run:
    """The run of `config` in `folder`, which need not exist. Raises RecordError if the folder holds another config; the
    message names the keys that differ.
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
    (folder / ".hydra").mkdir(exist_ok=True)
    left = [*folder.glob(".*.tmp"), *(folder / ".hydra").glob(".*.tmp")]
    for stale in [folder / "error.txt", folder / "summary.json", *left]:
        stale.unlink(missing_ok=True)
    for name, text in hydra.items():
        write_whole(folder / ".hydra" / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
    head = {"schema": SCHEMA, "identity": identity(config), "config": config, "started": time.time()}
    write_json(folder / "run.json", head | provenance() | {"code": code_of(config)})


def fail(folder: Path, config: Mapping, error: BaseException | str, step: int | None) -> None:
    """Write `error.txt`, which shows why the run stopped: first the cause, in one line, then the last step (`step` is
    None if it is not known), the traceback and the config.
    """
    trace = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
    cause = f"{type(error).__name__}: {error}".splitlines()[0] if isinstance(error, BaseException) else error
    reached = "" if step is None else f"after step {step}\n\n"
    text = f"{cause}\n\n{reached}{trace}\n{to_json(config)}"
    write_whole(folder / "error.txt", lambda file: file.write(text.encode()))


def finish(
    folder: Path, config: Mapping, status: str, step: int, metrics: Mapping[str, float], more: Mapping[str, Any]
) -> None:
    """Write the summary, which makes the run finished, and remove the checkpoint. `more`: its further fields."""
    head = {"schema": SCHEMA, "identity": identity(config), "status": status, "steps": step, **more}
    files = {name: (folder / name).stat().st_size for name in KEPT if (folder / name).exists()}
    tail = {"metrics": metrics, "files": files, "history_sha256": digest(folder / "history.jsonl")}
    write_json(folder / "summary.json", head | tail)
    sync_folder(folder)
    (folder / "checkpoint.pt").unlink(missing_ok=True)


def forget(folder: Path) -> None:
    """Make a finished run an unfinished one that starts again from step 0."""
    for name in ("summary.json", "checkpoint.pt", "error.txt"):
        (folder / name).unlink(missing_ok=True)


# Reading -------------------------------------------------------------------------------------------------------------


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
        """The metrics that failed during the run, with the step and the reason. Other absent metrics do not apply."""
        absent = self.summary.get("absent", {})
        return {name: reason for name, reason in absent.items() if reason.startswith("step ")}

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Flat. A value that was not finite is NaN."""
        metrics = self.summary.get("metrics", {})
        return {k: math.nan if v is None else v for k, v in metrics.items()} if None in metrics.values() else metrics

    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.folder / "arrays.npz", allow_pickle=False) as file:
            return dict(file)

    def history(self) -> list[dict]:
        """Its lines so far; see `read_history`."""
        return read_history(self.folder / "history.jsonl")


def read_history(path: Path) -> list[dict]:
    """The lines of a history. An incomplete last line is dropped: the run was killed while it wrote that line. Any
    other broken line is an error.
    """
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    incomplete_line = lines.pop()  # empty if the last line is complete
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            row["metrics"] = {k: math.nan if v is None else v for k, v in row["metrics"].items()}
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(f"{path}, line {number} of {len(lines) + bool(incomplete_line)}: {error}") from None
        rows.append(row)
    return rows


def _load(path: Path) -> dict:
    """The object in a JSON file. Raises FileNotFoundError, or ValueError for everything else that is wrong."""
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
    """The state of the run in `folder`, read from its files alone. Whatever they hold, it raises no error."""
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
    except (ValueError, TypeError, RecursionError):  # a config that creditlab cannot have written
        return False


def _unfinished(folder: Path, record: dict) -> Run:
    """The state of a run without a summary."""
    try:
        lines = (folder / "error.txt").read_text(errors="replace").strip().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return Run(folder, "unfinished", "" if record else "no run.json", record)
    except OSError as error:
        return Run(folder, "corrupt", f"error.txt: {error.strerror}", record)
    return Run(folder, "failed", lines[0] if lines else "no cause written", record)


def _check_summary(folder: Path, record: dict, summary: dict) -> None:
    """Raise ValueError, OSError or KeyError unless the summary and its files are those of a finished run."""
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
            raise ValueError(f"{name} is missing or not of the size that was written")
    if summary["history_sha256"] != digest(folder / "history.jsonl"):
        raise ValueError("history.jsonl does not match its digest")


def run_folders(sweep: Path) -> Iterator[Path]:
    """The folders in `sweep` that hold the record of a run, in the order of their names."""
    with os.scandir(sweep) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    for name in names:
        if any((sweep / name / file).exists() for file in ("run.json", "summary.json", "error.txt")):
            yield sweep / name


def read_sweep(sweep: Path) -> list[Run]:
    """Every run in the folder of a sweep. Raises RecordError if there is no such folder, or no run in it."""
    if not sweep.is_dir():
        raise RecordError(f"{sweep} is not a folder. Give the folder of a sweep, which `creditlab -m …` printed.")
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
    """`sweep.json`: the factors with their levels, and the planned runs, each with its name, identity and levels. None
    if there is no such file. Raises RecordError if it cannot be read.
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
        raise SpoiltPlan(f"{path}: {error}. Give the sweep's command again to write it anew; no run is lost.") from None
    return plan


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("levels", {}), dict)
