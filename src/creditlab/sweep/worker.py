"""The worker process: it trains the runs that it reads from standard input, and answers in JSON lines.

    in    [{"folder": …, "config": …, "hydra": …}, …]  runs to train together, mostly a single one
    out   {"ready": true}                                     once, at the start
          {"run": …, "step": 10, "steps": 100}                while a run goes on; `run` is the name of its folder
          {"run": …, "status": …, "problem": …}               at the end of a run

It imports torch once and trains many runs. If a run fails, it answers with the cause and goes on with the next order.
SIGTERM asks it to stop: it ends at the next step, after a checkpoint. So does the end of standard input, which comes at
once if the sweep's own process is killed: no worker outlives its sweep by more than a step and a checkpoint.
`pool_worker` is this process as the sweep sees it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from creditlab import interrupt

SIGNALS = (signal.SIGTERM, signal.SIGUSR2)  # blocked while the process starts, until it can obey


def orders() -> Iterator[list[dict[str, Any]]]:
    """The orders of standard input, as they come. When it ends, this process is asked to stop. An incomplete last line
    is dropped: the sweep's process was killed while it wrote that line.
    """
    source, lines = os.dup(sys.stdin.fileno()), SimpleQueue[bytes | None]()
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), sys.stdin.fileno())  # a user's code must not read the orders

    def read() -> None:
        incomplete_line = b""
        while received := os.read(source, 1 << 16):
            *complete, incomplete_line = (incomplete_line + received).split(b"\n")
            for line in complete:
                lines.put(line)
        interrupt.ask(signal.SIGTERM)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while (line := lines.get()) is not None:
        yield json.loads(line)


def main() -> None:
    interrupt.watch(signal.SIGTERM)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # SLURM sends it to all processes; the sweep sends SIGTERM to workers
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    from creditlab import records
    from creditlab.lock import Held, Lost
    from creditlab.process import prepare_process
    from creditlab.sweep.callbacks import RunCallbacks, callbacks_of
    from creditlab.together import Opening, train_together
    from creditlab.training import open_trainer

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # output of a user's code must not get into the answers

    def answer(message: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the sweep was killed: write the checkpoint all the same
            answers.write(json.dumps(message) + "\n")
            answers.flush()

    folders: dict[str, Path] = {}  # of all runs so far, by name
    callbacks: dict[str, RunCallbacks] = {}  # of the runs that have some
    statuses: set[str] = set()  # with which runs have ended

    def begin(run: Mapping[str, Any]) -> tuple[str, Opening]:
        folder = Path(run["folder"])

        def report(step: int, steps: int, metrics: Mapping[str, float]) -> None:
            answer({"run": folder.name, "step": step, "steps": steps})

        if (of_run := callbacks_of(run["hydra"], folder)) is not None:
            callbacks[folder.name] = of_run
            of_run.start()
        return folder.name, open_trainer(run["config"], folder, report, run["hydra"])

    def settle(name: str, error: BaseException | None) -> None:
        status, problem = outcome(folders[name], error)
        statuses.add(status)
        if name in callbacks and status in ("complete", "diverged", "failed"):
            callbacks[name].end(error)
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
                return "failed", records.cause_of(error)

    answer({"ready": True})
    for order in orders():
        folders |= {Path(run["folder"]).name: Path(run["folder"]) for run in order}
        if interrupt.asked():
            for run in order:
                settle(Path(run["folder"]).name, interrupt.Interrupted())
            return
        prepare_process(order[0]["config"]["threads"])
        train_together(dict(map(begin, order)), settle)
        if "interrupted" in statuses:
            return


if __name__ == "__main__":
    main()
