"""Hydra's own launchers and switches: a run is self-contained, so they work."""

from creditlab import records


def test_the_basic_launcher_trains_each_run_in_this_process(creditlab, tmp_path):
    command = ["-m", "hydra/launcher=basic", "sweep=s", "seed=0,1"]
    answer = creditlab(*command)
    assert answer.code == 0, answer.err
    runs = records.read_sweep(tmp_path / "multirun" / "s")
    assert [(run.status, run.config["seed"]) for run in runs] == [("complete", 0), ("complete", 1)]
    assert creditlab(*command).out.count("finished before, complete") == 2
    assert "2 finished before" in creditlab("-m", "sweep=s", "seed=0,1").err  # the pool takes them for the same runs


def test_a_change_of_folder_does_not_move_a_run(creditlab, tmp_path):
    answer = creditlab("sweep=s", "hydra.job.chdir=true")
    assert answer.code == 0, answer.err
    (run,) = records.read_sweep(tmp_path / "multirun" / "s")
    assert run.status == "complete"
    assert str(run.folder) in answer.out
