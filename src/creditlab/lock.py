"""One process a folder: a lock that names its holder, does not outlive it, and fences a forgotten one off.

    with hold(folder) as lock:      # Held, if another process is at it
        ...
        lock.check()                # Lost, if another has taken over since: before every write

The lock is a file, written aside and hard-linked into place: atomic on local disks and on NFS alike, and it says who
holds it. Advisory locks (`fcntl`, `flock`) depend on how a shared disk is mounted, vanish unnoticed when its server
restarts, and tell nobody whose they are.

A holder on this machine is dead when its process is gone; elsewhere, when its *heartbeat*, the modification time that
it renews every `BEAT` seconds, is older than `DEAD`; and SLURM starts a job anew only when it believes the former copy
dead. Belief can be wrong, so taking over replaces the file, and the former holder finds that out before it writes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

BEAT, DEAD = 15.0, 120.0  # seconds; a shared disk may show a heartbeat a minute late
NAME = "lock"


class Held(ValueError):
    """Another process, alive, is at work in the folder; the message is meant for the user."""


class Lost(RuntimeError):
    """Another process has taken over the folder, or the folder is gone: nothing more may be written to it."""


@dataclass(frozen=True)
class Holder:
    """Whose a lock is. `place` tells machines and their restarts apart, `born` processes of one number."""

    host: str
    place: str
    pid: int
    born: str
    job_id: str | None
    restarts: int  # how often SLURM has started the job again
    token: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" + (f", job {self.job_id}" if self.job_id else "")

    def alive(self, age: float) -> bool:
        """Whether it still runs, `age` seconds after its last heartbeat (negative where a clock was put back)."""
        if self.born and self.place == _place():
            return _born(self.pid) == self.born
        return abs(age) < DEAD

    def superseded_by(self, other: Holder) -> bool:
        """Whether `other` is what SLURM started in its place."""
        return self.job_id is not None and self.job_id == other.job_id and self.restarts < other.restarts


@functools.cache
def _place() -> str:
    """This machine since it started, and the space in which its process numbers count."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return platform.node()


def _born(pid: int) -> str:
    """When the process started; '' if it is gone."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]
    except OSError:
        return ""


def job() -> tuple[str | None, int]:
    """The SLURM job (`12_3` for a task of an array) that this process belongs to, and how often it was restarted."""
    of = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{of}_{task}" if of and task else of, int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def _me() -> Holder:
    job_id, restarts = job()
    pid = os.getpid()
    return Holder(platform.node(), _place(), pid, _born(pid), job_id, restarts, uuid.uuid4().hex)


def _read(path: Path) -> tuple[Holder, float] | None:
    """The holder and the time of its heartbeat; None where there is no lock."""
    try:
        with open(path, "rb") as file:
            beat, content = os.fstat(file.fileno()).st_mtime, file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Held(f"{path} cannot be read ({error.strerror}). Move it away.") from None
    try:
        return Holder(**json.loads(content)), beat
    except (ValueError, TypeError):  # not of ours, or spoilt: only its age can tell
        return Holder("an unknown host", "", 0, "", None, 0, ""), beat


@dataclass(frozen=True)
class Claim:
    """What a lock says to a reader."""

    holder: Holder
    age: float  # seconds since its heartbeat
    alive: bool


def claim(folder: Path) -> Claim | None:
    """Who is at work in `folder`, or was when it died; None if nobody holds its lock."""
    found = _read(folder / NAME)
    if found is None:
        return None
    age = time.time() - found[1]
    return Claim(found[0], age, found[0].alive(age))


class Lock:
    """The lock of `folder`, held. `hold` makes and releases it."""

    def __init__(self, folder: Path, wait: float) -> None:
        self.path, self.me, self.lost = folder / NAME, _me(), False
        self._released = threading.Event()
        until = time.monotonic() + wait
        while not self._take():
            if time.monotonic() >= until:
                found = _read(self.path)
                raise Held(f"{folder} is being worked on by {found[0] if found else 'another process'}.")
            time.sleep(0.05)
        threading.Thread(target=self._beat, daemon=True).start()

    def _take(self) -> bool:
        """Take the lock if it is free or its holder is dead."""
        aside = self.path.with_name(f".{NAME}.{self.me.token}.tmp")
        aside.write_text(json.dumps(asdict(self.me)))
        try:
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                os.link(aside, self.path)
                return True
            found = _read(self.path)
            if found is None:
                return False
            holder, beat = found
            age = aside.stat().st_mtime - beat  # both by the clock of the disk
            if holder.token != self.me.token:  # else the link was made, and only the answer was lost
                if holder.alive(age) and not holder.superseded_by(self.me):
                    return False
                os.replace(aside, self.path)
            return True
        finally:
            aside.unlink(missing_ok=True)

    def _mine(self) -> bool:
        found = _read(self.path)
        return found is not None and found[0].token == self.me.token

    def check(self) -> None:
        """Raise Lost if the lock is another's by now."""
        if self.lost or not self._mine():
            raise Lost(f"{self.path.parent} was taken over by another process, deleted or moved away.")

    def _beat(self) -> None:
        while not self._released.wait(BEAT):
            with contextlib.suppress(OSError, Held):  # of a shared disk that does not answer: try again
                if not self._mine():
                    self.lost = True
                    return
                os.utime(self.path)

    def release(self) -> None:
        self._released.set()
        with contextlib.suppress(OSError, Held):
            if self._mine():
                self.path.unlink()


@contextlib.contextmanager
def hold(folder: Path, wait: float = 0.0) -> Iterator[Lock]:
    """Hold the lock of `folder`, which must exist. Raises Held if another holds it after `wait` seconds."""
    lock = Lock(folder, wait)
    try:
        yield lock
    finally:
        lock.release()
