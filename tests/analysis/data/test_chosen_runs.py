"""`--where` finds a level by what it means, and levels have their natural order wherever they appear."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from creditlab.analysis import fit, levels, load, posthoc
from creditlab.analysis.__main__ import main
from creditlab.analysis.names import AnalysisError, coded, level_order


@pytest.fixture
def rates(folder):
    rng = np.random.default_rng(0)
    for algorithm in ("r1", "r10", "r2"):
        for rate in (0.1, 0.0001, 0.02):
            for seed in range(3):
                folder.add({"test/accuracy": rng.random()}, algorithm=algorithm, keys={"optimiser.lr": rate}, seed=seed)
    return folder


@pytest.mark.parametrize("asked", ["1e-4", "0.0001", "1E-4", ".0001", "0.00010"])
def test_a_number_is_found_however_it_is_written(rates, asked):
    sweep = load(rates.path, where={"optimiser.lr": [asked]})
    assert len(sweep.runs) == 9
    assert {run.config["optimiser"]["lr"] for run in sweep.records} == {0.0001}


def test_a_number_that_no_run_has_is_an_error_with_the_levels_in_order(rates):
    with pytest.raises(AnalysisError, match=r"no run has optimiser.lr=0.3. There are: 0.0001, 0.02, 0.1"):
        load(rates.path, where={"optimiser.lr": ["0.3"]})


def test_a_list_can_be_named(folder, capsys):
    for widths in ([64], [64, 32], [8, 4]):
        for algorithm in ("bp", "fa"):
            for seed in range(2):
                folder.add(
                    {"test/accuracy": 0.1 * seed}, algorithm=algorithm, keys={"architecture.widths": widths}, seed=seed
                )
    sweep = load(folder.path, where={"architecture.widths": ["[64,32]", "[8, 4]"]})
    assert set(sweep.runs["architecture.widths"]) == {"[64, 32]", "[8, 4]"}
    options = ["--where", "architecture.widths=[64,32],[64]", "--only", "runs"]
    assert main([str(folder.path), *options]) == 0
    assert set(pd.read_csv(folder.path / "report" / "runs.csv")["architecture.widths"]) == {"[64, 32]", "[64]"}


def test_levels_have_their_natural_order_in_every_table(rates):
    sweep = load(rates.path)
    pairs = posthoc(fit(sweep)).frame
    of_rate = pairs[pairs["factor"] == "optimiser.lr"]
    assert set(zip(of_rate["level_a"], of_rate["level_b"], strict=True)) == {
        *[("0.0001", "0.02"), ("0.0001", "0.1"), ("0.02", "0.1")]
    }
    of_rule = pairs[pairs["factor"] == "algorithm"]
    assert set(zip(of_rule["level_a"], of_rule["level_b"], strict=True)) == {("r1", "r2"), ("r1", "r10"), ("r2", "r10")}
    assert len(levels(fit(sweep)).frame) == 6


def test_order_of_levels():
    assert sorted(["r10", "absent", "1e-4", "r2", "10", "0.1", "-3"], key=level_order) == [
        *["-3", "1e-4", "0.1", "10", "absent", "r2", "r10"]
    ]
    codes, names = coded(pd.Series(["10", "9", "9", "b"]))
    assert codes.tolist() == [1, 0, 0, 2]
    assert names == ["9", "10", "b"]
