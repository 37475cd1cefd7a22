"""Instruments in a run: when they look, what becomes of those that cannot."""

import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from creditlab import records
from creditlab.__main__ import main
from creditlab.architectures.convolution import Conv2d
from creditlab.config import ConfigError
from creditlab.parts import assemble
from creditlab.sweep.plan import preflight
from creditlab.training import train
from tests.common import SMALL

OWN = """
import torch
from creditlab.keys import Count
from creditlab.metrics.needs import needs

def brittle(weight, initial_weight, *, moves: bool):
    if moves and not torch.equal(weight, initial_weight):
        raise RuntimeError("it moved")
    if not moves:
        raise ValueError("needs 9 classes, has 10")
    return 1.0

def wordy(weight, initial_weight):
    if not torch.equal(weight, initial_weight):
        raise RuntimeError("one line\\nand another")
    return 1.0

def patches(kernel):
    return kernel.norm()

def draw(weight, generator):
    return torch.rand(1, generator=generator)

@needs(samples=400)
def modest(activation):
    return activation.mean()
"""


@pytest.fixture
def run(plan, tmp_path, monkeypatch):
    (tmp_path / "own_metrics.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)

    def go(*overrides):
        planned = plan(*SMALL, *overrides)
        return train(planned.config, planned.folder, lambda *_: None, planned.hydra)

    return go


def user_metric(name, **keys):
    listed = "".join(f", {k}: {v}" for k, v in keys.items())
    return f"+metrics.instruments.{name}={{_target_: own_metrics.{name}{listed}}}"


def test_one_that_fails_under_way_is_absent_with_its_reason_and_stops_nothing(run):
    done = run(user_metric("brittle", moves="true"))
    assert done.status == "complete"
    assert done.summary["absent"] == {"brittle": "step 1: RuntimeError: it moved"}
    assert done.metrics["weights/fc1/brittle@init"] == 1
    assert "weights/fc1/brittle" not in done.metrics
    assert "weights/fc1/stable_rank" in done.metrics


def test_its_reason_is_one_line(run):
    assert run(user_metric("wordy")).summary["absent"] == {"wordy": "step 1: RuntimeError: one line"}


def test_one_that_fails_at_the_start_is_told_of_before_training(run):
    with pytest.raises(ConfigError, match=r"metrics: instruments.brittle: needs 9 classes, has 10"):
        run(user_metric("brittle", moves="false"))


@pytest.mark.parametrize("flags", [[], ["-m", "algorithm=bp,fa", "seed=range(2)"]], ids=["single", "sweep"])
@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (
            ["metrics=full", "metrics.samples=12", "metrics.trajectory.length=2"],
            "instruments.two_nn: 12 samples: at least 20 are needed; raise metrics.samples, "
            "or the metric's key samples (1000)",
        ),
        (["metrics.samples=1"], "instruments.class_selectivity: 1 class: at least 2 are needed; raise metrics.samples"),
        ([user_metric("modest")], "instruments.modest: 359 samples: at least 400 are needed; raise metrics.samples"),
        (
            ["metrics=full", "metrics.trajectory.length=7"],
            "trajectory.length=7: a run of 6 steps takes 6 gradients, one every 1. "
            "Lower the length or the spacing, or train longer",
        ),
    ],
    ids=["samples", "classes", "own", "trajectory"],
)
def test_what_cannot_be_measured_is_refused_before_any_run_starts(
    tmp_path, monkeypatch, capsys, flags, overrides, reason
):
    (tmp_path / "own_metrics.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["creditlab", *flags, "training.steps=6", "device=cpu", *overrides])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.delenv("HYDRA_FULL_ERROR")  # which main() sets, to be taken back
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err == f"creditlab: metrics: {reason}\n"
    assert not list((tmp_path / "multirun").glob("*"))


def test_one_that_no_layer_shows_enough_for_is_absent(run):
    assert run(user_metric("patches")).summary["absent"] == {
        "patches": "no layer of this network and rule shows kernel"
    }


def test_those_that_find_nothing_to_look_at_are_named_once_before_a_sweep(plan, tmp_path, monkeypatch, capsys):
    (tmp_path / "own_metrics.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    runs = [
        plan(*SMALL, "metrics=full", user_metric("patches"), f"algorithm={a}", f"seed={s}")
        for a in ("bp", "fa")
        for s in (0, 1)
    ]
    preflight(runs)
    assert capsys.readouterr().err == (
        "creditlab: metrics skipped, because network and rule lack what they observe: feedback_alignment (feedback); "
        "filter_angle (kernel); patches (kernel); transfer_accuracy (surrogate)\n"
    )
    preflight([plan(*SMALL)])
    assert capsys.readouterr().err == ""


def test_one_at_the_ends_only_does_not_look_between(run):
    done = run("metrics.points=3", "+metrics.instruments.stable_rank._at_=ends")
    looked = {row["step"]: row["metrics"] for row in done.history()}
    assert [s for s, m in looked.items() if "weights/fc1/stable_rank" in m] == [0, 6]
    assert [s for s, m in looked.items() if "weights/fc1/effective_rank" in m] == [0, 1, 2, 6]


def test_they_look_by_epochs(run):
    done = run("metrics.points=0", "metrics.epochs=0.1", "training.batch_size=64", "training.evaluations=1")
    assert [row["step"] for row in done.history()] == [0, 2, 4, 6]


def test_random_numbers_are_the_metrics_own_and_the_seeds(run):
    a = run(user_metric("draw"), "algorithm=bp")
    b = run(user_metric("draw"), "algorithm=fa")
    c = run(user_metric("draw"), "algorithm=bp", "seed=1")
    value = lambda r: r.metrics["weights/fc1/draw"]  # noqa: E731
    assert value(a) == value(b) == a.metrics["weights/readout/draw@init"] != value(c)


CONVOLUTIONAL = [
    "metrics=full",
    "metrics.keep_activations=true",
    "architecture=convnet",
    "architecture.depth=2",
    "architecture.channels=[4,6]",
    "architecture.norm=batch",
]


def values(run):
    """All that a run records but the times."""
    measured = {f"{row['step']}/{name}": v for row in run.history() for name, v in row["metrics"].items()}
    return measured | run.metrics | run.arrays()


@pytest.mark.parametrize("algorithm", ["bp", "fa", "es", "ff"])
def test_the_same_run_gives_the_same_values(plan, tmp_path, algorithm):
    planned = plan(*SMALL, *CONVOLUTIONAL, f"algorithm={algorithm}")
    runs = []
    for number in range(2):
        torch.manual_seed(number)  # nobody draws from torch's own stream
        runs.append(train(planned.config, tmp_path / str(number), lambda *_: None, {}))
    one, other = map(values, runs)
    assert one.keys() == other.keys()
    assert len(one) > 500
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
    assert runs[0].summary["absent"] == runs[1].summary["absent"]


@pytest.mark.parametrize("algorithm", ["fa", "ff"])
def test_values_do_not_depend_on_how_images_lie_in_memory(plan, tmp_path, monkeypatch, algorithm):
    """Channels last, as convolutions take and give them, or first."""
    planned = plan(*SMALL, *CONVOLUTIONAL, f"algorithm={algorithm}", "precision=float64")
    strides = []

    def first(self, input):
        output = nn.Conv2d.forward(self, input.contiguous())
        strides.append(output.is_contiguous())
        return output

    one = values(train(planned.config, tmp_path / "last", lambda *_: None, {}))
    monkeypatch.setattr(Conv2d, "forward", first)
    other = values(train(planned.config, tmp_path / "first", lambda *_: None, {}))
    assert strides
    assert all(strides)
    assert one.keys() == other.keys()
    for name, value in one.items():
        expected = np.array(other[name], dtype=float)
        np.testing.assert_allclose(np.array(value, dtype=float), expected, rtol=1e-5, atol=1e-5, err_msg=name)


def test_signals_of_the_first_step_are_those_at_initialisation(run):
    done = run("metrics=full", "metrics.points=1", "algorithm=fa")
    first, last = (row["metrics"] for row in done.history() if row["step"] in (1, 6))
    name = "signals/fc1/gradient_effective_rank"
    assert done.metrics[name] == last[name]
    assert done.metrics[f"{name}@init"] == first[name] != last[name]
    assert done.metrics["signals/fc1/trajectory_length"] == 3
    assert done.summary["seconds_metrics"] < done.summary["seconds"]


def test_a_run_that_stops_early_has_its_last_signals(run):
    done = run("metrics=full", "metrics.points=1", "training.stop_at_accuracy=0.0", "training.evaluations=3")
    assert done.summary["steps"] == 2
    assert "signals/fc1/gradient_effective_rank" in done.metrics


@pytest.mark.parametrize("algorithm", ["es", "ff"])
def test_what_a_rule_has_no_signal_of_is_absent(run, algorithm):
    done = run("metrics=full", f"algorithm={algorithm}")
    assert "no layer of this network and rule shows" in done.summary["absent"]["error_to_true"]
    assert ("error" in done.summary["absent"]) == (algorithm == "es")


def test_train_loss_does_not_depend_on_when_instruments_look(run, tmp_path):
    with_them, without = run("metrics=full"), run("metrics=none", "metrics.points=0")
    assert with_them.metrics["train/loss"] == without.metrics["train/loss"]


def test_activations_are_kept_where_asked(run):
    arrays = run("metrics.keep_activations=true").arrays()
    assert arrays["sample_representation/fc1"].shape == (64, 256)
    label = arrays["test/label"]
    assert len(label) > 64
    assert np.isfinite(arrays["sample_representation/fc1"]).all()


def test_a_longer_trajectory_than_the_run_is_refused(plan):
    with pytest.raises(ConfigError, match=r"length=7: a run of 6 steps takes 6 gradients, one every 1"):
        assemble(plan(*SMALL, "metrics=full", "metrics.trajectory.length=7").config)


class TestSurrogate:
    @pytest.fixture
    def other(self, run, tmp_path):
        folder = run("algorithm=fa", "dataset.limit=500").folder
        return shutil.move(folder, tmp_path / "other")

    def test_it_gives_the_scores_of_the_other_run(self, plan, other):
        parts = assemble(plan(*SMALL, f"metrics.surrogate={other}").config)
        scores = parts.instruments.surrogate(parts.dataset.normalise(parts.dataset.test_x)).double()
        loss = scores.logsumexp(1) - scores.gather(1, parts.dataset.test_y[:, None])[:, 0]
        np.testing.assert_allclose(loss, records.read_run(other).arrays()["test/loss"], rtol=1e-5, atol=1e-6)
        assert math.isfinite(loss.mean())

    def test_the_folder_of_a_sweep_stands_for_its_only_run(self, plan, other, run, tmp_path):
        (tmp_path / "alone").mkdir()
        shutil.copytree(other, tmp_path / "alone" / other.name)
        parts = [assemble(plan(*SMALL, f"metrics.surrogate={f}").config) for f in (other, tmp_path / "alone")]
        x = parts[0].dataset.normalise(parts[0].dataset.test_x)
        assert torch.equal(*(p.instruments.surrogate(x) for p in parts))
        shutil.copytree(other, tmp_path / "alone" / "second")
        with pytest.raises(ConfigError, match=r"a sweep of 2 runs. Name one of them, such as .*alone/other"):
            assemble(plan(*SMALL, f"metrics.surrogate={tmp_path / 'alone'}").config)

    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            (["dataset=synthetic"], r"it was trained on other inputs \(dataset\._target_"),
            (["dataset.normalise=unit"], r"dataset.normalise is 'standard' for it, 'unit' here"),
        ],
    )
    def test_of_other_data_it_is_refused(self, plan, other, overrides, message):
        with pytest.raises(ConfigError, match=message):
            assemble(plan(*SMALL, *overrides, f"metrics.surrogate={other}").config)

    def test_one_that_is_not_there_or_kept_no_weights_is_refused(self, plan, run, tmp_path):
        with pytest.raises(ConfigError, match=r"metrics.surrogate=.*nowhere: there is no finished run in it"):
            assemble(plan(*SMALL, f"metrics.surrogate={tmp_path / 'nowhere'}").config)
        other = run("training.keep_weights=false").folder
        with pytest.raises(ConfigError, match=r"it kept no weights. Train it with training.keep_weights=true"):
            assemble(plan(*SMALL, f"metrics.surrogate={other}").config)


def test_what_broke_is_reported_at_the_end(tmp_path):
    (tmp_path / "own_metrics.py").write_text(OWN)
    command = [sys.executable, "-m", "creditlab", user_metric("brittle", moves="true"), "sweep=s", *SMALL]
    single = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "not computed: brittle, step 1: RuntimeError: it moved" in single.stdout
    sweep = subprocess.run([*command[:3], "-m", *command[3:], "seed=1,2"], cwd=tmp_path, capture_output=True, text=True)
    assert "not computed in 2 runs: brittle, step 1: RuntimeError: it moved" in sweep.stderr
    assert sweep.returncode == 0
