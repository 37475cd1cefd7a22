"""What every launcher does, whatever it runs on. A SLURM has to be up: `make cluster`."""

import json

import pytest

from creditlab import records
from tests.cluster.conftest import is_up

LAUNCHERS = {
    "pool": ["hydra.launcher.workers=2"],
    "slurm": ["hydra/launcher=slurm", "hydra.launcher.wait=true", "hydra.launcher.runs_per_task=2"],
}
FILES = ("history.jsonl", "weights.safetensors", "arrays.npz")


@pytest.fixture(params=LAUNCHERS)
def launcher(request):
    if request.param == "slurm" and not is_up():
        pytest.skip("no SLURM of the tests is up: tests/cluster/up.sh starts one, as root")
    return LAUNCHERS[request.param]


def test_results_resume_and_retry(creditlab, launcher, finished_sweep, tmp_path):
    """The runs of the pool, byte for byte; then what is missing, and what `retry` widens it to."""
    command = ["-m", "sweep=s", "algorithm=bp,fa", "seed=range(2)", *launcher]
    answer = creditlab(*command)
    assert answer.code == 0, answer.err
    assert "4 runs to do" in answer.err
    recorded, expected = (records.read_sweep(folder / "multirun" / "s") for folder in (tmp_path, finished_sweep))
    assert [run.name for run in recorded] == [run.name for run in expected]
    for one, other in zip(recorded, expected, strict=True):
        assert one.metrics == other.metrics
        for file in FILES:
            assert (one.folder / file).read_bytes() == (other.folder / file).read_bytes()
    assert "0 runs to do, 4 finished before" in creditlab(*command).err
    (recorded[0].folder / "arrays.npz").unlink()
    more = ["-m", "sweep=s", "algorithm=bp,fa,dfa", "seed=0", *launcher]
    again = creditlab(*more)
    assert again.code == 0, again.err
    assert "2 runs to do, 1 finished before" in again.err
    assert "3 runs to do" in creditlab(*more, "retry=all").err
    plan = records.read_plan(tmp_path / "multirun" / "s")
    assert plan["factors"]["algorithm"] == ["bp", "fa", "dfa"]


def test_failures_are_told_and_stop_no_other(creditlab, launcher, own_package):
    command = ["--config-dir=my_conf", "-m", "sweep=s", "algorithm=mine", "algorithm.fate=die,raise,well", *launcher]
    answer = creditlab(*command)
    assert answer.code == 1
    causes = {
        "RuntimeError: out of luck [with] markup",
        "the worker process ended with SIGKILL (the memory was full, or someone killed it)",
    }
    assert all(cause in answer.err for cause in causes)
    recorded = records.read_sweep(own_package / "multirun" / "s")
    assert sorted(run.status for run in recorded) == ["complete", "failed", "failed"]
    assert {run.problem for run in recorded} == {"", *causes}
    status = creditlab("multirun/s", "--json", module="creditlab.sweep.status")
    assert status.code == 1
    assert json.loads(status.out)["counts"] == {"complete": 1, "failed": 2}
    assert "0 runs to do, 1 finished before, 2 failed before" in creditlab(*command, "retry=none").err


def test_a_mistake_starts_nothing(creditlab, launcher, tmp_path):
    answer = creditlab("-m", "seed=0,1", "optimiser.lr=0.1,-1", *launcher)
    assert answer.code == 2
    assert "optimiser=adamw: Invalid learning rate: -1" in answer.err
    assert not (tmp_path / "multirun").exists()
