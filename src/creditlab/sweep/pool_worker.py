"""A worker process as the sweep sees it: orders go in, answers come out. `worker` is the process itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import IO

from creditlab.sweep.plan import Planned
from creditlab.sweep.worker import SIGNALS


class PoolWorker:
    """A process of `creditlab.sweep.worker`, and the runs that it is training, by name. `device`, if not None, replaces
    the device of each run.
    """

    def __init__(self, log: IO[bytes], device: str | None) -> None:
        self.device = device
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",  # on a busy machine a spinning thread takes the core of the one it waits for
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        command = [sys.executable, "-P", "-m", "creditlab.sweep.worker"]
        pipe = subprocess.PIPE
        mask_before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the worker unblocks them once it can obey
        try:
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=log, env=environment, start_new_session=True
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask_before)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.orders, self.answers = self.process.stdin, self.process.stdout
        self.runs: dict[str, Planned] = {}
        self.ready = False
        self.leaves = False  # it was asked to stop and takes no more orders
        self.incomplete_line = b""

    def start(self, runs: Sequence[Planned]) -> None:
        """Have it train `runs` together."""
        self.runs = {run.folder.name: run for run in runs}
        device = {} if self.device is None else {"device": self.device}
        order = [{"folder": str(run.folder), "config": run.config | device, "hydra": run.hydra} for run in runs]
        with contextlib.suppress(BrokenPipeError):  # it has died: the end of its answers will show that
            self.orders.write(json.dumps(order).encode() + b"\n")
            self.orders.flush()

    def dismiss(self) -> None:
        """Have it end, since no more orders will come."""
        with contextlib.suppress(BrokenPipeError):  # it has died: the end of its answers will show that
            self.orders.close()

    def messages(self) -> list[dict] | None:
        """Its answers since the last call; None when it has ended."""
        received = os.read(self.answers.fileno(), 1 << 16)
        *lines, self.incomplete_line = (self.incomplete_line + received).split(b"\n")
        self.ready = self.ready or bool(lines)
        return [json.loads(line) for line in lines] if received else None

    def cause_of_end(self) -> str:
        """How the process ended."""
        code = self.process.wait()
        name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        hint = " (the memory was full, or someone killed it)" if code == -signal.SIGKILL else ""
        return f"the worker process ended with {name}{hint}"
