"""`creditlab-cancel multirun/<sweep>`: take what the sweep has submitted to SLURM out of its queue.

Runs under way write a checkpoint first; the sweep's command, given again, goes on from there.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from creditlab import records
from creditlab.sweep.queue import NoAnswer, ask, in_queue, submissions


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("creditlab-cancel", description=__doc__)
    parser.add_argument("sweep", type=Path, help="the folder of a sweep")
    chosen = parser.parse_args(arguments)
    try:
        known = submissions(chosen.sweep)
        if not known:
            raise records.RecordError(f"{chosen.sweep} has submitted nothing to SLURM. Ctrl-C stops a sweep of a pool.")
        queued = in_queue()
        jobs = [job for submission in known for job, _ in submission.jobs() if job in queued]
        if jobs:
            ask("scancel", *dict.fromkeys(job.partition("_")[0] for job in jobs))
    except (records.RecordError, NoAnswer) as error:
        print(f"creditlab-cancel: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"{len(jobs)} {'task' if len(jobs) == 1 else 'tasks'} cancelled")


if __name__ == "__main__":
    main()
