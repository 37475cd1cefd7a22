import json
import os
import subprocess
import sys

import pytest
from rich.console import Console

from creditlab import records
from creditlab.sweep.status import report, survey
from tests.records.common import finished, unreadable


def test_failures_of_one_cause_are_told_together_whatever_folder_they_name(tmp_path):
    sweep = tmp_path / "sweep"
    for name in ("bp-s0-a", "bp-s1-b"):
        folder = sweep / name
        folder.mkdir(parents=True)
        records.fail(folder, {}, OSError(28, "No space left on device", str(folder / "weights.safetensors")), step=3)
    (cause,) = survey(sweep).problems
    assert cause == "OSError: [Errno 28] No space left on device: 'weights.safetensors'"
    assert len(survey(sweep).problems[cause]) == 2


def test_a_terminal_shows_a_stopped_run_in_plain_words_and_json_keeps_its_own(tmp_path):
    folder = tmp_path / "sweep" / "bp-s0-a"
    folder.mkdir(parents=True)
    (folder / "error.txt").write_text("left by an earlier start")
    holder = {"host": "far", "place": "p", "pid": 1, "born": "1", "job_id": None, "restarts": 0, "token": "t"}
    (folder / "lock").write_text(json.dumps(holder))
    os.utime(folder / "lock", (0, 0))
    stopped = survey(tmp_path / "sweep")
    assert stopped.counts == {"dead": 1}
    console = Console(width=200)
    with console.capture() as capture:
        console.print(report(stopped))
    assert "     1 stopped\n" in capture.get()
    assert "stopped; will resume with the next command" in capture.get()
    assert "dead" not in capture.get()


def shown(sweep) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(report(survey(sweep)))
    return capture.get()


def test_removed_weights_are_counted_and_the_run_stays_complete(tmp_path):
    run = finished(tmp_path / "sweep" / "a")
    (run.folder / "weights.safetensors").unlink()
    assert survey(tmp_path / "sweep").counts == {"complete": 1}
    assert "weights removed from 1 finished run\n" in shown(tmp_path / "sweep")


def test_a_run_that_cannot_be_read_is_corrupt_with_the_reason(tmp_path, monkeypatch):
    finished(tmp_path / "sweep" / "a")
    finished(tmp_path / "sweep" / "b")
    unreadable(tmp_path / "sweep" / "b", monkeypatch)
    state = survey(tmp_path / "sweep")
    assert state.counts == {"complete": 1, "corrupt": 1}
    assert state.problems == {"run.json: Permission denied": [str(tmp_path / "sweep" / "b")]}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_sees_a_closed_folder_as_corrupt(tmp_path):
    finished(tmp_path / "sweep" / "a")
    finished(tmp_path / "sweep" / "b").folder.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    script = "import os, sys; os.setuid(65534); from creditlab.sweep.status import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", "from creditlab.sweep import status;" + script, str(tmp_path / "sweep")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr, done.stderr
    assert "1 complete" in done.stdout
    assert "1 × run.json: Permission denied" in done.stdout


def test_a_lock_that_is_a_pipe_or_holds_control_characters_does_no_harm(tmp_path):
    for name in ("pipe", "text", "types"):
        (tmp_path / "sweep" / name).mkdir(parents=True)
        (tmp_path / "sweep" / name / "error.txt").write_text("\x1b[2J out of luck")
    os.mkfifo(tmp_path / "sweep" / "pipe" / "lock")
    fields = dict.fromkeys(("place", "born", "job_id", "token"), "\x1b[2J") | {"host": "\x1b[2J[red]", "restarts": 0}
    (tmp_path / "sweep" / "text" / "lock").write_text(json.dumps(fields | {"pid": "\x1b[2J"}))
    (tmp_path / "sweep" / "types" / "lock").write_text(json.dumps(fields | {"pid": [1], "host": {}, "job_id": 3}))
    assert survey(tmp_path / "sweep").counts == {"running": 2, "corrupt": 1}
    assert "\x1b" not in shown(tmp_path / "sweep")
    assert "\\x1b[2J out of luck" in shown(tmp_path / "sweep")
