"""What a sweep has submitted to SLURM, and what of it is still in the queue.

`<sweep>/slurm/<n>/` holds a submission: `submission.json` (the arrays, and the runs of each task by name), `tasks/`
(what each task is to do), `source/` (the code as it was), and the logs. Whether a run is done, its own folder says.
"""

from __future__ import annotations

import getpass
import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from creditlab import records
from creditlab.files import write_json


class NoAnswer(RuntimeError):
    """SLURM does not answer; the message has its own words."""


@dataclass
class Array:
    """Tasks that were submitted together: `job`_0, `job`_1 … are numbers `first`, `first` + 1 … of the submission."""

    job: str
    first: int
    tasks: int

    def ids(self) -> list[str]:
        """As squeue has them: a job of one task is no array."""
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
        """Each task as squeue has it, with the names of its runs."""
        for array in self.arrays:
            yield from zip(array.ids(), self.tasks[array.first :], strict=False)

    def log(self, job: str) -> Path:
        return self.folder / f"{job}_0_log.out"


def submissions(sweep: Path) -> list[Submission]:
    """Those of a sweep, the first one first. Raises RecordError for one that cannot be read."""
    found = []
    for path in sorted((sweep / "slurm").glob("*/submission.json"), key=lambda path: path.stat().st_mtime):
        try:
            content = json.loads(path.read_bytes())
            arrays = [Array(**array) for array in content["arrays"]]
            found.append(Submission(path.parent, content["tasks"], arrays))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise records.RecordError(f"{path}: {error}. Move {path.parent} away once its jobs have ended.") from None
    return found


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
    """The state of each of this user's tasks that SLURM has not done with. Raises NoAnswer."""
    lines = ask("squeue", "-h", "-r", "-u", getpass.getuser(), "-o", "%i %T").splitlines()
    return dict(line.split(maxsplit=1) for line in lines)


def waiting(sweep: Path) -> dict[str, str]:
    """The job in which each run of the sweep, by name, is queued. Raises NoAnswer."""
    known = submissions(sweep)
    queued = in_queue() if known else {}
    return {name: job for submission in known for job, names in submission.jobs() if job in queued for name in names}
