"""Submitting an array of tasks with submitit, which writes the sbatch file. Nothing else of creditlab uses submitit.

One private part of submitit is used here, and `tests/test_private_parts.py` fails if an upgrade changes it:

`SlurmExecutor._submit_command` and the parameter `map_count`
    The public `submit` and `map_array` pickle a function for each task, and the task writes its result to a pickle.
    creditlab's tasks are command lines that read JSON and leave their results in the folders of the runs, so that
    nothing is ever unpickled and an array needs one sbatch file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class NotSubmitted(RuntimeError):
    """sbatch refused; the message is its own."""


def submit(command: str, tasks: int, folder: Path, parameters: Mapping[str, Any]) -> str:
    """Submit `command` as an array of `tasks` tasks, with the `parameters` of submitit's executor. The sbatch file and
    the logs go to `folder`. Returns the number of the job. Raises NotSubmitted.
    """
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        executor = SlurmExecutor(folder)
        executor.update_parameters(**parameters)
        if tasks > 1:
            executor.parameters["map_count"] = tasks
        return executor._submit_command(command).job_id
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        raise NotSubmitted(" ".join(str(error).split())) from None
