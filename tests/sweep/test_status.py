import json
import os

from rich.console import Console

from creditlab import records
from creditlab.sweep.status import report, survey


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
