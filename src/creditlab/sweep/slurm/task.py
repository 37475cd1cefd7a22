"""What SLURM runs: `python -m creditlab.sweep.slurm.task SUBMISSION FIRST …` does the runs of one task of an array.

A task is a pool on its node. SLURM sends SIGUSR2 before the time limit and before preemption. After SIGUSR2 or SIGTERM
every run writes a checkpoint; after SIGUSR2 the task then queues itself again. A task that is started again reads the
folders of its runs: it skips finished runs, and it takes over those that its former copy was working on. The former
copy notices that before it writes. If a run failed, or if another process is working on it, the task fails too, so that
`sacct` shows the truth.
"""

from __future__ import annotations

import signal

from creditlab import interrupt

if __name__ == "__main__":  # before anything else, even the other imports
    interrupt.watch(signal.SIGUSR2, signal.SIGTERM)

import json
import os
import platform
import sys
from pathlib import Path

from creditlab import files, records
from creditlab.lock import job
from creditlab.sweep.launcher import Worklist
from creditlab.sweep.plan import Planned
from creditlab.sweep.pool import run_all
from creditlab.sweep.slurm.queue import NoAnswer, ask

LEFT = 4  # the exit status if runs are left to other commands, as that of `creditlab`


def write_task(path: Path, runs: list[Planned]) -> None:
    """Write the orders of a task to the file `path`."""
    content = [{"name": run.folder.name, "config": run.config, "hydra": run.hydra} for run in runs]
    path.write_text(json.dumps(content))


def _read_task(path: Path, sweep: Path) -> list[Planned]:
    entries = json.loads(files.read_bytes(path, files.PLAN))
    return [Planned(e["config"], sweep / e["name"], lambda hydra=e["hydra"]: hydra) for e in entries]  # type: ignore[misc]


def main() -> int:
    submission, first, workers, max_requeue = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    devices = sys.argv[5:]
    path = submission / "tasks" / f"{first + int(os.environ.get('SLURM_ARRAY_TASK_ID', 0))}.json"
    if not path.is_file():
        node = os.environ.get("SLURMD_NODENAME", platform.node())
        _print(f"node {node} does not see {path}: the sweep's folder must be on a disk that all nodes share.")
        return 1
    sweep = submission.parents[1]
    worklist = Worklist()
    for run in _read_task(path, sweep):
        if records.find_run(run.folder, run.config).finished:
            worklist.finished += 1
        else:
            worklist.to_do.append(run)
    with open(sys.stderr.fileno(), "wb", closefd=False) as log:
        ended = run_all(worklist, sweep, workers, devices, log, together=1)
    if interrupt.asked() == signal.SIGUSR2 and ended["interrupted"]:
        return _requeue(max_requeue)
    if interrupt.asked():
        return 1
    if ended["failed"] or ended["lost"]:
        return 1
    return LEFT if worklist.left_to_others() else 0


def _requeue(most: int) -> int:
    """Have SLURM start this task again, which ends this copy."""
    job_id, restarts = job()
    if restarts >= most:
        _print(f"was queued again {restarts} times already: give the sweep's command again, with more time per task.")
        return 1
    try:
        ask("scontrol", "requeue", str(job_id))
    except NoAnswer as error:
        _print(f"cannot be queued again, so give the sweep's command again: {error}")
        return 1
    return 0


def _print(message: str) -> None:
    print(f"creditlab: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
