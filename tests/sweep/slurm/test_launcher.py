"""What the launcher for SLURM decides before it submits; what it submits is run in tests/cluster."""

import os
from pathlib import Path

import pytest

from creditlab.config import ConfigError, checked_plugin
from creditlab.sweep.launcher import Worklist
from creditlab.sweep.plan import Planned
from creditlab.sweep.schedule import Expectation
from creditlab.sweep.slurm.launcher import SlurmLauncher, seconds

KEYS = {
    "partition": None, "account": None, "qos": None, "time": 60, "cpus": 1, "mem": None, "gres": None,
    "constraint": None, "additional": None, "workers": None, "devices": None, "runs_per_task": None, "fill": 30,
    "max_array_size": 1000, "max_parallel": 100, "signal_delay": 60, "max_requeue": 9, "wait": False, "dry_run": True,
}  # fmt: skip


def launcher(**keys):
    return SlurmLauncher(**KEYS | keys)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(90, 5400), ("90", 5400), ("2:30", 150), ("1:00:30", 3630), ("1-0", 86400), ("1-2:03", 93780), ("0-0:0:9", 9)],
)
def test_time_limits_are_read_as_sbatch_reads_them(limit, expected):
    assert seconds(limit) == expected


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"time": "soon"}, "hydra.launcher.time=soon: must be minutes"),
        ({"time": 2}, "hydra.launcher.time=2: too short.*give 3 minutes"),
        ({"time": 5, "signal_delay": 300}, "give 7 minutes"),
    ],
)
def test_keys_that_cannot_work_together_are_refused(keys, message):
    with pytest.raises(ConfigError, match=message):
        launcher(**keys).check_keys()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"cpus": 0}, "hydra.launcher.cpus=0: must be a whole number at least 1"),
        ({"runs_per_task": 0.5}, "hydra.launcher.runs_per_task=0.5: must be a whole number at least 1 or null"),
        ({"max_array_size": True}, "hydra.launcher.max_array_size=true: must be a whole number at least 1"),
        ({"fill": 0}, "hydra.launcher.fill=0: must be a number more than 0"),
        ({"workers": 0}, "hydra.launcher.workers=0: must be"),
        ({"devices": "cuda:0"}, "hydra.launcher.devices='cuda:0': must be a list"),
        ({"nice": 5}, "hydra.launcher.nice: hydra/launcher=slurm .* has no key 'nice'"),
    ],
)
def test_keys_are_checked_as_those_of_a_run_are(keys, message):
    node = {"_target_": "hydra_plugins.creditlab_plugins.SlurmLauncher", **KEYS}
    assert checked_plugin("hydra.launcher", node, "hydra/launcher=slurm") == node
    with pytest.raises(ConfigError, match=message):
        checked_plugin("hydra.launcher", node | keys, "hydra/launcher=slurm")


def test_no_slurm_on_this_machine(creditlab, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = creditlab("-m", "seed=0,1", "hydra/launcher=slurm")
    assert answer.code == 2
    assert "there is no sbatch on this machine" in answer.err


def test_a_refused_submission_leaves_everything_as_it_was(creditlab, monkeypatch, tmp_path):
    for name in ("sbatch", "squeue"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text("#!/bin/sh\necho no such partition >&2\nexit 1\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    command = ["-m", "sweep=a/s"]
    answer = creditlab(*command, "seed=0,1", "hydra/launcher=slurm")
    assert answer.code == 2
    assert "sbatch refused: " in answer.err
    assert not (tmp_path / "multirun").exists()
    assert creditlab(*command, "seed=0,1").code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("multirun/**/*") if path.is_file()}
    assert creditlab(*command, "seed=0,1,2", "hydra/launcher=slurm", "retry=all").code == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("multirun/**/*") if path.is_file()} == before


def planned(algorithm, seed):
    config = {"choices": {"algorithm": algorithm}, "algorithm": {"_target_": algorithm}, "seed": seed}
    return Planned(config, Path(f"{algorithm}-{seed}"), dict)


def packed(runs, seconds_of=None, **keys):
    expectation = Expectation()
    for algorithm, taken in (seconds_of or {}).items():
        expectation.learn(planned(algorithm, 99).config, taken)
    tasks = launcher(**keys).pack(Worklist(to_do=runs, expectation=expectation))
    return [[str(run.folder) for run in task] for task in tasks]


def test_tasks_of_a_given_number_of_runs():
    runs = [planned("bp", seed) for seed in range(5)]
    assert list(map(len, packed(runs, runs_per_task=2))) == [2, 2, 1]
    assert list(map(len, packed(runs, runs_per_task=2, fill=0.001))) == [2, 2, 1]
    assert packed([], runs_per_task=2) == []


def test_tasks_are_filled_to_their_minutes_the_longest_runs_first():
    runs = [planned(a, seed) for seed in range(4) for a in ("bp", "es")]
    tasks = packed(runs, {"bp": 60.0, "es": 600.0}, fill=20)
    assert tasks == [["es-0", "es-1"], ["es-2", "es-3"], ["bp-0", "bp-1", "bp-2", "bp-3"]]
    assert list(map(len, packed(runs, {"bp": 60.0, "es": 600.0}, fill=20, cpus=2))) == [4, 4]
    assert list(map(len, packed([planned("bp", s) for s in range(10)], cpus=2))) == [8, 2]  # four a worker if not known


def test_dry_run_says_what_would_be_submitted_and_leaves_nothing(creditlab, tmp_path):
    answer = creditlab("-m", "seed=range(5)", "hydra/launcher=slurm", "hydra.launcher.dry_run=true",
                       "hydra.launcher.runs_per_task=2", "hydra.launcher.max_array_size=2",
                       "hydra.launcher.additional={nice: 5}")  # fmt: skip
    assert answer.code == 0
    assert "5 runs to do" in answer.err
    assert "2 arrays of 2, 1 tasks, up to 2 runs each" in answer.err
    assert "nice=5; nothing was submitted" in answer.err
    assert not (tmp_path / "multirun").exists()
