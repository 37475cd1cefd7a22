"""A worker process as the sweep sees it: orders go in, answers come out. What it does is in `worker`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import IO

from creditlab.sweep.plan import Planned
from creditlab.sweep.worker import SIGNALS


class Worker:
    """A process of `creditlab.sweep.worker`, and the run that it is at. `device` stands in for that of the runs."""

    def __init__(self, log: IO[bytes], device: str | None) -> None:
        self.log, self.device = log, device
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",  # on a busy machine a spinning thread starves the one it waits for
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        command = [sys.executable, "-P", "-m", "creditlab.sweep.worker"]
        pipe = subprocess.PIPE
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the worker lets them through when it can obey
        try:
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=log, env=environment, start_new_session=True
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.orders, self.answers = self.process.stdin, self.process.stdout
        self.run: Planned | None = None
        self.ready = False
        self.torn = b""

    def successor(self) -> Worker:
        """Another one in its place."""
        return Worker(self.log, self.device)

    def start(self, run: Planned) -> None:
        self.run = run
        config = run.config if self.device is None else run.config | {"device": self.device}
        order = {"folder": str(run.folder), "config": config, "hydra": run.hydra}
        with contextlib.suppress(BrokenPipeError):  # it died since: its answers end, which says so
            self.orders.write(json.dumps(order).encode() + b"\n")
            self.orders.flush()

    def messages(self) -> list[dict] | None:
        """What it has answered since; None when it has ended."""
        read = os.read(self.answers.fileno(), 1 << 16)
        *lines, self.torn = (self.torn + read).split(b"\n")
        self.ready = self.ready or bool(lines)
        return [json.loads(line) for line in lines] if read else None

    def fate(self) -> str:
        """How the process ended."""
        code = self.process.wait()
        name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return f"the worker process ended with {name}"
