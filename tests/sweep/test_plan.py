"""What `sweep.json` says of a sweep before it runs."""

from omegaconf import OmegaConf

from creditlab import records
from creditlab.sweep.plan import swept, write_plan
from creditlab.sweep.status import survey
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


def test_earlier_runs_get_their_level_of_a_factor_that_is_added_later(plan, tmp_path):
    """From their config. A run that has not started has none."""
    started, waiting = (plan(*SMALL, f"seed={seed}", folder=tmp_path) for seed in (0, 1))
    write_plan(tmp_path, [started, waiting], ["seed"])
    started.folder.mkdir()
    records.begin(started.folder, started.config, {})
    write_plan(tmp_path, [plan(*SMALL, "algorithm=fa", folder=tmp_path)], ["algorithm"])
    assert records.read_plan(tmp_path)["factors"] == {"seed": [0, 1], "algorithm": ["bp", "fa"]}
    more = [plan(*SMALL, f"algorithm={algorithm}", folder=tmp_path) for algorithm in ("fa", "dfa")]
    write_plan(tmp_path, more, ["algorithm"])
    stored_plan = records.read_plan(tmp_path)
    levels = {entry["name"]: entry["levels"] for entry in stored_plan["runs"]}
    assert levels[started.folder.name] == {"seed": 0, "algorithm": "bp"}
    assert levels[waiting.folder.name] == {"seed": 1}
    assert stored_plan["factors"]["algorithm"] == ["bp", "fa", "dfa"]
    by_algorithm = survey(tmp_path).factors["algorithm"]
    assert set(by_algorithm) == {"bp", "fa", "dfa", "not known"}
    assert sum(sum(counts.values()) for counts in by_algorithm.values()) == len(stored_plan["runs"])


def test_a_factor_may_have_one_level_per_command(plan, tmp_path):
    """What does not change a result is no factor, nor is a key that the earlier runs have at the same level."""
    for algorithm in ("bp", "fa"):
        run = plan(*SMALL, f"algorithm={algorithm}", folder=tmp_path)
        write_plan(tmp_path, [run], ["algorithm", "training.steps", "retry"])
        run.folder.mkdir()
        records.begin(run.folder, run.config | {"retry": algorithm}, {})
    stored_plan = records.read_plan(tmp_path)
    assert stored_plan["factors"] == {"algorithm": ["bp", "fa"]}
    assert [entry["levels"] for entry in stored_plan["runs"]] == [{"algorithm": "bp"}, {"algorithm": "fa"}]


def test_without_an_experiment_they_are_the_commands():
    assert swept(OmegaConf.create({"overrides": {"task": ["seed=0,1", "+a.b=1"]}})) == ["seed", "a.b"]


def test_a_run_that_has_not_started_makes_no_factor(plan, tmp_path):
    """Its level is not known, and that is no other level."""
    for seed in (0, 1):
        write_plan(tmp_path, [plan(*SMALL, "algorithm=fa", f"seed={seed}", folder=tmp_path)], ["algorithm"])
    assert records.read_plan(tmp_path)["factors"] == {}
