"""Hydra's sweepers that search take a run's objective: Optuna's, really searching."""

import yaml

from creditlab import records

SEARCH = ["-m", "sweep=s", "hydra/sweeper=optuna", "hydra.sweeper.n_jobs=2", "hydra.sweeper.sampler.seed=1"]


def test_optuna_finds_the_best_of_its_runs(creditlab, tmp_path):
    space = ["optimiser.lr=tag(log,interval(0.00001,0.1))", "algorithm=choice(bp,fa)"]
    objective = ["training.objective=test/loss", "hydra.sweeper.direction=minimize", "hydra.sweeper.n_trials=4"]
    answer = creditlab(*SEARCH, *objective, *space)
    assert answer.code == 0, answer.err
    recorded = records.read_sweep(tmp_path / "multirun" / "s")
    assert [run.status for run in recorded] == ["complete"] * 4
    best = min(recorded, key=lambda run: run.metrics["test/loss"])
    results = yaml.safe_load((tmp_path / "multirun" / "s" / "optimization_results.yaml").read_text())
    assert results["best_value"] == best.metrics["test/loss"]
    assert results["best_params"]["optimiser.lr"] == best.config["optimiser"]["lr"]
    assert results["best_params"]["algorithm"] == best.config["choices"]["algorithm"]
    again = creditlab(*SEARCH, *objective, *space)
    assert "0 runs to do, 2 finished before" in again.err  # the same trials are the same runs
    assert again.code == 0


def test_an_objective_that_no_run_records_is_refused_first(creditlab, tmp_path):
    answer = creditlab(
        *SEARCH, "hydra.sweeper.n_trials=2", "optimiser.lr=interval(0.1,1)", "training.objective=test/acc"
    )
    assert answer.code == 2
    assert "training.objective=test/acc: no run records it. Did you mean test/accuracy?" in answer.err
    assert not list(tmp_path.glob("multirun/s/bp-*"))
