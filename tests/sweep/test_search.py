"""Hydra's sweepers that search take a run's objective: Optuna's, really searching."""

import math

import pytest
import yaml
from omegaconf import OmegaConf

from creditlab import records
from creditlab.sweep.launcher import worst_objective

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


def test_a_search_goes_on_after_a_diverged_run_and_never_prefers_it(creditlab, tmp_path):
    space = ["optimiser=sgd", "optimiser.lr=choice(0.1,1e30)", "training.objective=test/loss"]
    answer = creditlab(*SEARCH, *space, "hydra.sweeper.direction=minimize", "hydra.sweeper.n_trials=4")
    assert answer.code == 0, answer.err
    recorded = records.read_sweep(tmp_path / "multirun" / "s")
    assert {run.status for run in recorded} == {"complete", "diverged"}
    results = yaml.safe_load((tmp_path / "multirun" / "s" / "optimization_results.yaml").read_text())
    (best,) = (run for run in recorded if run.status == "complete")
    assert results["best_params"]["optimiser.lr"] == 0.1
    assert results["best_value"] == best.metrics["test/loss"]


def test_nothing_but_diverged_runs_has_no_best(creditlab, tmp_path):
    space = ["optimiser=sgd", "optimiser.lr=interval(1e29,1e30)", "hydra.sweeper.direction=maximize"]
    answer = creditlab(*SEARCH, *space, "hydra.sweeper.n_trials=2")
    assert answer.code == 1
    assert "all runs of the search diverged, so there is no best value." in answer.err
    assert {run.status for run in records.read_sweep(tmp_path / "multirun" / "s")} == {"diverged"}
    assert not (tmp_path / "multirun" / "s" / "optimization_results.yaml").exists()


@pytest.mark.parametrize(
    ("sweeper", "worst"),
    [
        ({"direction": "maximize"}, -math.inf),
        ({"direction": "minimize"}, math.inf),
        ({"optim": {"maximize": True}}, -math.inf),
        ({"ax_config": {"experiment": {"minimize": False}}}, -math.inf),
        ({"ax_config": {"experiment": {"minimize": True}}}, math.inf),
        ({}, math.inf),
    ],
)
def test_the_worst_value_depends_on_what_the_sweeper_wants(sweeper, worst):
    assert worst_objective(OmegaConf.create({"sweeper": sweeper})) == worst


def test_an_objective_that_no_run_records_is_refused_first(creditlab, tmp_path):
    answer = creditlab(
        *SEARCH, "hydra.sweeper.n_trials=2", "optimiser.lr=interval(0.1,1)", "training.objective=test/acc"
    )
    assert answer.code == 2
    assert "training.objective=test/acc: no run records it. Did you mean test/accuracy?" in answer.err
    assert not list(tmp_path.glob("multirun/s/bp-*"))
