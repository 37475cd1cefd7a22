"""What a run leaves behind, written and read.

    multirun/<sweep>/<label>-<identity>/   run.json  history.jsonl  arrays.npz  weights.safetensors  summary.json ...

*Identity* is the first 12 hex digits of the SHA-256 of the resolved config as canonical JSON, less the keys that cannot
change the result (`EXCLUDED`). Every file but the history is written aside, synced and moved into place, and
`summary.json` comes last, so a reader never sees half a file and *finished* means: the summary parses and its digest
of the history matches. Nothing is ever unpickled but the checkpoint's tensors (`weights_only`).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

SCHEMA = 1
EXCLUDED = (
    "choices",
    "dataset.download",
    "dataset.root",
    "device",
    "sweep",
    "threads",
    "training.checkpoint_seconds",
)
Status = Literal["complete", "diverged", "failed", "unfinished", "corrupt"]
FINISHED: tuple[Status, ...] = ("complete", "diverged")


class RecordError(ValueError):
    """A folder that does not hold the records it should; the message is meant for the user."""


# Identity ------------------------------------------------------------------------------------------------------------


def flatten(config: Mapping, prefix: str = "") -> dict[str, Any]:
    """{'optimiser.lr': 0.1, …}; lists and empty mappings stay values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def identifying(config: Mapping) -> dict[str, Any]:
    """The flat config without the keys that cannot change the result."""
    return {k: v for k, v in flatten(config).items() if not any(k == e or k.startswith(f"{e}.") for e in EXCLUDED)}


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


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Have `write` fill a file aside, sync it, and move it to `path`: the old file or the new is there, no part."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(aside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _finite(value: Any) -> Any:
    """NaN and infinities as null, for JSON has none of them."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_json(content: Mapping) -> str:
    return json.dumps(_finite(content), indent=1, allow_nan=False) + "\n"


def write_json(path: Path, content: Mapping) -> None:
    text = to_json(content)
    write_whole(path, lambda file: file.write(text.encode()))


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    write_whole(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))  # type: ignore[arg-type]


class History:
    """The append side of `history.jsonl`; `size` is what a checkpoint keeps, so that resuming drops later lines."""

    def __init__(self, path: Path, size: int = 0) -> None:
        self._file = open(path, "ab")  # noqa: SIM115 (kept open while the run goes)
        self._file.truncate(size)
        self._file.seek(size)
        self.size = size

    def append(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
        line = json.dumps(_finite({"step": step, "epoch": epoch, "metrics": metrics}), allow_nan=False) + "\n"
        self._file.write(line.encode())
        self._file.flush()
        self.size += len(line.encode())

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes() if path.exists() else b"").hexdigest()


def find_run(folder: Path, config: Mapping) -> Run:
    """The run of `config` as it stands in `folder`, which need not exist. Raises RecordError if the folder holds
    another config, naming the keys that differ.
    """
    run = read_run(folder)
    if run.config is not None:
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
    for stale in [folder / "error.txt", folder / "summary.json", *folder.glob(".*.tmp")]:
        stale.unlink(missing_ok=True)
    (folder / ".hydra").mkdir(exist_ok=True)
    for name, text in hydra.items():
        write_whole(folder / ".hydra" / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
    record = {"schema": SCHEMA, "identity": identity(config), "config": config, "started": time.time(), **provenance()}
    write_json(folder / "run.json", record)


def fail(folder: Path, config: Mapping, error: BaseException | str, step: int | None) -> None:
    """Say in `error.txt` why the run stopped: the cause in the first line, then the last step (None where it is not
    known), the traceback and the config.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trace = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
    cause = f"{type(error).__name__}: {error}".splitlines()[0] if isinstance(error, BaseException) else error
    reached = "" if step is None else f"after step {step}\n\n"
    text = f"{cause}\n\n{reached}{trace}\n{to_json(config)}"
    write_whole(folder / "error.txt", lambda file: file.write(text.encode()))


def finish(
    folder: Path, config: Mapping, status: str, step: int, metrics: Mapping[str, float], seconds: Mapping[str, float]
) -> None:
    """Write the summary, which makes the run finished, and drop the checkpoint."""
    history = digest(folder / "history.jsonl")
    head = {"schema": SCHEMA, "identity": identity(config), "status": status, "steps": step, **seconds}
    write_json(folder / "summary.json", {**head, "metrics": metrics, "history_sha256": history})
    (folder / "checkpoint.pt").unlink(missing_ok=True)


@cache
def provenance() -> dict[str, Any]:
    """Where this process runs, and of which versions: asked once a process."""
    packages = ("creditlab", "torch", "torchvision", "numpy", "hydra-core", "scikit-learn")
    versions = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    job = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    job_id = f"{job}_{task}" if job and task else job
    return {"host": platform.node(), "pid": os.getpid(), "job_id": job_id, "versions": versions, "git": _git()}


def _git() -> dict[str, Any] | None:
    """The commit of the source and whether it was changed since; None outside a checkout."""
    source = Path(__file__).parent
    command = ["git", "-C", str(source), "status", "--porcelain=v2", "--branch", "--", str(source)]
    try:
        status = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    lines = status.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid")), None)
    return {"commit": commit, "changed": any(not line.startswith("#") for line in lines)}


# Reading -------------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """One run's folder as it was found. `config` is None where there is no readable `run.json`; `metrics` is empty
    unless the run is finished; `problem` says in a line why a run is failed or corrupt.
    """

    folder: Path
    status: Status
    problem: str = ""
    record: dict = field(default_factory=dict)
    summary: dict = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def config(self) -> dict | None:
        return self.record.get("config")

    @property
    def identity(self) -> str:
        return self.record.get("identity", self.name.rpartition("-")[2])

    @property
    def finished(self) -> bool:
        return self.status in FINISHED

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Flat; NaN where the value was not finite."""
        return {k: math.nan if v is None else v for k, v in self.summary.get("metrics", {}).items()}

    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.folder / "arrays.npz", allow_pickle=False) as file:
            return dict(file)

    def history(self) -> list[dict]:
        """The lines so far. One torn last line is dropped (the run was killed as it wrote); any other is an error."""
        path = self.folder / "history.jsonl"
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
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    if content.get("schema") != SCHEMA:
        raise ValueError(f"schema {content.get('schema')!r}, this creditlab reads {SCHEMA}")
    return content


def read_run(folder: Path) -> Run:
    """The state of the run in `folder`, told from its files alone. Never raises for what the files hold."""
    record: dict = {}
    with contextlib.suppress(FileNotFoundError):
        try:
            record = _load(folder / "run.json")
        except ValueError as error:
            return Run(folder, "corrupt", f"run.json: {error}")
    path, error_file = folder / "summary.json", folder / "error.txt"
    if not path.exists() and error_file.exists():
        lines = error_file.read_text(errors="replace").strip().splitlines()
        return Run(folder, "failed", lines[0] if lines else "no cause written", record)
    if not path.exists() or not record:
        return Run(folder, "unfinished", "" if record else "no run.json", record)
    try:
        summary = _load(path)
        if summary["status"] not in FINISHED:
            raise ValueError(f"status {summary['status']!r}")
        if summary["identity"] != record["identity"] or record["identity"] != identity(record["config"]):
            raise ValueError("identity does not match the config")
        if summary["history_sha256"] != digest(folder / "history.jsonl"):
            raise ValueError("history.jsonl does not match its digest")
        if not isinstance(summary["metrics"], dict):
            raise ValueError("metrics is not a mapping")
    except KeyError as error:
        return Run(folder, "corrupt", f"summary.json: no {error}", record)
    except (ValueError, AttributeError, TypeError) as error:
        return Run(folder, "corrupt", f"summary.json: {error}", record)
    return Run(folder, summary["status"], "", record, summary)


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
        raise RecordError(f"{sweep} holds no run (it holds {', '.join(inside) or 'nothing'}).{hint}")
    return runs


def read_plan(sweep: Path) -> dict | None:
    """`sweep.json`, or None where there is none. Raises RecordError if it cannot be read."""
    try:
        return _load(sweep / "sweep.json")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RecordError(f"{sweep / 'sweep.json'}: {error}") from None
