"""What a sweep is composed of: its folder before its runs, and keys that only the options swept have."""

from creditlab import records


def test_a_key_that_the_default_option_lacks_and_one_that_names_the_folder(creditlab, tmp_path):
    overrides = ["optimiser=muon,kaon", "optimiser.scale=none", "~metrics.instruments.stable_rank"]
    answer = creditlab("-m", *overrides, "hydra.sweep.dir=s/${training.steps}")
    assert answer.code == 0, answer.err
    runs = {run.config["choices"]["optimiser"]: run for run in records.read_sweep(tmp_path / "s" / "6")}
    assert set(runs) == {"muon", "kaon"}
    for run in runs.values():
        assert run.config["optimiser"]["scale"] == "none"
        assert not any("stable_rank" in name for name in run.metrics)
    plan = records.read_plan(tmp_path / "s" / "6")
    assert plan["factors"] == {"optimiser": ["muon", "kaon"]}


def test_an_interpolation_is_resolved_for_each_run(creditlab, tmp_path):
    answer = creditlab("-m", "seed=33,34", "training.batch_size=${seed}")
    assert answer.code == 0, answer.err
    (sweep,) = (tmp_path / "multirun").iterdir()
    runs = records.read_sweep(sweep)
    assert [(run.config["seed"], run.config["training"]["batch_size"]) for run in runs] == [(33, 33), (34, 34)]
    again = creditlab("-m", "seed=33", "training.batch_size=32,${seed}", f"sweep='{sweep.name}'")
    assert "1 run to do, 1 finished before" in again.err
