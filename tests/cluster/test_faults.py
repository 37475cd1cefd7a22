"""Sweeps on a real SLURM to which something happens: after the command is given again, every run is finished once and
equal, byte for byte, to that of an undisturbed sweep in the pool.
"""

import os
import signal
import time
from pathlib import Path

import pytest

from creditlab import records
from tests.cluster.conftest import LAST, SLURM, SWEEP, Place, daemon, drained, shell, slurm, until
from tests.sweep.conftest import call


def holder_pids(place):
    return [run.record["pid"] for run in place.runs().values() if not run.finished and (run.folder / "lock").exists()]


def test_a_packed_array_equals_the_pool(place, undisturbed):
    answer = place.give("hydra.launcher.wait=true")
    assert answer.code == 0, answer.err
    assert "1 array of 2 tasks, up to 2 runs each" in answer.err
    assert place.content() == undisturbed
    assert len(list((place.sweep / "slurm" / "1" / "tasks").iterdir())) == 2
    again = place.give()
    assert "0 runs to do, 4 finished before" in again.err
    assert not (place.sweep / "slurm" / "2").exists()


def test_many_tiny_runs_in_packed_tasks_equal_the_pool(place, tmp_path_factory):
    """500 of them were equal too (docs/guide.md)."""
    sweep = ["-m", "sweep=s", "seed=range(60)", "architecture.widths=[8]", "training.steps=2", "training.evaluations=1"]
    answer = place.give("hydra.launcher.wait=true", "hydra.launcher.runs_per_task=20", sweep=sweep)
    assert answer.code == 0, answer.err
    assert "1 array of 3 tasks, up to 20 runs each" in answer.err
    pool = Place(tmp_path_factory.mktemp("pool"))
    answer = pool.give(launcher=[], sweep=sweep)
    assert answer.code == 0, answer.err
    assert len(pool.content()) == 60
    assert place.content() == pool.content()


def test_the_command_returns_and_does_not_submit_twice(place, undisturbed):
    began = time.monotonic()
    assert "submitted as" in place.give().err
    assert time.monotonic() - began < 60
    again = place.give()
    assert "0 runs to do, 4 under way elsewhere" in again.err
    until(drained)
    assert place.content() == undisturbed


def test_several_workers_a_task_and_several_arrays(place, undisturbed):
    keys = ["hydra.launcher.runs_per_task=1", "hydra.launcher.max_array_size=3", "hydra.launcher.cpus=2"]
    answer = place.give("hydra.launcher.wait=true", *keys)
    assert answer.code == 0, answer.err
    assert "2 arrays of 3, 1 tasks" in answer.err
    assert place.content() == undisturbed


def test_cancel(place, undisturbed):
    place.submit()
    place.under_way()
    answer = call(place.folder, "multirun/s", module="creditlab.sweep.slurm.cancel")
    assert (answer.code, answer.out) == (0, "2 tasks cancelled\n")
    until(drained)
    left = [run for run in place.runs().values() if not run.finished]
    assert {run.status for run in left} == {"unfinished"}
    assert any((run.folder / "checkpoint.pt").exists() for run in left)
    assert place.finish() == undisturbed


def test_a_worker_killed(place, undisturbed):
    place.submit()
    place.under_way()
    os.kill(until(lambda: holder_pids(place))[0], signal.SIGKILL)
    until(drained)
    statuses = sorted(run.status for run in place.runs().values())
    assert statuses == ["complete"] * 3 + ["failed"]
    states = until(lambda: ended_states(place), 60)  # the database lags behind
    assert sorted(states) == ["COMPLETED", "FAILED"]  # sacct tells the truth
    assert place.finish() == undisturbed


def parent_of(pid):
    """The parent of a process: its number and its name."""
    parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    return int(parent), Path(f"/proc/{parent}/comm").read_text().strip()


@pytest.mark.parametrize("victim", ["python", "slurmstepd"])
def test_a_kill_under_slurmstepd(place, undisturbed, victim):
    """The task's own process is killed, or SLURM's own process that looks after it. Then the worker is an orphan: it
    ends after a checkpoint, or trains on while SLURM believes that its task is over.
    """
    place.submit()
    place.under_way()
    pid, name = parent_of(until(lambda: holder_pids(place))[0])
    while not name.startswith(victim):
        pid, name = parent_of(pid)
    os.kill(pid, signal.SIGKILL)
    until(drained)
    until(lambda: not list(place.sweep.glob("*/lock")), 60)
    assert {run.status for run in place.runs().values()} <= {"complete", "unfinished"}
    assert place.finish() == undisturbed


def ended_states(place):
    """The states that sacct tells of the tasks, once it tells of none that it goes on."""
    states = slurm("sacct", "-n", "-X", "-j", job_of(place), "-o", "State").split()
    return states if not {"RUNNING", "PENDING", "COMPLETING"} & set(states) else []


def logs_of(place):
    return "".join(log.read_text() for log in (place.sweep / "slurm" / "1").glob("*_log.out"))


def job_of(place):
    return next((place.sweep / "slurm" / "1").glob("*_submission.sh")).name.partition("_")[0]


def test_the_signal_before_the_time_limit(place, undisturbed):
    place.submit()
    place.under_way()
    slurm("scancel", "--signal=USR2", job_of(place))
    until(drained)
    assert place.content() == undisturbed  # by itself: the tasks queued themselves again
    assert "stopping: each run writes a checkpoint first" in logs_of(place)


def test_a_time_limit(place):
    """The real one: SLURM signals 11 to 41 s before the end of the second minute; the runs need three."""
    keys = ["algorithm.pause=1", "seed=0,1", "training.steps=150", "training.evaluations=3", "hydra.launcher.time=2"]
    two_workers = ["hydra.launcher.signal_delay=10", "hydra.launcher.cpus=2", "hydra.launcher.mem=2500M"]
    answer = place.give("hydra.launcher.wait=true", *keys, *two_workers)
    assert answer.code == 0, answer.err + logs_of(place)
    assert {run.status for run in place.runs().values()} == {"complete"}
    assert logs_of(place).count("2 runs to do") == 2


def test_requeued(place, undisturbed):
    place.submit()
    place.under_way()
    slurm("scontrol", "requeue", job_of(place))
    until(drained)
    assert place.content() == undisturbed


def test_a_node_set_down(place, undisturbed):
    place.submit()
    place.under_way()
    for state in ("down", "drain"):  # down alone would end at once: the node's slurmd lives
        slurm("scontrol", "update", "nodename=node1", f"state={state}", "reason=test")
    until(drained)
    slurm("scontrol", "update", "nodename=node1", "state=resume")
    assert place.finish() == undisturbed


def test_two_copies_of_one_task(place, undisturbed):
    """slurmd killed: SLURM starts its task on another node while the first copy still runs."""
    keys = ["hydra.launcher.runs_per_task=4", "hydra.launcher.additional={nodelist: node1}"]
    slow = [*SWEEP, "algorithm.pause=0.4", "seed=0,1"]
    place.submit(*keys, sweep=slow)
    first = place.under_way()[0]
    before = records.read_run(first).record["pid"]
    os.kill(daemon("node1"), signal.SIGKILL)
    job = job_of(place)
    until(lambda: "PENDING" in slurm("squeue", "-h", "-j", job, "-o", "%T"))
    os.kill(before, 0)  # the first copy lives
    slurm("scontrol", "update", f"jobid={job}", "nodelist=node2")
    until(lambda: records.read_run(first).record.get("pid") not in (before, None))
    until(drained)
    assert "was taken over by another process" in logs_of(place)
    fast = {name.rpartition("-")[0]: value for name, value in undisturbed.items()}
    contents = {name.rpartition("-")[0]: value for name, value in place.content().items()}
    assert contents == {name: fast[name] for name in contents}
    assert len(contents) == 2


def test_over_its_memory(place):
    (place.folder / "greed").touch()
    keys = ["seed=0,1", "algorithm.greedy=true"]
    answer = place.give("hydra.launcher.wait=true", *keys)
    assert answer.code == 1
    assert "2 of 2 runs failed or did not finish" in answer.err
    assert until(lambda: ended_states(place), 60)[0] in ("FAILED", "OUT_OF_MEMORY")
    (place.folder / "greed").unlink()
    answer = place.give("hydra.launcher.wait=true", *keys)
    assert answer.code == 0, answer.err
    assert {run.status for run in place.runs().values()} == {"complete"}


def test_slurmctld_restarted(place, undisturbed):
    place.submit()
    place.under_way()
    os.kill(daemon("slurmctld"), signal.SIGTERM)
    time.sleep(5)
    answer = place.give()
    assert answer.code == 2
    assert "SLURM does not answer" in answer.err
    shell("running slurmctld || start_slurmctld")
    until(drained)
    assert place.finish() == undisturbed


def test_a_folder_that_a_node_cannot_see(hidden):
    place = Place(hidden)
    answer = place.give("hydra.launcher.wait=true", "hydra.launcher.partition=blind")
    assert answer.code == 1
    assert "left no log: do all nodes see" in answer.err or "does not see" in answer.err
    assert "4 of 4 runs failed or did not finish" in answer.err


def test_edits_while_queued_change_nothing(place, undisturbed):
    place.submit("hydra.launcher.additional={hold: true}")
    (place.folder / "my_rules.py").write_text("raise SystemExit('edited')")
    slurm("scontrol", "release", job_of(place))
    until(drained)
    assert place.content() == undisturbed


def test_what_sbatch_refuses_is_told_in_its_words(place):
    for key, words in (
        ("partition=nowhere", "invalid partition specified: nowhere"),
        ("cpus=64", "More processors requested than permitted"),
    ):
        answer = place.give(f"hydra.launcher.{key}")
        assert answer.code == 2
        assert "sbatch refused" in answer.err
        assert words in answer.err
    assert not list(place.sweep.glob("slurm/*"))


def test_a_time_limit_that_cannot_work(place):
    answer = call(place.folder, *SWEEP, *SLURM, "hydra.launcher.time=2", last=LAST)
    assert answer.code == 2
    assert "hydra.launcher.time=2: too short" in answer.err
    assert not place.sweep.exists()
