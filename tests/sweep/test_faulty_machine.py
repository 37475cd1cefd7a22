"""A faulty machine: clocks that jump, memory or disks that are full, another name. Nothing is lost, and one clear line
says what is wrong. A test is skipped where the machine lacks its means (libfaketime, root).
"""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from creditlab import lock, records
from tests.common import SMALL
from tests.sweep.conftest import SWEEP, Answer

RULE = '''
"""Backpropagation on a faulty machine."""
import os
import signal

from creditlab.algorithms.bp import Backpropagation


class Faulty(Backpropagation):
    """In each step the clock jumps, if libfaketime is there. What else happens in the fourth step, the file `fault`
    says: it happens once.
    """

    steps = 0

    def assign(self, network, batch):
        Faulty.steps += 1
        if "FAKETIME_TIMESTAMP_FILE" in os.environ:
            with open(os.environ["FAKETIME_TIMESTAMP_FILE"], "w") as file:
                file.write(("-1d", "+1d")[Faulty.steps % 2])
        if Faulty.steps == 4 and os.path.exists("fault"):
            with open("fault") as file:
                fault = file.read()
            os.remove("fault")
            if fault == "kill":
                os.kill(os.getppid(), signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "claim":  # so much that it is refused
                self.hoard = bytearray(2**36)
            if fault == "fill":  # so much that it is given and then missing
                self.hoard = [os.urandom(2**24) for _ in range(256)]
        return super().assign(network, batch)
'''
FAULTY = ["--config-dir=my_conf", "-m", "sweep=s", "algorithm=faulty", "seed=range(2)", "hydra.launcher.workers=1"]
KEYS = ["metrics=none", "training.checkpoint_seconds=0.001"]
FILES = ("history.jsonl", "weights.safetensors", "arrays.npz")
NOBODY = 65534
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")
needs_faketime = pytest.mark.skipif(not LIBRARIES, reason="needs libfaketime (Debian: faketime)")


def give(folder, *arguments, before=(), environment=None, module="creditlab"):
    """A command line after the command `before`, which starts it."""
    keys = [word for word in SMALL if word.partition("=")[0] not in {a.partition("=")[0] for a in arguments}]
    done = subprocess.run(
        [*before, sys.executable, "-m", module, *arguments, *(keys if module == "creditlab" else [])],
        cwd=folder, capture_output=True, text=True, timeout=240,
        env={**os.environ, "COLUMNS": "200", **(environment or {})},
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return Answer(done.returncode, done.stdout, done.stderr)


def content(folder):
    """What must be equal: all but times and places."""
    runs = records.read_sweep(folder / "multirun" / "s")
    assert {run.status for run in runs} == {"complete"}, [run.problem for run in runs]
    return {run.name: ([(run.folder / file).read_bytes() for file in FILES], run.metrics) for run in runs}


def with_rule(folder):
    (folder / "my_conf" / "algorithm").mkdir(parents=True)
    (folder / "my_conf" / "algorithm" / "faulty.yaml").write_text("_target_: my_rules.Faulty\n")
    (folder / "my_rules.py").write_text(RULE)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What FAULTY leaves on a sound machine."""
    folder = with_rule(tmp_path_factory.mktemp("undisturbed"))
    answer = give(folder, *FAULTY, *KEYS)
    assert answer.code == 0, answer.err
    return content(folder)


@pytest.fixture
def place(tmp_path):
    return with_rule(tmp_path)


@pytest.fixture
def clock(tmp_path):
    """The environment in which the clock is set by a file, at first to yesterday. Times of files are the real ones."""
    file = tmp_path / "clock"
    file.write_text("-1d")
    options = ("FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC", "DONT_FAKE_MONOTONIC", "NO_FAKE_STAT")
    return {"LD_PRELOAD": str(LIBRARIES[0]), "FAKETIME_TIMESTAMP_FILE": str(file), **dict.fromkeys(options, "1")}


@needs_faketime
def test_a_clock_that_jumps_by_days_changes_nothing(place, undisturbed, clock):
    (place / "fault").write_text("kill")
    assert give(place, *FAULTY, *KEYS, environment=clock).code == -signal.SIGKILL
    Path(clock["FAKETIME_TIMESTAMP_FILE"]).write_text("+1d")
    status = give(place, "multirun/s", "--json", module="creditlab.sweep.status", environment=clock)
    assert json.loads(status.out)["counts"] == {"dead": 1, "missing": 1}
    answer = give(place, *FAULTY, *KEYS, environment=clock)
    assert answer.code == 0, answer.err
    assert content(place) == undisturbed
    for run in records.read_sweep(place / "multirun" / "s"):
        assert abs(run.record["started"] - time.time()) > 40_000  # the clock did jump
        assert 0 <= run.summary["seconds_metrics"] <= run.summary["seconds"] < 1000
        assert sorted(path.name for path in run.folder.iterdir() if path.name in ("lock", "checkpoint.pt")) == []


@needs_faketime
def test_a_clock_that_is_a_day_off_takes_no_run_from_another_machine(swept, clock):
    """The heartbeat of the other machine seems a day old. The clock of the disk shows that it is not."""
    run = records.read_sweep(swept / "multirun" / "s")[0]
    (run.folder / "summary.json").unlink()
    holder = lock.Holder("far", "another machine", 1, "1", None, 0, "token")
    (run.folder / "lock").write_text(json.dumps(asdict(holder)))
    Path(clock["FAKETIME_TIMESTAMP_FILE"]).write_text("+1d")
    answer = give(swept, *SWEEP, environment=clock)
    assert answer.code == 4, answer.err
    assert "is being worked on by process 1 on far" in answer.err
    assert records.read_run(run.folder).status == "unfinished"


def test_memory_that_is_refused_fails_one_run(place, undisturbed):
    (place / "fault").write_text("claim")
    limit = ["bash", "-c", 'ulimit -v 33554432 && exec "$@"', "bash"]  # KiB
    answer = give(place, *FAULTY, *KEYS, before=limit)
    assert answer.code == 1
    assert "1 complete, 1 failed" in answer.err
    assert answer.err.count("MemoryError") == 2  # when it happens and at the end
    assert give(place, *FAULTY, *KEYS).code == 0
    assert content(place) == undisturbed


@contextlib.contextmanager
def memory_limit(size):
    """A memory control group of `size` bytes. Skips the test where none can be made."""
    root = Path("/sys/fs/cgroup")
    parent, limit = (root / "memory", "memory.limit_in_bytes") if (root / "memory").is_dir() else (root, "memory.max")
    group = parent / f"creditlab-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error}")
    try:
        if not (group / limit).exists():
            pytest.skip("control groups do not limit memory here")
        (group / limit).write_text(str(size))
        yield ["bash", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "bash"]
    finally:
        group.rmdir()


@needs_root
def test_the_system_kills_a_worker_for_lack_of_memory(place, undisturbed):
    (place / "fault").write_text("fill")
    with memory_limit(3 * 2**30) as limit:
        answer = give(place, *FAULTY, *KEYS, before=limit)
    assert answer.code == 1, answer.err
    assert "1 complete, 1 failed" in answer.err
    assert "the worker process ended with SIGKILL (the memory was full, or someone killed it)" in answer.err
    assert give(place, *FAULTY, *KEYS).code == 0
    assert content(place) == undisturbed


@contextlib.contextmanager
def small_disk(folder, size):
    """A disk of `size` bytes at `folder`. Skips the test where none can be made."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "small", folder], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no disk can be mounted: {done.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder):
    """Write until the disk at `folder` is full."""
    with contextlib.suppress(OSError), open(folder / "filling", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@needs_root
def test_a_full_temporary_folder_does_no_harm(tmp_path, finished_sweep):
    with small_disk(tmp_path / "temporary", 2**16):
        fill(tmp_path / "temporary")
        answer = give(tmp_path, *SWEEP, environment={"TMPDIR": str(tmp_path / "temporary")})
        assert answer.code == 0, answer.err
    assert content(tmp_path) == content(finished_sweep)


@needs_root
@pytest.mark.parametrize("room", [0, 2**15, 2**19])
def test_a_full_disk_is_named_and_the_command_resumes_once_there_is_room(tmp_path, finished_sweep, room):
    """Full from the start, after the first files, and while the weights are written."""
    disk = tmp_path / "multirun"
    with small_disk(disk, 2**20):
        fill(disk)
        with open(disk / "filling", "r+b") as file:
            file.truncate(2**20 - room)
        answer = give(tmp_path, *SWEEP)
        assert answer.code in (1, 2), answer.err
        assert "No space left on device" in answer.err
        (disk / "filling").unlink()
        subprocess.run(["mount", "-o", f"remount,size={2**28}", disk], check=True)
        answer = give(tmp_path, *SWEEP)
        assert answer.code == 0, answer.err
        assert content(tmp_path) == content(finished_sweep)


@needs_root
def test_a_machine_that_is_renamed_resumes_its_runs(place, undisturbed):
    """Killed under one name, resumed at once under another: the lock names the machine's start, not only its name."""
    (place / "fault").write_text("kill")
    renamed = ["unshare", "--uts", "bash", "-c", 'hostname elsewhere && exec "$@"', "bash"]
    if subprocess.run([*renamed, "true"], capture_output=True).returncode:
        pytest.skip("no machine can be renamed here")
    assert give(place, *FAULTY, *KEYS, before=renamed).code == -signal.SIGKILL
    (stopped,) = records.read_sweep(place / "multirun" / "s")
    assert stopped.record["host"] == "elsewhere"
    answer = give(place, "multirun/s", module="creditlab.sweep.status")
    assert "1 stopped" in answer.out
    assert "elsewhere, process" in answer.out
    assert give(place, *FAULTY, *KEYS).code == 0
    assert content(place) == undisturbed
    assert records.read_run(stopped.folder).record["host"] == platform.node()
