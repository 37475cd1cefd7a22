"""`creditlab-cancel multirun/<sweep>`: remove the sweep's jobs from SLURM's queue.

Runs that are under way write a checkpoint first. The sweep's command, given again, resumes from there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from creditlab import records
from creditlab.sweep.slurm.queue import NoAnswer, ask, in_queue, submissions


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("creditlab-cancel", description=__doc__)
    parser.add_argument("sweep", type=Path, help="the folder of a sweep")
    chosen = parser.parse_args(arguments)
    try:
        submitted = submissions(chosen.sweep)
        if not submitted:
            raise records.RecordError(f"{chosen.sweep} has submitted nothing to SLURM. Ctrl-C stops a sweep of a pool.")
        queued = in_queue()
        jobs = [job for submission in submitted for job, _ in submission.jobs() if job in queued]
        if jobs:
            ask("scancel", *dict.fromkeys(job.partition("_")[0] for job in jobs))
    except (records.RecordError, NoAnswer) as error:
        print(f"creditlab-cancel: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"{len(jobs)} {'task' if len(jobs) == 1 else 'tasks'} cancelled")


if __name__ == "__main__":
    main()
