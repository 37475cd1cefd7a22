"""Hydra's callbacks are called for each run, whoever trains it."""

import textwrap

import pytest

from creditlab.sweep.callbacks import RunCallbacks, callbacks_of

NOTE = ["+hydra.callbacks.note._target_=my_callbacks.Note", "+hydra.callbacks.note.file=notes.txt"]


@pytest.fixture
def note(own_package, monkeypatch):
    """Adds a callback to the user's package. It writes the events that it receives to `notes.txt`."""
    (own_package / "my_callbacks.py").write_text(
        textwrap.dedent(
            """
            import math
            from hydra.core.hydra_config import HydraConfig
            from hydra.experimental.callback import Callback

            class Note(Callback):
                def __init__(self, file):
                    self.file = file

                def note(self, *words):
                    with open(self.file, "a") as file:
                        print(*words, file=file)

                def on_job_start(self, config, **kwargs):
                    self.note("start", config.seed, HydraConfig.get().runtime.output_dir.rpartition("/")[2])

                def on_job_end(self, config, job_return, **kwargs):
                    good = isinstance(job_return._return_value, float) and math.isfinite(job_return._return_value)
                    self.note("end", config.seed, job_return.status.name, "accuracy" if good else "error")
                    raise RuntimeError("a callback stops nothing")
            """
        )
    )
    monkeypatch.syspath_prepend(own_package)
    monkeypatch.chdir(own_package)
    return own_package / "notes.txt"


def test_the_pool_calls_them_in_its_workers(creditlab, note, tmp_path):
    command = ["--config-dir=my_conf", "-m", "sweep=s", "algorithm=mine", "seed=0,1", "hydra.launcher.workers=1"]
    answer = creditlab(*command, *NOTE)
    assert answer.code == 0, answer.err
    folders = {f"s{seed}": next((tmp_path / "multirun" / "s").glob(f"*-s{seed}-*")).name for seed in (0, 1)}
    assert sorted(note.read_text().splitlines()) == [
        "end 0 COMPLETED accuracy", "end 1 COMPLETED accuracy", f"start 0 {folders['s0']}", f"start 1 {folders['s1']}"
    ]  # fmt: skip
    assert "a callback stops nothing" in (tmp_path / "multirun" / "s" / "workers.log").read_text()
    note.unlink()
    assert creditlab(*command, *NOTE).code == 0
    assert not note.exists()  # nothing was trained


@pytest.mark.parametrize("words", [["-m", "hydra.launcher.workers=1"], []])
def test_a_failed_run_ends_as_failed(creditlab, note, words):
    answer = creditlab("--config-dir=my_conf", *words, "sweep=s", "algorithm=mine", "algorithm.fate=raise", *NOTE)
    assert answer.code == 1
    assert "RuntimeError: out of luck [with] markup" in answer.err
    assert note.read_text().splitlines()[1] == "end 0 FAILED error"


def test_an_objective_that_the_run_lacks_is_a_failure_of_the_job(plan, note):
    run = plan(*NOTE)
    callbacks = callbacks_of(run.hydra, run.folder)
    assert isinstance(callbacks, RunCallbacks)
    callbacks.start()
    callbacks.end(None)  # the run has no record at all
    assert note.read_text().splitlines() == [f"start 0 {run.folder.name}", "end 0 FAILED error"]


def test_a_run_without_callbacks_has_none(plan):
    run = plan()
    assert "callbacks" in run.hydra["hydra.yaml"]
    assert callbacks_of(run.hydra, run.folder) is None
