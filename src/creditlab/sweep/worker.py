"""A worker process: does the runs that it reads from standard input, one JSON line a run, and answers in JSON lines.

    in    {"folder": …, "config": …, "hydra": …}
    out   {"step": 10, "steps": 100}  as a run goes,  {"status": "complete", "objective": 0.97}  at its end

It imports torch once and does many runs. A run that fails is answered with its cause; the worker goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def main() -> None:
    from creditlab.training import train

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a user's code prints must not get into the answers

    def answer(message: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the sweep was killed: finish the run all the same
            answers.write(json.dumps(message) + "\n")
            answers.flush()

    for line in sys.stdin:
        order = json.loads(line)
        config = order["config"]
        try:
            run = train(
                config,
                Path(order["folder"]),
                lambda step, steps, found: answer({"step": step, "steps": steps}),
                order["hydra"],
            )
        except Exception as error:
            answer({"status": "failed", "problem": f"{type(error).__name__}: {error}".splitlines()[0]})
        else:
            answer({"status": run.status, "problem": run.problem})


if __name__ == "__main__":
    main()
