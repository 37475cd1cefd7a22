"""What a sweep has submitted to SLURM, and which of it is still in SLURM's queue.

`<sweep>/slurm/<n>/` holds a submission: `submission.json` (its job arrays, and the names of the runs of each task),
`tasks/` (the orders of each task), `source/` (a copy of the code) and the logs. Whether a run is done, the folder of
the run alone shows.
"""

from __future__ import annotations

import getpass
import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from creditlab import records
from creditlab.files import PLAN, read_bytes, write_json


class NoAnswer(RuntimeError):
    """SLURM does not answer; the message is its own."""


@dataclass
class Array:
    """Tasks that were submitted together: `job`_0, `job`_1 … are numbers `first`, `first` + 1 … of the submission."""

    job: str
    first: int
    tasks: int

    def ids(self) -> list[str]:
        """The tasks as squeue names them. A job of one task is not an array."""
        return [f"{self.job}_{i}" for i in range(self.tasks)] if self.tasks > 1 else [self.job]


@dataclass
class Submission:
    """`tasks`: the names of the runs of each task."""

    folder: Path
    tasks: list[list[str]]
    arrays: list[Array] = field(default_factory=list)

    def write(self) -> None:
        content = {"schema": records.SCHEMA, "tasks": self.tasks, "arrays": [asdict(array) for array in self.arrays]}
        write_json(self.folder / "submission.json", content)

    def jobs(self) -> Iterator[tuple[str, list[str]]]:
        """Each task as squeue names it, with the names of its runs."""
        for array in self.arrays:
            yield from zip(array.ids(), self.tasks[array.first :], strict=False)

    def log(self, job: str) -> Path:
        return self.folder / f"{job}_0_log.out"


def submissions(sweep: Path) -> list[Submission]:
    """The submissions of a sweep, the earliest first. Raises RecordError for one that cannot be read."""
    read = []
    paths = (sweep / "slurm").glob("*/submission.json")
    for path in sorted(paths, key=lambda path: (len(path.parent.name), path.parent.name)):  # they are numbered
        try:
            content = json.loads(read_bytes(path, PLAN))
            arrays = [Array(**array) for array in content["arrays"]]
            _check(arrays, content["tasks"])
            read.append(Submission(path.parent, content["tasks"], arrays))
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise records.RecordError(f"{path}: {error}. Move {path.parent} away once its jobs have ended.") from None
    return read


def _check(arrays: list[Array], tasks: list[list[str]]) -> None:
    """Raise ValueError unless the arrays consist of `tasks`, which hold names."""
    if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in tasks):
        raise ValueError("tasks is not a list of lists of names")
    for array in arrays:
        whole = type(array.first) is int and type(array.tasks) is int and isinstance(array.job, str)
        if not whole or not 0 <= array.first <= array.first + array.tasks <= len(tasks):
            raise ValueError("arrays is not a list of tasks that were submitted")


def ask(*command: str) -> str:
    """What a command of SLURM prints. Raises NoAnswer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise NoAnswer(f"{command[0]}: {error}") from None
    if done.returncode:
        raise NoAnswer(f"{' '.join(command)}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout


def in_queue() -> dict[str, str]:
    """The state of each task of this user that is in SLURM's queue. Raises NoAnswer."""
    lines = ask("squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%i %T").splitlines()
    return dict(line.split(maxsplit=1) for line in lines)


def waiting(sweep: Path) -> dict[str, str]:
    """The queued job of each run of the sweep that is in one, by the name of the run. Raises NoAnswer."""
    submitted = submissions(sweep)
    queued = in_queue() if submitted else {}
    return {name: job for entry in submitted for job, names in entry.jobs() if job in queued for name in names}
