"""Sweeps on this machine, as a user gives them."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from creditlab import records
from creditlab.lock import hold
from creditlab.sweep.plan import sweep_name

SWEEP = ["-m", "sweep=s", "algorithm=bp,fa", "seed=range(2)"]


def runs(folder):
    return {run.name.rpartition("-")[0]: run for run in records.read_sweep(folder / "multirun" / "s")}


def test_every_run_and_the_plan_are_recorded(finished_sweep):
    recorded = runs(finished_sweep)
    names = [f"{a}-adamw-digits-mlp-s{s}" for a in ("bp", "fa") for s in (0, 1)]
    assert {name: run.status for name, run in recorded.items()} == dict.fromkeys(names, "complete")
    plan = records.read_plan(finished_sweep / "multirun" / "s")
    assert plan["factors"] == {"algorithm": ["bp", "fa"], "seed": [0, 1]}
    assert {entry["name"] for entry in plan["runs"]} == {run.name for run in recorded.values()}
    assert plan["runs"][0]["levels"] == {"algorithm": "bp", "seed": 0}


def test_the_same_command_does_what_is_missing_and_more_levels_move_no_run(creditlab, swept):
    first = runs(swept)
    shutil.rmtree(first["bp-adamw-digits-mlp-s1"].folder)
    (first["fa-adamw-digits-mlp-s0"].folder / "summary.json").write_text("{")
    kept = first["fa-adamw-digits-mlp-s1"].folder / "summary.json"
    stamp = kept.stat().st_mtime_ns
    again = creditlab("-m", "sweep=s", "algorithm=bp,fa,dfa", "seed=range(2)")
    assert again.code == 0
    assert "4 runs to do, 2 finished before" in again.err
    second = runs(swept)
    assert len(second) == 6
    for name in first:
        assert second[name].status == "complete"
        assert second[name].metrics == first[name].metrics
        assert second[name].summary["history_sha256"] == first[name].summary["history_sha256"]
    assert kept.stat().st_mtime_ns == stamp
    assert records.read_plan(swept / "multirun" / "s")["factors"] == {"algorithm": ["bp", "fa", "dfa"], "seed": [0, 1]}
    assert "0 runs to do, 4 finished before" in creditlab(*SWEEP).err


def test_the_pool_gives_what_a_single_run_gives(creditlab, finished_sweep, tmp_path):
    creditlab("algorithm=fa", "seed=1", "hydra.run.dir=alone")
    (alone,) = records.read_sweep(tmp_path / "alone")
    pooled = runs(finished_sweep)["fa-adamw-digits-mlp-s1"]
    assert alone.name == pooled.name
    for file in ("history.jsonl", "weights.safetensors", "arrays.npz"):
        assert (alone.folder / file).read_bytes() == (pooled.folder / file).read_bytes()
    assert alone.metrics == pooled.metrics


def test_a_failed_run_stops_no_other_and_is_told(creditlab, own_package):
    """A user's own rule, in the user's own package, that raises in one run and takes its worker down in another."""
    command = ["--config-dir=my_conf", "-m", "sweep=s", "algorithm=mine", "algorithm.fate=die,raise,well"]
    answer = creditlab(*command, "hydra.launcher.workers=1")
    causes = [
        "RuntimeError: out of luck [with] markup",
        "the worker process ended with SIGKILL (the memory was full, or someone killed it)",
    ]
    assert answer.code == 1
    assert "2 of 3 runs failed" in answer.err
    assert all(cause in answer.err for cause in causes)
    assert answer.err.count("error.txt") == 2
    sweep = own_package / "multirun" / "s"
    recorded = records.read_sweep(sweep)
    assert sorted(run.status for run in recorded) == ["complete", "failed", "failed"]
    assert sorted(run.problem for run in recorded) == ["", *causes]
    assert "said by a user's own code" in (sweep / "workers.log").read_text()
    assert "2 runs to do, 1 finished before" in creditlab(*command).err

    status = creditlab("multirun/s", module="creditlab.sweep.status")
    assert "2 failed" in status.out
    assert all(cause in status.out for cause in causes)
    counted = json.loads(creditlab("multirun/s", "--json", module="creditlab.sweep.status").out)
    assert counted["counts"] == {"complete": 1, "failed": 2}
    assert set(counted["problems"]) == set(causes)
    assert all(path.endswith("error.txt") for paths in counted["problems"].values() for path in paths)
    assert status.code == 1
    assert "1 finished before, 2 failed before" in creditlab(*command, "retry=none").err


DIES_WHILE_STARTING = """
import fcntl, os, signal, sys
if "creditlab.sweep.worker" in sys.orig_argv:
    with open(os.path.join(os.path.dirname(__file__), "starts"), "a+") as starts:
        fcntl.flock(starts, fcntl.LOCK_EX)
        starts.write("x")
        starts.flush()
        number = os.fstat(starts.fileno()).st_size
    if number in {deaths}:
        print("no memory", file=sys.stderr)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("workers", "deaths", "starts"),
    [
        (1, [1], 2),
        (1, [1, 2], 3),
        (2, [2], 3),
    ],
)
def test_a_worker_that_dies_while_starting_stops_no_sweep(creditlab, tmp_path, workers, deaths, starts):
    (tmp_path / "sitecustomize.py").write_text(DIES_WHILE_STARTING.format(deaths=deaths))
    answer = creditlab(*SWEEP, f"hydra.launcher.workers={workers}")
    assert answer.code == 0, answer.err
    assert {run.status for run in runs(tmp_path).values()} == {"complete"}
    assert len((tmp_path / "starts").read_text()) == starts


def test_a_sweep_ends_with_the_cause_if_no_worker_can_start(creditlab, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(DIES_WHILE_STARTING.format(deaths="range(99)"))
    answer = creditlab(*SWEEP, "hydra.launcher.workers=2")
    assert answer.code == 1
    cause = "the worker process ended with SIGKILL (the memory was full, or someone killed it)"
    assert f"no worker could start: {cause}. multirun/s/workers.log has" in answer.err
    assert "no memory" in (tmp_path / "multirun" / "s" / "workers.log").read_text()
    assert len((tmp_path / "starts").read_text()) == 4  # three in a row are not replaced
    assert "stopped: 0 of 4 done" in answer.err
    assert not list((tmp_path / "multirun" / "s").glob("*/error.txt"))
    (tmp_path / "sitecustomize.py").unlink()
    assert "4 complete" in creditlab(*SWEEP).err


def test_divergence_is_counted_and_kept(creditlab, tmp_path):
    answer = creditlab("-m", "sweep=s", "optimiser=sgd", "optimiser.lr=0.1,1e30")
    assert answer.code == 0
    assert "1 complete, 1 diverged" in answer.err
    assert sorted(run.status for run in runs_all(tmp_path)) == ["complete", "diverged"]
    again = creditlab("-m", "sweep=s", "optimiser=sgd", "optimiser.lr=0.1,1e30", "retry=diverged").err
    assert "1 run to do, 1 finished before" in again
    assert "1 diverged" in again
    assert "0 runs to do, 2 finished before" in creditlab("-m", "sweep=s", "optimiser=sgd", "optimiser.lr=0.1,1e30").err


def runs_all(folder):
    return records.read_sweep(folder / "multirun" / "s")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["algorithm=bp,bpp"], "algorithm=bpp: there is no such option. Did you mean bp?"),
        (["training.warmup=0,-1"], "training.warmup=-1: must be a whole number at least 0"),
        (["architecture=mlp,lenet"], "architecture=lenet on dataset=digits"),
        (["optimiser.lr=0.1,-1"], "optimiser=adamw: Invalid learning rate: -1"),
        (["dataset=digits,mnist"], "MNIST is not on this machine"),
        (["optimiser.lr=range(0)"], "optimiser.lr=range(0): has no values, so nothing would run"),
        (["optimiser.lr=range(10000000)"], "20,000,000 runs asked for (2 of seed × 10,000,000 of optimiser.lr), more"),
        (["optimiser.lr=0.1,0.2", "hydra.sweeper.max_runs=3"], "If you want that many, give hydra.sweeper.max_runs=4"),
        (["hydra.sweeper.exclude=3"], "hydra.sweeper.exclude=3: must be a list, each a mapping"),
        (["hydra.sweeper.exclude=[{seed:0},{seed:1}]"], "hydra.sweeper.exclude leaves no run"),
        (["hydra.launcher.workers=0"], "hydra.launcher.workers=0: must be a whole number at least 1"),
    ],
)
def test_one_invalid_run_starts_nothing(creditlab, tmp_path, overrides, message):
    answer = creditlab("-m", "seed=0,1", *overrides)
    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "multirun").exists()


def test_a_sweeps_folder_is_named_after_what_is_swept_and_set():
    name = sweep_name(None, ["seed=0,1", "training.steps=2", "algorithm=bp,fa"])
    assert name == "algorithm-seed_training.steps=2"
    assert name == sweep_name(
        None, ["training.steps=2", "algorithm=bp,fa,es", "seed=range(9)", "threads=2", "device=cpu"]
    )
    assert name != sweep_name(None, ["seed=0,1", "training.steps=3", "algorithm=bp,fa"])
    assert name == sweep_name(
        None, ["+training.steps=2", "++threads=2", "+seed=1,2", "++dataset.root=x", "algorithm=bp,fa"]
    )
    assert sweep_name(None, ["seed=0,1"], ["hydra/launcher=slurm", "hydra.sweeper.budget=smoke"]) == "seed_budget=smoke"
    assert sweep_name(None, ["seed=0,1"], ["hydra.sweeper.budget=full"]) == "seed"
    assert sweep_name("mine", ["seed=0,1"]) == "mine"
    assert sweep_name(None, []) == "single"
    assert (
        sweep_name(None, ["+experiment=a/b", "architecture.widths=[8,8],[4]"]) == "architecture.widths_experiment=a-b"
    )
    long = sweep_name(None, [f"key{i}={i}" for i in range(99)])
    assert len(long) == 100
    assert long != sweep_name(None, [f"key{i}={i}" for i in range(98)])


def test_a_folder_of_another_config_is_refused_before_anything_starts(creditlab, swept):
    run = runs(swept)["fa-adamw-digits-mlp-s0"]
    (run.folder / "summary.json").unlink()
    record = json.loads((run.folder / "run.json").read_text())
    record["config"]["optimiser"]["lr"] = 0.5
    record["identity"] = records.identity(record["config"])
    del record["sha256"]
    (run.folder / "run.json").write_text(json.dumps(record))
    shutil.rmtree(runs(swept)["bp-adamw-digits-mlp-s0"].folder)
    answer = creditlab(*SWEEP)
    assert answer.code == 2
    assert "belongs to another config (optimiser.lr: 0.5 in the folder, 0.001 now)" in answer.err
    assert "bp-adamw-digits-mlp-s0" not in runs(swept)


def test_a_folder_that_cannot_be_written(creditlab, tmp_path):
    (tmp_path / "taken").write_text("")
    for keys in (["-m", "seed=0,1", "hydra.sweep.dir=taken/s"], ["hydra.run.dir=taken/s"]):
        answer = creditlab(*keys)
        assert answer.code == 2
        assert "cannot write to" in answer.err


def test_a_spoilt_plan_is_made_anew(creditlab, swept):
    plan = swept / "multirun" / "s" / "sweep.json"
    before = json.loads(plan.read_text())
    plan.write_text('{"schema": 1, "ru')
    status = creditlab("multirun/s", module="creditlab.sweep.status")
    assert status.code == 0
    assert "to write it anew" in status.out
    assert creditlab("-m", "sweep=s", "algorithm=bp,fa", "seed=0").code == 0
    after = json.loads(plan.read_text())
    assert {entry["name"] for entry in after["runs"]} == {entry["name"] for entry in before["runs"]}
    assert creditlab(*SWEEP).code == 0
    assert json.loads(plan.read_text())["factors"] == before["factors"]


def test_runs_that_another_process_is_at_are_left_alone(creditlab, swept):
    mine, dead = (runs(swept)[name].folder for name in ("bp-adamw-digits-mlp-s0", "fa-adamw-digits-mlp-s0"))
    for folder in (mine, dead):
        (folder / "summary.json").unlink()
    (dead / "lock").write_text(json.dumps({"host": "far", "place": "p", "pid": 1, "born": "1", "job_id": "3_4",
                                           "restarts": 0, "token": "t"}))  # fmt: skip
    os.utime(dead / "lock", (0, 0))
    with hold(mine):
        status = json.loads(creditlab("multirun/s", "--json", module="creditlab.sweep.status").out)
        assert status["counts"] == {"complete": 2, "running": 1, "dead": 1}
        assert [run["name"] for run in status["running"]] == [mine.name]
        assert status["running"][0] | {"pid": os.getpid(), "step": 6, "steps": 6} == status["running"][0]
        assert status["factors"]["algorithm"] == {"bp": {"complete": 1, "running": 1}, "fa": {"complete": 1, "dead": 1}}
        answer = creditlab(*SWEEP)
        assert "1 run to do, 2 finished before, 1 under way elsewhere" in answer.err
        assert "process 1 on far, job 3_4" not in answer.err
        assert answer.code == 4
    assert not (mine / "summary.json").exists()
    assert records.read_run(dead).status == "complete"


def test_a_full_disk(tmp_path):
    command = [sys.executable, "-m", "creditlab", *SWEEP[:-1], "seed=range(20)"]
    limited = ["bash", "-c", 'ulimit -f 2 && exec "$@"', "bash", *command]  # files of at most 2 kB
    done = subprocess.run(limited, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "multirun/s/sweep.json: File too large" in done.stderr
    assert os.listdir(tmp_path / "multirun" / "s") == []


def test_a_sweep_deleted_under_way_says_so(creditlab, own_package):
    (own_package / "my_rules.py").write_text(
        "import shutil\nfrom creditlab.algorithms.bp import Backpropagation\n"
        "class Mine(Backpropagation):\n"
        "    def __init__(self, *args, gain: float, fate: str):\n"
        "        super().__init__(*args)\n"
        "    def assign(self, network, batch):\n"
        "        shutil.rmtree('multirun/s', ignore_errors=True)\n"  # the trial before the sweep has none yet
        "        return super().assign(network, batch)\n"
    )
    answer = creditlab(
        "--config-dir=my_conf", "-m", "sweep=s", "algorithm=mine", "seed=0,1", "hydra.launcher.workers=1"
    )
    assert answer.code == 2
    assert "multirun/s was deleted or moved" in answer.err
    assert not (own_package / "multirun" / "s").exists()


def test_status_of_what_is_no_sweep(creditlab, tmp_path):
    answer = creditlab("nowhere", module="creditlab.sweep.status")
    assert answer.code == 2
    assert "nowhere is not a folder" in answer.err


def test_seeds_together_leave_the_runs_of_one_at_a_time(finished_sweep, creditlab, tmp_path):
    answer = creditlab(*SWEEP, "hydra.launcher.together=2", "hydra.launcher.workers=1")
    assert answer.code == 0, answer.err
    assert "4 complete" in answer.err
    one_at_a_time, at_once = runs(finished_sweep), runs(tmp_path)
    assert one_at_a_time.keys() == at_once.keys()
    for name, run in one_at_a_time.items():
        assert run.name == at_once[name].name
        assert run.metrics == pytest.approx(at_once[name].metrics, rel=1e-3)
    others = [word for word in SWEEP if not word.startswith("algorithm=")]
    answer = creditlab(*others, "hydra.launcher.together=2", "algorithm=bp,es")
    assert answer.code == 2
    assert "hydra.launcher.together=2 with algorithm=es" in answer.err
    assert len(runs(tmp_path)) == 4
