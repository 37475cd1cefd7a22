"""Sweeps that are no full grid, as a user gives them and by their runs."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditlab import records
from creditlab.config import ConfigError
from creditlab.sweep import combinations

GRID = {"algorithm": ["bp", "es"], "optimiser": ["adamw", "muon"], "seed": ["0", "1"]}


def value(text):
    text = text.partition("=")[2]
    return int(text) if text.isdigit() else text


def runs(levels=GRID, zip=(), pairs=(), exclude=(), include=()):
    return [
        set(run) for run in combinations.runs(levels, combinations.zipped(levels, zip), pairs, exclude, include, value)
    ]


def test_a_grid_is_the_product():
    expected = [{f"algorithm={a}", f"optimiser={o}", f"seed={s}"} for a, o, s in itertools.product(*GRID.values())]
    assert runs() == expected


def test_zipped_keys_go_together():
    batch = runs(GRID | {"optimiser.lr": ["0.1", "0.2"]}, zip=[["algorithm", "optimiser.lr"]])
    assert len(batch) == 8
    assert all(("algorithm=bp" in run) == ("optimiser.lr=0.1" in run) for run in batch)


@given(st.lists(st.fixed_dictionaries({}, optional={
    "algorithm": st.sampled_from(["bp", "es"]), "optimiser": st.sampled_from(["adamw", "muon"]),
    "seed": st.sampled_from([0, 1])}).filter(bool), max_size=3))  # fmt: skip
def test_what_is_excluded_is_left_out_and_nothing_else(exclude):
    def left_out(run):
        return any(all(f"{key}={wanted}" in run for key, wanted in c.items()) for c in exclude)

    assert runs(exclude=exclude) == [run for run in runs() if not left_out(run)]


def test_a_value_for_each_combination():
    rates = {("bp", "adamw"): 0.1, ("bp", "muon"): 0.2, ("es", "adamw"): 0.3, ("es", "muon"): 0.4}
    pairs = [{"when": {"algorithm": a, "optimiser": o}, "set": {"optimiser.lr": lr}} for (a, o), lr in rates.items()]
    batch = runs(pairs=pairs)
    assert len(batch) == 8
    for pair in pairs:
        matching = [r for r in batch if {f"{k}={v}" for k, v in pair["when"].items()} <= r]
        assert len(matching) == 2
        assert all(f"optimiser.lr={pair['set']['optimiser.lr']}" in run for run in matching)


def test_included_runs_come_with_what_all_runs_have():
    batch = runs(GRID | {"training.steps": ["5"]}, include=[{"algorithm": "ff", "architecture.widths": [8, 4]}])
    assert len(batch) == 9
    assert batch[-1] == {"algorithm=ff", "architecture.widths=[8, 4]", "training.steps=5"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"zip": [["algorithm", "sed"]]}, "zip: sed is not among .*Did you mean seed"),
        ({"levels": GRID | {"seed": ["0"]}, "zip": [["algorithm", "seed"]]}, "not 2 of algorithm, 1 of seed"),
        ({"exclude": [{"dataset": "digits"}]}, "exclude: dataset is not among the keys that are given"),
        ({"pairs": [{"when": {}}]}, "must have the keys when and set"),
        ({"pairs": [{"when": {"dataset": "x"}, "set": {}}]}, "pairs: dataset is not among"),
    ],
)
def test_mistakes_are_told(keys, message):
    with pytest.raises(ConfigError, match=message):
        runs(**keys)


def test_on_the_command_line_and_in_yaml(creditlab, tmp_path):
    (tmp_path / "my_conf" / "experiment").mkdir(parents=True)
    (tmp_path / "my_conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n"
        "hydra:\n"
        "  sweeper:\n"
        "    params: {algorithm: 'bp,fa', optimiser: 'adamw,muon'}\n"
        "    pairs:\n"
        "      - {when: {algorithm: fa, optimiser: muon}, set: {optimiser.lr: 0.5}}\n"
    )
    answer = creditlab(
        "--config-dir=my_conf", "-m", "+experiment=mine", "sweep=s",
        "hydra.sweeper.exclude=[{algorithm:bp,optimiser:muon}]",
        "hydra.sweeper.include=[{algorithm:bp,optimiser:sgd},{algorithm:bp,optimiser:adamw}]",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert "4 runs to do" in answer.err  # the second one included is in the grid
    recorded = records.read_sweep(tmp_path / "multirun" / "s")
    rates = {"-".join(run.name.split("-")[:2]): run.config["optimiser"]["lr"] for run in recorded}
    assert rates.keys() == {"bp-adamw", "fa-adamw", "fa-muon", "bp-sgd"}
    assert rates["fa-muon"] == 0.5
    assert rates["fa-adamw"] == 0.001
    answer = creditlab("--config-dir=my_conf", "-m", "+experiment=mine", "sweep=t", "optimiser.lr=0.2")
    assert answer.code == 0, answer.err  # the command line goes before the file's pairs
    assert {run.config["optimiser"]["lr"] for run in records.read_sweep(tmp_path / "multirun" / "t")} == {0.2}
    pairs = "hydra.sweeper.pairs=[{when:{algorithm:fa},set:{optimiser.lr:0.3}}]"  # and these are of the command line
    answer = creditlab("--config-dir=my_conf", "-m", "+experiment=mine", "sweep=u", "optimiser.lr=0.2", pairs)
    assert answer.code == 0, answer.err
    recorded = records.read_sweep(tmp_path / "multirun" / "u")
    assert {(run.name[:2], run.config["optimiser"]["lr"]) for run in recorded} == {("bp", 0.2), ("fa", 0.3)}
