"""A worker process: does the runs that it reads from standard input, one JSON line a run, and answers in JSON lines.

    in    {"folder": …, "config": …, "hydra": …}
    out   {"ready": true}  once,  {"step": 10, "steps": 100}  as a run goes,  {"status": …, "problem": …}  at its end

It imports torch once and does many runs. A run that fails is answered with its cause; the worker goes on. Asked to stop
by SIGTERM, it ends at the next step, after a checkpoint. If the sweep that it works for is killed, it finishes its run.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from creditlab import interrupt

SIGNALS = (signal.SIGTERM, signal.SIGUSR2)  # blocked as it is started, until it can obey


def main() -> None:
    interrupt.watch(signal.SIGTERM)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # SLURM sends it to all; the sweep has SIGTERM for its workers
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    from creditlab.lock import Held, Lost
    from creditlab.training import train

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a user's code prints must not get into the answers

    def answer(message: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the sweep was killed: finish the run all the same
            answers.write(json.dumps(message) + "\n")
            answers.flush()

    def settle(status: str, problem: object = "") -> None:
        answer({"status": status, "problem": str(problem).split("\n")[0]})

    answer({"ready": True})
    for line in sys.stdin:
        order = json.loads(line)
        try:
            run = train(
                order["config"],
                Path(order["folder"]),
                lambda step, steps, found: answer({"step": step, "steps": steps}),
                order["hydra"],
            )
        except interrupt.Interrupted:
            settle("interrupted")
            return
        except Held as error:
            settle("held", error)
        except Lost as error:
            settle("lost", error)
        except Exception as error:
            settle("failed", f"{type(error).__name__}: {error}")
        else:
            settle(run.status, run.problem)


if __name__ == "__main__":
    main()
