import copy
import os
import re

import pytest
import yaml

from creditlab import records
from creditlab.__main__ import CONF
from creditlab.config import GROUPS, ConfigError, checked_config
from tests.common import options


@pytest.fixture
def config(plan):
    return plan("algorithm=fa").config


@pytest.mark.parametrize(("group", "option"), [(g, o) for g in (*GROUPS, "metrics") for o in options(g)])
def test_every_option_passes_the_check(plan, group, option):
    assert plan(f"{group}={option}").config["choices"][group] == option


EXPERIMENTS = sorted((CONF / "experiment").rglob("*.yaml"))
OPTIONS = sorted(set(CONF.rglob("*.yaml")) - set(EXPERIMENTS))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_experiment_passes_the_check(plan, path):
    name = path.relative_to(CONF / "experiment").with_suffix("").as_posix()
    assert plan(f"+experiment={name}").config["choices"]
    package, purpose = path.read_text().splitlines()[:2]
    assert package == "# @package _global_"
    assert purpose.startswith("# ")


@pytest.mark.parametrize("path", OPTIONS, ids=lambda p: p.relative_to(CONF).as_posix())
def test_every_key_is_documented_where_it_is_set(path):
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ") or path.parent.name == "help", "the first line says what the option is"
    inside_hydra = False
    for line in lines:
        inside_hydra = line.startswith("hydra:") or (inside_hydra and line.startswith(" "))
        if re.match(r" *[a-z_]+: \S", line) and not inside_hydra and path.parent.name != "help":
            assert "_target_" in line or " # " in line, f"{line!r} has no comment"


def test_the_keys_are_frozen(plan):
    """The command line that users have in their scripts: a change of it must be a visible diff."""
    keys = {o: sorted(k for k in yaml.safe_load((CONF / f"{o}.yaml").read_text()) if k != "_target_") for o in FROZEN}
    assert keys == FROZEN


FROZEN = {
    "algorithm/fa": ["scale"],
    "algorithm/dfa": ["scale"],
    "optimiser/adamw": ["betas", "eps", "fused", "lr", "weight_decay"],
    "architecture/mlp": ["activation", "bias", "init", "norm", "widths"],
    "dataset/digits": ["limit", "normalise", "pad", "test_fraction", "validation"],
}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=-1"], r"seed=-1: must be a whole number at least 0"),
        (["seed=x"], r"seed='x': must be a whole number"),
        (["seed=1.5"], r"seed=1.5"),
        (
            ["precision=float16"],
            r"precision='float16': must be float32 or float64 or bfloat16. Did you mean bfloat16\?",
        ),
        (["training.stop_at_accuracy=96"], r"training.stop_at_accuracy=96: must be a number in \[0, 1\] or null"),
        (["training.schedule=cosin"], r"Did you mean cosine\?"),
        (["training.batch_size=0"], r"training.batch_size=0: must be a whole number at least 1"),
        (["training.steps=null"], r"training.steps=null and training.epochs=null"),
        (["seed=null"], r"seed=null: must be a whole number"),
        (["architecture.widths=[true]"], r"architecture.widths=\[true\]: must be a list, each a whole number"),
        (["threads=100000"], rf"threads=100000: must be at most {os.cpu_count()}, the cores of this machine"),
        (["sweep=''"], r"sweep='': must be text of letters, digits and ._\+=- \(/ between folders\) or null"),
        (["sweep=../../x"], r"sweep='../../x': must be text of letters"),
        (["sweep=/x"], r"sweep='/x': must be text of letters"),
        (["optimiser.betas=[0.9]"], r"optimiser.betas=\[0.9\]: must be a list of 2, each a number"),
        (["optimiser.betas=[.9,.9,.9]"], r"optimiser.betas=\[0.9, 0.9, 0.9\]: must be a list of 2, each a number"),
        (["~optimiser.lr"], r"~optimiser.lr: a key of an option cannot be left out. Give it a value: optimiser.lr="),
        (["~metrics.instruments.zero_fraction.threshold"], r"a key of an option cannot be left out"),
        (["optimiser.lr=fast"], r"optimiser.lr='fast': must be a number"),
        (["+optimiser.lrr=1"], r"optimiser=adamw \(torch.optim.AdamW\) has no key 'lrr'. Did you mean lr\?"),
        (["algorithm=fa", "algorithm.scale=0"], r"algorithm.scale=0: must be a number more than 0"),
        (
            ["algorithm=fa", "~algorithm.scale"],
            r"~algorithm.scale: a key of an option cannot be left out. Give it a value: algorithm.scale=",
        ),
        (
            ["architecture.widths=[8,0]"],
            r"architecture.widths=\[8, 0\]: must be a list, each a whole number at least 1",
        ),
        (["architecture.activation=rely"], r"Did you mean relu\?"),
        (["algorithm._target_=creditlab.algorithms.bp.Backpropagatio"], r"Did you mean Backpropagation\?"),
        (
            ["+metrics.instruments.mine={_target_: creditlab.hints.did_you_mean}"],
            r"observes 'name', which is not among weight",
        ),
        (
            ["+metrics.instruments.mine={_target_: creditlab.algorithms.bp.Backpropagation}"],
            r"observes 'network', which|observes 'task', which is not among",
        ),
        (["+metrics.instruments.stable_rank._at_=end"], r"_at_='end': must be points or ends"),
        (["metrics.trajectory.length=1"], r"metrics.trajectory.length=1: must be a whole number at least 2"),
        (["metrics.epochs=0"], r"metrics.epochs=0: must be a number more than 0 or null"),
        (["+extra=1"], r"extra: a run has no key 'extra'"),
        (["~training.steps"], r"training.steps: training needs this key"),
    ],
)
def test_a_mistake_names_the_key_the_value_and_what_is_allowed(plan, overrides, message):
    with pytest.raises(ConfigError, match=message):
        plan(*overrides)


@pytest.mark.parametrize(
    ("objective", "overrides", "hint"),
    [
        (
            "test/acuracy",
            [],
            r"Did you mean test/accuracy\? There are test/accuracy, test/loss, train/loss and <scope>",
        ),
        ("accuracy", [], r"Did you mean test/accuracy\?"),
        ("train/loss@init", [], r"Did you mean train/loss\?"),
        ("validation/loss", [], r"There are test/accuracy, test/loss, train/loss and"),
        ("weights/fc1/stable_rnk", [], r"Did you mean weights/fc1/stable_rank\?"),
        ("weight/fc1/stable_rank", [], r"Did you mean weights/fc1/stable_rank\?"),
        ("weights/fc1/stable_rank", ["metrics=none"], r"The metric is one of metrics=none: none"),
    ],
)
def test_an_objective_that_no_run_can_record(plan, objective, overrides, hint):
    with pytest.raises(ConfigError, match=f"training.objective={objective}: no run records it.*{hint}"):
        plan(f"training.objective={objective}", *overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["training.objective=test/loss@init"],
        ["training.objective=train/loss"],
        ["training.objective=validation/accuracy", "dataset.validation=0.1"],
        ["training.objective=changes/fc1/stable_rank"],
        ["training.objective=activations/hidden.1/dead_fraction@init"],
    ],
)
def test_an_objective_that_a_run_may_record(plan, overrides):
    assert plan(*overrides).config["training"]["objective"] in overrides[0]


@pytest.mark.parametrize("name", ["a", "algorithm-seed_training.steps=2", "study/depth", "1e+2"])
def test_a_sweeps_folder_can_be_named(plan, name):
    assert plan(f"sweep='{name}'").config["sweep"] == name


def test_an_instrument_can_be_left_out(plan):
    assert "stable_rank" not in plan("~metrics.instruments.stable_rank").config["metrics"]["instruments"]


def test_whole_numbers_count_as_floats_so_that_identities_agree(plan):
    a, b = plan("optimiser.lr=1").config, plan("optimiser.lr=1.0").config
    assert records.identity(a) == records.identity(b)
    assert plan("training.steps=1e2").config["training"]["steps"] == 100


def test_epochs_override_steps(plan):
    a, b = plan("training.epochs=2", "training.steps=5").config, plan("training.epochs=2").config
    assert a["training"]["steps"] is None
    assert records.identity(a) == records.identity(b)


def test_the_order_of_overrides_does_not_matter(plan):
    overrides = ["algorithm=fa", "optimiser=sgd", "training.steps=7", "seed=3"]
    assert plan(*overrides).folder == plan(*overrides[::-1]).folder


def test_checking_again_changes_nothing(config):
    before = copy.deepcopy(config)
    assert checked_config(config) == before == config
