"""Following runs that were submitted to SLURM, by their folders, until their tasks have left the queue."""

from __future__ import annotations

import time
from pathlib import Path

from creditlab import records
from creditlab.sweep.display import Display
from creditlab.sweep.launcher import Survey, SweepFailed
from creditlab.sweep.queue import NoAnswer, Submission, in_queue

PAUSE = 10.0  # seconds between looks, at most
SURE = 2  # looks at which a task must be out of the queue: while SLURM queues one again it shows none for a moment


def follow(found: Survey, submission: Submission, sweep: Path) -> None:
    """Tell of the runs as they end. Raises SweepFailed if some did not finish."""
    jobs = dict(submission.jobs())
    at = {run.folder.name: run for run in found.to_do}
    with Display("following", len(at), sweep) as display:
        pause, gone = 1.0, 0
        while at:
            try:
                gone = 0 if in_queue().keys() & jobs.keys() else gone + 1
            except NoAnswer as error:  # slurmctld is being restarted, say: the runs go on
                display.say(f"SLURM does not answer ({error}); asking again")
                gone = 0
            for name, run in list(at.items()):
                there = records.read_run(run.folder)
                if there.finished or (there.status == "failed" and gone == SURE):
                    display.finished(run, there.status, there.problem)
                    del at[name]
            if gone == SURE:
                break
            try:
                time.sleep(pause)
            except KeyboardInterrupt:
                display.say(f"no longer followed, the jobs go on: creditlab-cancel {sweep} stops them")
                raise
            pause = min(1.5 * pause, PAUSE) if not gone else PAUSE / 2
        for job, names in jobs.items():
            for name in names:
                if name in at:
                    display.finished(at[name], "failed", _why(submission, job))
    if display.failures:
        number = f"{len(display.failures)} of {display.total}"
        raise SweepFailed(f"{number} runs failed or did not finish. The same command again runs only these.")


def _why(submission: Submission, job: str) -> str:
    """What became of a run whose task has left the queue without finishing it."""
    log = submission.log(job)
    if log.is_file():
        return f"not finished when its task {job} ended: {log}"
    return f"its task {job} left no log: do all nodes see {submission.folder}? It must be on a disk that they share."
