import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from creditlab import lock, records
from creditlab.lock import Held, Lost, claim, hold
from tests.common import SMALL

LINK = os.link


@pytest.fixture(autouse=True, params=["hard links", "no hard links"])
def disk(request, monkeypatch):
    """A disk with hard links, and one without (SMB, FUSE, exFAT)."""
    if request.param == "no hard links":
        monkeypatch.setattr(lock.os, "link", refusing(errno.EOPNOTSUPP))
    return request.param


def refusing(number):
    def link(*paths):
        raise OSError(number, "no hard links on this disk")

    return link


def other_process(folder, then="time.sleep(60)"):
    """Another process that holds the lock of `folder` and says so."""
    code = f"""
        import os, sys, time
        from pathlib import Path
        from creditlab.lock import hold
        {"" if os.link is LINK else "from tests.test_lock import refusing; os.link = refusing(95)"}
        with hold(Path({str(folder)!r})) as lock:
            print("holding", flush=True)
            {then}
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "holding\n"
    return process


def foreign(folder, age, **changes):
    """A lock that another machine left, its heartbeat `age` seconds old."""
    holder = {"host": "far", "place": "elsewhere", "pid": 1, "born": "1", "job_id": None, "restarts": 0, "token": "t"}
    (folder / lock.NAME).write_text(json.dumps(holder | changes))
    moment = time.time() - age
    os.utime(folder / lock.NAME, (moment, moment))


def test_a_full_disk_is_named_and_nothing_is_left(tmp_path, monkeypatch):
    def write_bytes(path, content):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(OSError, match="No space left") as error, hold(tmp_path):
        pass
    assert error.value.filename == str(tmp_path / lock.NAME)
    assert list(tmp_path.iterdir()) == []


def test_one_holder_at_a_time(tmp_path):
    with hold(tmp_path) as held:
        held.check()
        assert claim(tmp_path).alive
        with pytest.raises(Held, match=f"is being worked on by process {os.getpid()} on "), hold(tmp_path):
            pass
    assert os.listdir(tmp_path) == []
    with hold(tmp_path):
        pass


def test_a_living_process_is_left_alone_and_a_dead_one_is_not(tmp_path):
    process = other_process(tmp_path)
    with pytest.raises(Held, match=f"process {process.pid} on "), hold(tmp_path):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not claim(tmp_path).alive
    with hold(tmp_path) as held:
        held.check()


def test_a_process_number_that_another_process_has_by_now_is_no_holder(tmp_path):
    with hold(tmp_path):
        holder = json.loads((tmp_path / lock.NAME).read_text())
    foreign(tmp_path, 0, **holder | {"born": "1"})
    assert not claim(tmp_path).alive


@pytest.mark.parametrize(("age", "alive"), [(0, True), (90, True), (130, False), (-30, True), (-3600, False)])
def test_a_holder_elsewhere_is_told_by_its_heartbeat_even_if_a_clock_was_put_back(tmp_path, age, alive):
    foreign(tmp_path, age)
    assert claim(tmp_path).alive == alive
    if alive:
        with pytest.raises(Held, match="process 1 on far"), hold(tmp_path):
            pass
    else:
        with hold(tmp_path) as held:
            held.check()


def test_what_slurm_started_again_takes_over_from_its_former_copy(tmp_path, monkeypatch):
    foreign(tmp_path, 0, job_id="7_3")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    with pytest.raises(Held, match="job 7_3"), hold(tmp_path):
        pass
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with hold(tmp_path) as held:
        held.check()


def test_whoever_was_taken_over_notices_before_it_writes_and_leaves_the_lock_to_the_other(tmp_path):
    with hold(tmp_path) as held:
        foreign(tmp_path, 0)
        with pytest.raises(Lost, match="taken over"):
            held.check()
    assert claim(tmp_path).holder.host == "far"


def test_a_deleted_folder_is_noticed(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with hold(folder) as held:
        (folder / lock.NAME).unlink()
        folder.rmdir()
        with pytest.raises(Lost, match="deleted"):
            held.check()


def test_a_spoilt_lock_counts_until_it_is_old(tmp_path):
    (tmp_path / lock.NAME).write_text("{")
    with pytest.raises(Held, match="unknown host"), hold(tmp_path):
        pass
    os.utime(tmp_path / lock.NAME, (0, 0))
    with hold(tmp_path) as held:
        held.check()


def test_the_heart_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.01)
    with hold(tmp_path) as held:
        os.utime(held.path, (0, 0))
        deadline = time.monotonic() + 10
        while held.path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert claim(tmp_path).age < 10


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_disk_may_refuse_hard_links_in_several_ways(tmp_path, monkeypatch, number):
    monkeypatch.setattr(lock.os, "link", refusing(number))
    with hold(tmp_path) as held:
        held.check()
        assert os.listdir(tmp_path) == [lock.NAME]
        with pytest.raises(Held, match=f"process {os.getpid()} on "), hold(tmp_path):
            pass
    assert os.listdir(tmp_path) == []


def test_any_other_error_of_the_disk_is_no_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(lock.os, "link", refusing(errno.EIO))
    with pytest.raises(OSError, match="no hard links"), hold(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_whoever_slept_between_making_the_file_and_naming_itself_in_it_has_lost_it(tmp_path, monkeypatch):
    monkeypatch.setattr(lock.os, "link", refusing(errno.EPERM))
    write, second = os.write, []

    def sleep_before_writing(descriptor, content):
        monkeypatch.setattr(lock.os, "write", write)
        with pytest.raises(Held, match="unknown host"), hold(tmp_path):  # empty, but new
            pass
        os.utime(tmp_path / lock.NAME, (0, 0))  # the sleep was long
        second.append(lock.Lock(tmp_path, wait=0))
        return write(descriptor, content)

    monkeypatch.setattr(lock.os, "write", sleep_before_writing)
    with hold(tmp_path) as first:
        with pytest.raises(Lost):
            first.check()
        second[0].check()
    second[0].check()  # the first holder released nothing
    second[0].release()
    assert os.listdir(tmp_path) == []


def test_the_files_of_living_processes_that_want_a_lock_are_left_alone_and_those_of_dead_ones_are_not(tmp_path, plan):
    run = plan(*SMALL)
    process = other_process(tmp_path)
    living = tmp_path / ".lock.a.tmp"
    living.write_bytes((tmp_path / lock.NAME).read_bytes())
    begun = tmp_path / ".lock.b.tmp"
    begun.write_text("")  # its process has not written yet
    own_leftover = tmp_path / ".run.json.7.tmp"
    own_leftover.write_text("{")
    records.begin(tmp_path, run.config, {})
    assert living.exists()
    assert begun.exists()
    assert not own_leftover.exists()
    process.kill()
    process.wait()
    with hold(tmp_path):
        assert not living.exists()
        assert begun.exists()
    os.utime(begun, (0, 0))
    with hold(tmp_path):
        assert not begun.exists()


def test_a_process_whose_file_was_removed_has_no_lock_yet(tmp_path, monkeypatch):
    """The file with which it wants to take the lock."""
    foreign(tmp_path, 1000)
    read = lock._read

    def remove_first(path):
        for aside in tmp_path.glob(".lock.*.tmp"):
            aside.unlink()
        monkeypatch.setattr(lock, "_read", read)
        return read(path)

    monkeypatch.setattr(lock, "_read", remove_first)
    with hold(tmp_path, wait=5) as held:
        held.check()


def test_of_many_that_want_it_each_has_it_alone(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(10):
            with hold(tmp_path, wait=60):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 40
    assert max(most) == 1


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_a_lock_that_is_no_file_is_a_clear_error(tmp_path, kind):
    """A pipe would be waited for, and a link leads elsewhere."""
    path = tmp_path / lock.NAME
    {"pipe": os.mkfifo, "link": lambda path: path.symlink_to("/dev/zero"), "folder": os.mkdir}[kind](path)
    with pytest.raises(Held, match=r"lock cannot be read \(.*\)\. Move it away"):
        claim(tmp_path)
    with pytest.raises(Held, match="Move it away"), hold(tmp_path):
        pytest.fail("the lock was taken")


@pytest.mark.parametrize("changes", [{"pid": "1"}, {"born": 7}, {"job_id": [1]}, {"restarts": True}, {"host": None}])
def test_a_lock_with_values_of_wrong_types_is_one_of_an_unknown_holder(tmp_path, changes):
    foreign(tmp_path, age=5, **changes)
    assert claim(tmp_path).holder.host == "an unknown host"
    assert claim(tmp_path).alive
    foreign(tmp_path, age=500, **changes)
    assert not claim(tmp_path).alive
