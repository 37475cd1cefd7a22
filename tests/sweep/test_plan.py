"""What `sweep.json` says of a sweep before it runs."""

from omegaconf import OmegaConf

from creditlab import records
from creditlab.sweep.plan import swept, write_plan
from tests.common import SMALL


def test_factors_are_those_of_the_command_and_of_the_experiment(plan, tmp_path, monkeypatch):
    """Those of a budget too; what does not vary is none."""
    sweeper = {
        "params": {"algorithm": "bp,fa", "seed": "range(9)", "optimiser": "adamw"},
        "budget": "small",
        "budgets": {"small": {"training.epochs": "1,2"}, "smoke": {"training.steps": 1}},
    }
    hydra = OmegaConf.create({"overrides": {"task": ["+experiment=a/b", "seed=0,1"]}, "sweeper": sweeper})
    keys = swept(hydra)
    assert keys == ["algorithm", "seed", "optimiser", "training.epochs", "experiment"]
    grid = [(algorithm, seed) for algorithm in ("bp", "fa") for seed in (0, 1)]
    runs = [plan(*SMALL, f"algorithm={algorithm}", f"seed={seed}", folder=tmp_path) for algorithm, seed in grid]
    monkeypatch.setattr("sys.argv", ["/somewhere/creditlab/__main__.py", "-m", "seed=0,1"])
    write_plan(tmp_path, runs, keys)
    stored_plan = records.read_plan(tmp_path)
    assert stored_plan["command"] == "creditlab -m seed=0,1"
    assert stored_plan["factors"] == {"algorithm": ["bp", "fa"], "seed": [0, 1]}
    assert [tuple(entry["levels"].values()) for entry in stored_plan["runs"]] == grid


def test_without_an_experiment_they_are_the_commands():
    assert swept(OmegaConf.create({"overrides": {"task": ["seed=0,1", "+a.b=1"]}})) == ["seed", "a.b"]
