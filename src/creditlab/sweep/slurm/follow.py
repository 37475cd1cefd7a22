"""Following runs that were submitted to SLURM, by their folders, until their tasks have left the queue."""

from __future__ import annotations

import time
from pathlib import Path

from creditlab import records
from creditlab.sweep.display import Display
from creditlab.sweep.launcher import SweepFailed, Worklist
from creditlab.sweep.slurm.queue import NoAnswer, Submission, in_queue

PAUSE = 10.0  # seconds between two looks, at most
SURE = 2  # looks without the task in the queue: while SLURM queues a task again, the task is in no state for a moment


def follow(worklist: Worklist, submission: Submission, sweep: Path) -> None:
    """Show the runs as they end. Raises SweepFailed if some did not finish."""
    jobs = dict(submission.jobs())
    under_way = {run.folder.name: run for run in worklist.to_do}
    with Display("following", len(under_way), sweep) as display:
        pause, looks_without = 1.0, 0
        while under_way:
            try:
                looks_without = 0 if in_queue().keys() & jobs.keys() else looks_without + 1
            except NoAnswer as error:  # slurmctld is being restarted, say: the runs go on
                display.say(f"SLURM does not answer ({error}); asking again")
                looks_without = 0
            for name, run in list(under_way.items()):
                record = records.read_run(run.folder)
                if record.finished or (record.status == "failed" and looks_without == SURE):
                    display.finished(run, record.status, record.problem)
                    del under_way[name]
            if looks_without == SURE:
                break
            try:
                time.sleep(pause)
            except KeyboardInterrupt:
                display.say(f"this command stops following. The jobs go on; creditlab-cancel {sweep} stops them.")
                raise
            pause = min(1.5 * pause, PAUSE) if not looks_without else PAUSE / 2
        for job, names in jobs.items():
            for name in names:
                if name in under_way:
                    display.finished(under_way[name], "failed", _why(submission, job))
    if display.failures:
        number = f"{len(display.failures)} of {display.total}"
        raise SweepFailed(f"{number} runs failed or did not finish. The same command runs only these again.")


def _why(submission: Submission, job: str) -> str:
    """Why a run is not finished although its task has left the queue."""
    log = submission.log(job)
    if log.is_file():
        return f"not finished when its task {job} ended: {log}"
    return f"its task {job} left no log: do all nodes see {submission.folder}? It must be on a disk that they share."
