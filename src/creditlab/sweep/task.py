"""What SLURM runs: `python -m creditlab.sweep.task SUBMISSION FIRST` does the runs of one task of an array.

It is a pool on the node that it got. SIGUSR2, which SLURM sends before the time limit and before preemption, and
SIGTERM have every run write a checkpoint; after SIGUSR2 the task queues itself again. A task that is started again goes
by the run folders alone: what is finished is skipped, what was under way is taken over from its former copy, which
finds that out before it writes. A failed run makes the task fail, so that `sacct` tells the truth.
"""

from __future__ import annotations

import signal

from creditlab import interrupt

if __name__ == "__main__":  # before anything else, imports included
    interrupt.watch(signal.SIGUSR2, signal.SIGTERM)

import json
import os
import platform
import sys
from pathlib import Path

from creditlab import records
from creditlab.lock import job
from creditlab.sweep.launcher import Survey
from creditlab.sweep.plan import Planned
from creditlab.sweep.pool import run_all
from creditlab.sweep.queue import NoAnswer, ask


def write_task(path: Path, runs: list[Planned]) -> None:
    """Say in the file `path` what a task is to do."""
    content = [{"name": run.folder.name, "config": run.config, "hydra": run.hydra} for run in runs]
    path.write_text(json.dumps(content))


def _runs(path: Path, sweep: Path) -> list[Planned]:
    entries = json.loads(path.read_text())
    return [Planned(e["config"], sweep / e["name"], lambda hydra=e["hydra"]: hydra) for e in entries]  # type: ignore[misc]


def main() -> int:
    submission, first, workers, max_requeue = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    devices = sys.argv[5:]
    path = submission / "tasks" / f"{first + int(os.environ.get('SLURM_ARRAY_TASK_ID', 0))}.json"
    if not path.is_file():
        node = os.environ.get("SLURMD_NODENAME", platform.node())
        _say(f"node {node} does not see {path}: the sweep's folder must be on a disk that all nodes share.")
        return 1
    sweep = submission.parents[1]
    found = Survey()
    for run in _runs(path, sweep):
        if records.find_run(run.folder, run.config).finished:
            found.finished += 1
        else:
            found.to_do.append(run)
    with open(sys.stderr.fileno(), "wb", closefd=False) as log:
        ended = run_all(found, sweep, workers, devices, log, together=1)
    if interrupt.asked() == signal.SIGUSR2 and ended["interrupted"]:
        return _requeue(max_requeue)
    if interrupt.asked():
        return 1
    return 1 if ended["failed"] or ended["lost"] else 0


def _requeue(most: int) -> int:
    """Have SLURM start this task again, which ends this copy."""
    job_id, restarts = job()
    if restarts >= most:
        _say(f"queued again {restarts} times already: give the sweep's command again, with more time for a task.")
        return 1
    try:
        ask("scontrol", "requeue", str(job_id))
    except NoAnswer as error:
        _say(f"cannot be queued again, give the sweep's command again: {error}")
        return 1
    return 0


def _say(message: str) -> None:
    print(f"creditlab: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
