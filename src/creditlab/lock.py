"""One process per folder: a lock that names its holder, does not outlive it, and stops a holder that was replaced.

    with hold(folder) as lock:      # raises Held if another process is working on the folder
        ...
        lock.check()                # before every write: raises Lost if another process has taken over

The lock is a file. It is written under another name and then hard-linked to its own, which is atomic on local disks and
on NFS. The file names the holder. Advisory locks (`fcntl`, `flock`) do not: they also depend on how a shared disk is
mounted, and they vanish unnoticed when its server restarts.

A disk without hard links (SMB, FUSE, exFAT) gets the same file by exclusive creation. The file is then empty for a
moment. A reader takes an empty file for a living holder until it is older than `DEAD` seconds.

A holder on this machine is dead when its process is gone. A holder on another machine counts as dead when its
*heartbeat*, the modification time that it renews every `BEAT` seconds, is older than `DEAD` seconds. SLURM restarts a
job only when it believes that the former copy is dead. Such a belief can be wrong. So a process that takes over
replaces the file, and the former holder notices that before it writes.
"""

from __future__ import annotations

import contextlib
import errno
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

from creditlab.files import Unreadable, open_regular

BEAT, DEAD = 15.0, 120.0  # seconds; a shared disk may show a heartbeat up to a minute late
NAME = "lock"
LONGEST = 10_000  # bytes of a lock that are read
NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class Held(ValueError):
    """Another process is working on the folder; the message is meant for the user."""


class Lost(RuntimeError):
    """Another process has taken over the folder, or the folder is gone: nothing more may be written to it."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock. `place` identifies a machine since its start. `born` identifies a process among
    those with the same number.
    """

    host: str
    place: str
    pid: int
    born: str
    job_id: str | None
    restarts: int  # how often SLURM has restarted the job
    token: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" + (f", job {self.job_id}" if self.job_id else "")

    def alive(self, age: float) -> bool:
        """Whether it still runs, `age` seconds after its last heartbeat. `age` is negative if a clock was set back."""
        if self.born and self.place == _place():
            return _born(self.pid) == self.born
        return abs(age) < DEAD

    def superseded_by(self, other: Holder) -> bool:
        """Whether `other` is the copy of the job that SLURM started instead of this one."""
        return self.job_id is not None and self.job_id == other.job_id and self.restarts < other.restarts


@functools.cache
def _place() -> str:
    """Identifies this machine since its start, and the namespace of its process numbers."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return platform.node()


def _born(pid: int) -> str:
    """When the process started; empty if it is gone."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]
    except OSError:
        return ""


def job() -> tuple[str | None, int]:
    """The SLURM job (`12_3` for a task of an array) that this process belongs to, and how often it was restarted."""
    job_id = os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ.get("SLURM_JOB_ID")
    task = os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{job_id}_{task}" if job_id and task else job_id, int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def _me() -> Holder:
    job_id, restarts = job()
    pid = os.getpid()
    return Holder(platform.node(), _place(), pid, _born(pid), job_id, restarts, uuid.uuid4().hex)


def _read(path: Path) -> tuple[Holder, float] | None:
    """The holder and the time of its heartbeat; None if there is no lock."""
    try:
        with open_regular(path) as file:
            beat, content = os.fstat(file.fileno()).st_mtime, file.read(LONGEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, Unreadable) as error:
        raise Held(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}). Move it away.") from None
    try:
        return _holder(json.loads(content)), beat
    except (ValueError, TypeError, RecursionError):  # not one of ours, or broken: then only its age counts
        return Holder("an unknown host", "", 0, "", None, 0, ""), beat


def _holder(content: dict) -> Holder:
    """The holder that a lock names. Raises TypeError unless each field is of its type."""
    holder = Holder(**content)
    for name, value in asdict(holder).items():
        kinds = {"pid": (int,), "restarts": (int,), "job_id": (str, type(None))}.get(name, (str,))
        if type(value) not in kinds:
            raise TypeError(f"{name}={value!r}")
    return holder


@dataclass(frozen=True)
class Claim:
    """What a lock shows to a reader."""

    holder: Holder
    age: float  # seconds since its heartbeat
    alive: bool


def claim(folder: Path) -> Claim | None:
    """Who is working on `folder`, or was working on it and died; None if there is no lock."""
    content = _read(folder / NAME)
    if content is None:
        return None
    holder, heartbeat = content
    age = time.time() - heartbeat
    return Claim(holder, age, holder.alive(age))


class Lock:
    """The lock of `folder`, while this process holds it. `hold` makes and releases it."""

    def __init__(self, folder: Path, wait: float) -> None:
        self.path, self.me, self.lost = folder / NAME, _me(), False
        self._released = threading.Event()
        until = time.monotonic() + wait
        while not self._take():
            if time.monotonic() >= until:
                content = _read(self.path)
                raise Held(f"{folder} is being worked on by {content[0] if content else 'another process'}.")
            time.sleep(0.05)
        with contextlib.suppress(FileNotFoundError):  # it is lost already; `check` says so
            self._remove_leftovers()
        threading.Thread(target=self._beat, daemon=True).start()

    def _take(self) -> bool:
        """Take the lock if it is free or its holder is dead."""
        me = json.dumps(asdict(self.me)).encode()
        aside = self.path.with_name(f".{NAME}.{self.me.token}.tmp")
        try:
            aside.write_bytes(me)
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.unlink()
            error.filename = error.filename or str(self.path)  # the disk is full
            raise
        try:
            with contextlib.suppress(FileExistsError):
                self._create(aside, me)
                return True
            content = _read(self.path)
            if content is None:
                return False
            holder, heartbeat = content
            age = aside.stat().st_mtime - heartbeat  # the clock of the disk gives both times
            if holder.token != self.me.token:  # if they are equal, the link was made, and only the answer was lost
                if holder.alive(age) and not holder.superseded_by(self.me):
                    return False
                os.replace(aside, self.path)
            return True
        except FileNotFoundError:  # someone removed `aside`, or the folder
            return False
        finally:
            aside.unlink(missing_ok=True)

    def _create(self, aside: Path, me: bytes) -> None:
        """Make the lock from `aside`, which contains `me`. Raises FileExistsError if there is a lock."""
        try:
            os.link(aside, self.path)
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            try:
                os.write(descriptor, me)  # if another process has taken over by now, this is not its file
            finally:
                os.close(descriptor)

    def _remove_leftovers(self) -> None:
        """Remove the files of processes that died while they took this lock."""
        now = self.path.stat().st_mtime  # by the clock of the disk
        for aside in self.path.parent.glob(f".{NAME}.*.tmp"):
            with contextlib.suppress(OSError, Held):  # its process has just removed it
                content = _read(aside)
                if content and not content[0].alive(now - content[1]):
                    aside.unlink()

    def _mine(self) -> bool:
        content = _read(self.path)
        return content is not None and content[0].token == self.me.token

    def check(self) -> None:
        """Raise Lost if another process holds the lock by now."""
        if self.lost or not self._mine():
            raise Lost(f"{self.path.parent} was taken over by another process, deleted or moved away.")

    def _beat(self) -> None:
        while not self._released.wait(BEAT):
            with contextlib.suppress(OSError, Held):  # a shared disk does not answer: try again
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
