"""A worker process: does the runs that it reads from standard input, and answers in JSON lines.

    in    [{"folder": …, "config": …, "hydra": …}, …]  runs to be trained together, mostly one
    out   {"ready": true}  once,  {"run": …, "step": 10, "steps": 100}  as a run goes, by the name of its folder,
          {"run": …, "status": …, "problem": …}  at its end

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
    from creditlab import records
    from creditlab.lock import Held, Lost
    from creditlab.process import prepare_process
    from creditlab.together import Opening, train_together
    from creditlab.training import open_trainer

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a user's code prints must not get into the answers

    def answer(message: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the sweep was killed: finish the run all the same
            answers.write(json.dumps(message) + "\n")
            answers.flush()

    folders: dict[str, Path] = {}  # by the name of each, of the runs so far
    ends: set[str] = set()  # in which runs ended

    def begin(order: Mapping[str, Any]) -> tuple[str, Opening]:
        folder = Path(order["folder"])
        folders[folder.name] = folder

        def report(step: int, steps: int, found: Mapping[str, float]) -> None:
            answer({"run": folder.name, "step": step, "steps": steps})

        return folder.name, open_trainer(order["config"], folder, report, order["hydra"])

    def settle(name: str, error: BaseException | None) -> None:
        status, problem = outcome(folders[name], error)
        ends.add(status)
        answer({"run": name, "status": status, "problem": problem.split("\n")[0]})

    def outcome(folder: Path, error: BaseException | None) -> tuple[str, str]:
        match error:
            case None:
                run = records.read_run(folder)
                return run.status, run.problem
            case interrupt.Interrupted():
                return "interrupted", ""
            case Held():
                return "held", str(error)
            case Lost():
                return "lost", str(error)
            case _:
                return "failed", f"{type(error).__name__}: {error}"

    answer({"ready": True})
    for line in sys.stdin:
        orders = json.loads(line)
        prepare_process(orders[0]["config"]["threads"])
        train_together(dict(map(begin, orders)), settle)
        if "interrupted" in ends:
            return


if __name__ == "__main__":
    main()
