"""Launchers that are not creditlab's: a run is self-contained, so they work, and the sweep is planned all the same."""

import importlib.util

import pytest

from creditlab import records

FILES = ("history.jsonl", "weights.safetensors", "arrays.npz")
SWEEP = ["-m", "sweep=s", "algorithm=bp,fa", "seed=range(2)"]


@pytest.fixture(params=["basic", "joblib", "ray"])
def launcher(request):
    if request.param != "basic" and not importlib.util.find_spec(f"hydra_plugins.hydra_{request.param}_launcher"):
        pytest.skip(f"hydra-{request.param}-launcher is not installed")
    return f"hydra/launcher={request.param}"


def test_results_are_those_of_the_pool(creditlab, launcher, finished_sweep, tmp_path):
    """Byte for byte, with the same plan; given again, the command has nothing to do."""
    answer = creditlab(*SWEEP, launcher)
    assert answer.code == 0, answer.err
    recorded, expected = (records.read_sweep(folder / "multirun" / "s") for folder in (tmp_path, finished_sweep))
    assert [run.name for run in recorded] == [run.name for run in expected]
    for one, other in zip(recorded, expected, strict=True):
        assert one.metrics == other.metrics
        for file in FILES:
            assert (one.folder / file).read_bytes() == (other.folder / file).read_bytes()
    plans = [records.read_plan(folder / "multirun" / "s") for folder in (tmp_path, finished_sweep)]
    assert plans[0]["factors"] == plans[1]["factors"] == {"algorithm": ["bp", "fa"], "seed": [0, 1]}
    assert "0 runs to do, 4 finished before" in creditlab(*SWEEP, launcher).err
    assert "0 runs to do, 4 finished before" in creditlab(*SWEEP).err


def test_a_run_that_fails_stops_no_other(creditlab, launcher, own_package):
    answer = creditlab("--config-dir=my_conf", "-m", "sweep=s", "algorithm=mine", "algorithm.fate=raise,well", launcher)
    assert answer.code == 1
    assert "1 of 2 runs failed or did not finish." in answer.err
    recorded = records.read_sweep(own_package / "multirun" / "s")
    assert sorted(run.status for run in recorded) == ["complete", "failed"]
    assert "    RuntimeError: out of luck [with] markup" in answer.err.splitlines()


def test_a_death_that_ends_the_launcher_is_an_answer(creditlab, launcher, own_package):
    """joblib and ray give up if a process of theirs dies. The command says which runs are left."""
    if launcher.endswith("basic"):
        pytest.skip("this launcher trains in the command's process")
    answer = creditlab("--config-dir=my_conf", "-m", "sweep=s", "algorithm=mine", "algorithm.fate=die,well", launcher)
    assert answer.code == 1
    assert "of 2 runs failed or did not finish." in answer.err
    assert "Error: A worker" in answer.err or "CrashedError" in answer.err


def test_a_mistake_starts_nothing(creditlab, launcher, tmp_path):
    answer = creditlab("-m", "seed=0,1", "optimiser.lr=0.1,-1", launcher)
    assert answer.code == 2
    assert "optimiser=adamw: Invalid learning rate: -1" in answer.err
    assert not (tmp_path / "multirun").exists()


@pytest.mark.parametrize("words", [["sweep=s"], ["-m", "hydra/launcher=basic", "sweep=s", "seed=0"]])
def test_a_change_of_folder_does_not_move_a_run(creditlab, tmp_path, words):
    answer = creditlab(*words, "hydra.job.chdir=true")
    assert answer.code == 0, answer.err
    (run,) = records.read_sweep(tmp_path / "multirun" / "s")
    assert run.status == "complete"
    assert str(run.folder) in answer.out
