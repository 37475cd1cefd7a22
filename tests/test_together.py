"""Runs trained together: the oracle is each of them alone."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from creditlab import interrupt, records, training
from creditlab.config import ConfigError
from creditlab.lock import Held, hold
from creditlab.parts import assemble
from creditlab.together import check, train_together
from creditlab.training import open_trainer, train
from tests import common

SMALL = [*common.SMALL, "architecture.widths=[24,16]", "metrics.points=1", "dataset.limit=400"]
DOUBLE = 1e-12  # of how far weights have moved; a step's rounding is 1e-16
SINGLE = 1e-5


def silent(step, steps, metrics):
    pass


@pytest.fixture
def seeds(plan):
    """Runs of the same keys and other seeds."""
    return lambda *keys, number=3: [plan(*SMALL, *keys, f"seed={seed}") for seed in range(number)]


def together(runs, report=silent):
    """What stopped each, by its seed."""
    ended = {}
    begun = {run.config["seed"]: open_trainer(run.config, run.folder, report, run.hydra) for run in runs}
    train_together(begun, ended.__setitem__)
    return ended


@pytest.fixture
def alone(tmp_path):
    """The same runs, one by one and in other folders."""

    def make(runs):
        return [train(run.config, tmp_path / "alone" / run.folder.name, silent, run.hydra) for run in runs]

    return make


def distance(one, other):
    """The greatest difference of the final weights, beside how far weights have moved at most."""
    a, b = (load_file(folder / "weights.safetensors") for folder in (one, other))
    final = [name for name in a if name.startswith("final/")]
    moved = max(np.abs(a[name] - a[name.replace("final/", "init/")]).max() for name in final)
    return max(np.abs(a[name] - b[name]).max() for name in final) / moved


def agree(runs, singles, tolerance=DOUBLE):
    for run, single in zip(runs, singles, strict=True):
        assert single.finished
        assert distance(single.folder, run.folder) < tolerance


@pytest.mark.parametrize("optimiser", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("algorithm", ["bp", "fa", "dfa"])
def test_each_run_ends_where_it_ends_alone(seeds, alone, algorithm, optimiser):
    keys = [f"algorithm={algorithm}", f"optimiser={optimiser}", "training.steps=100", "metrics=none"]
    runs = seeds(*keys, "precision=float64")
    assert together(runs) == {0: None, 1: None, 2: None}
    agree(runs, alone(runs))


@pytest.mark.parametrize(("algorithm", "optimiser"), [("bp", "adamw"), ("fa", "sgd"), ("dfa", "muon")])
def test_in_single_precision_to_its_rounding(seeds, alone, algorithm, optimiser):
    runs = seeds(f"algorithm={algorithm}", f"optimiser={optimiser}", "training.steps=100", "metrics=none")
    together(runs)
    agree(runs, alone(runs), SINGLE)


@pytest.mark.parametrize(
    "keys",
    [
        ["architecture.norm=layer", "architecture.activation=tanh", "architecture.bias=false"],
        ["dataset.validation=0.2"],  # each seed holds out other samples
        ["training.update_noise=0.1", "training.schedule=cosine", "training.warmup=2"],
        ["metrics=full"],  # instruments that listen to error signals
    ],
    ids=lambda keys: keys[0],
)
def test_whatever_else_a_run_does_it_does_together(seeds, alone, keys):
    runs = seeds("algorithm=fa", "precision=float64", *keys)
    together(runs)
    singles = alone(runs)
    agree(runs, singles)
    for run, single in zip(runs, singles, strict=True):
        result = records.read_run(run.folder)
        assert result.metrics.keys() == single.metrics.keys()
        assert {k: v for k, v in result.metrics.items() if k.startswith("signals/")} == pytest.approx(
            {k: v for k, v in single.metrics.items() if k.startswith("signals/")}, rel=1e-6, abs=1e-5, nan_ok=True
        )


def test_the_records_are_those_of_a_run_alone(seeds, alone):
    runs = seeds("precision=float64", number=2)
    together(runs)
    for run, single in zip(runs, alone(runs), strict=True):
        result = records.read_run(run.folder)
        assert result.status == "complete"
        assert {p.name for p in run.folder.iterdir()} == {p.name for p in single.folder.iterdir()}
        assert result.record.keys() == single.record.keys()
        assert result.summary.keys() == single.summary.keys()
        assert result.metrics == pytest.approx(single.metrics, rel=1e-9, abs=1e-9)
        assert [(r["step"], r["metrics"].keys()) for r in result.history()] == [
            (r["step"], r["metrics"].keys()) for r in single.history()
        ]
        ours, theirs = result.arrays(), single.arrays()
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6, atol=1e-9)
        assert 0 < result.summary["seconds_metrics"] < result.summary["seconds"]


def test_a_run_counts_its_share_of_the_time(seeds):
    runs = seeds("training.steps=300", "metrics=none", number=4)
    began = time.perf_counter()
    together(runs)
    whole = time.perf_counter() - began
    shares = [records.read_run(run.folder).summary["seconds"] for run in runs]
    assert 0.5 * whole < sum(shares) < whole


def test_a_run_that_diverges_leaves_the_others_as_they_are(seeds, alone, monkeypatch):
    def spoilt(config):
        parts = assemble(config)
        if config["seed"] == 1:
            torch.nn.init.constant_(parts.network[-1].bias, torch.nan)
        return parts

    runs = seeds("precision=float64")
    singles = alone(runs)
    monkeypatch.setattr(training, "assemble", spoilt)
    together(runs)
    first, second, third = (records.read_run(run.folder) for run in runs)
    assert (first.status, second.status, third.status) == ("complete", "diverged", "complete")
    assert second.summary["steps"] < first.summary["steps"]
    agree([runs[0], runs[2]], [singles[0], singles[2]])


def test_each_stops_at_its_own_step(seeds, alone):
    keys = ["training.steps=400", "training.evaluations=80", "training.stop_at_accuracy=0.7", "precision=float64"]
    runs = seeds(*keys, "metrics=none")
    together(runs)
    singles = alone(runs)
    reached = [run.summary["steps"] for run in singles]
    assert len(set(reached)) > 1
    assert [records.read_run(run.folder).summary["steps"] for run in runs] == reached
    agree(runs, singles)


def test_asked_to_stop_all_write_checkpoints_that_either_way_resumes(seeds, alone, monkeypatch):
    monkeypatch.setattr(interrupt, "_asked", [])
    runs = seeds("precision=float64", "training.evaluations=6")
    ask = lambda step, *rest: interrupt._asked.append(15) if step == 3 else None  # noqa: E731
    assert {type(error) for error in together(runs, ask).values()} == {interrupt.Interrupted}
    assert all((run.folder / "checkpoint.pt").exists() for run in runs)
    monkeypatch.setattr(interrupt, "_asked", [])
    size = (runs[0].folder / "checkpoint.pt").stat().st_size
    steps_reported = []
    train(runs[0].config, runs[0].folder, lambda step, *rest: steps_reported.append(step), {})
    assert steps_reported[0] == 4
    together(runs[1:])
    singles = alone(runs)
    agree(runs, singles)
    monkeypatch.setattr(interrupt, "_asked", [15])
    with pytest.raises(interrupt.Interrupted):
        train(runs[0].config, runs[0].folder.with_name("interrupted alone"), silent, {})
    monkeypatch.setattr(interrupt, "_asked", [])
    assert size < 1.1 * (runs[0].folder.with_name("interrupted alone") / "checkpoint.pt").stat().st_size


def test_those_behind_catch_up(seeds, alone):
    """One was begun alone, and its checkpoint is ahead of the others."""
    runs = seeds("precision=float64", "training.evaluations=6", "training.checkpoint_seconds=1e-9")

    def stop(step, *rest):
        if step == 4:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(runs[1].config, runs[1].folder, stop, {})
    together(runs)
    agree(runs, alone(runs))


def test_one_that_fails_or_is_held_stops_no_other(seeds, alone):
    runs = seeds("precision=float64", "training.evaluations=6", number=4)

    steps_reported = []

    def report(step, steps, metrics):
        steps_reported.append(step)
        if steps_reported.count(2) == 2 and step == 2:  # the second run's
            raise RuntimeError("the report is haunted")

    runs[2].folder.mkdir(parents=True)
    with hold(runs[2].folder):
        ended = together(runs, report)
    assert [type(ended[seed]) for seed in range(4)] == [type(None), RuntimeError, Held, type(None)]
    assert records.read_run(runs[1].folder).problem == "RuntimeError: the report is haunted"
    agree([runs[0], runs[3]], alone([runs[0], runs[3]]))


def test_a_run_that_another_process_has_just_finished_is_let_go(seeds, monkeypatch):
    (run,) = seeds(number=1)
    together([run])
    monkeypatch.setattr(records, "open_run", lambda *_: SimpleNamespace(finished=False))  # as it was a moment ago
    opening = open_trainer(run.config, run.folder, silent, run.hydra)
    ended = {}
    train_together({0: opening}, ended.__setitem__)
    assert ended == {0: None}
    assert not (run.folder / "lock").exists()


def test_what_breaks_a_step_is_told_by_all(seeds, monkeypatch):
    runs = seeds(number=2)

    def broken(*args):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("creditlab.algorithms.bp.forward", broken)
    together(runs)
    for run in runs:
        result = records.read_run(run.folder)
        assert (result.status, result.problem) == ("failed", "RuntimeError: out of memory")
        assert not (run.folder / "lock").exists()


class Odd(torch.optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {"lr": 0.1})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["algorithm=es"], "together=4 with algorithm=es: .*bp, fa and dfa"),
        (["algorithm=kp"], "together=4 with algorithm=kp"),
        (["architecture.norm=batch"], r"together=4 with architecture=mlp: fc1.body.norm is a BatchNorm1d"),
        (["architecture=convnet", "architecture.depth=2"], "architecture=convnet: conv1.body.conv is a Conv2d"),
    ],
)
def test_what_cannot_be_trained_together_is_refused(plan, keys, message):
    config = plan(*(k for k in SMALL if "architecture=convnet" not in keys or "widths" not in k), *keys).config
    with pytest.raises(ConfigError, match=message):
        check(config, assemble(config), 4)


def test_an_optimiser_that_is_not_known_is_refused(plan):
    config = plan(*SMALL).config
    parts = assemble(config)
    check(config, parts, 4)
    parts.optimiser = Odd(parts.network.parameters())
    with pytest.raises(ConfigError, match="it is not known whether Odd treats each tensor by itself"):
        check(config, parts, 4)
