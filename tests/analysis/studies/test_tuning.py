"""The best learning rate of each condition."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from creditlab.analysis import load
from creditlab.analysis.names import AnalysisError
from creditlab.analysis.studies.tuning import main, pairs, tuning
from tests.analysis.conftest import Folder

BEST = {"bp": 0.1, "fa": 0.3}
RATES = (0.03, 0.1, 0.3)


@pytest.fixture
def tuned(folder: Folder) -> Folder:
    """Two rules with three rates and two seeds each; the score falls by the distance from the best rate."""
    for algorithm, best in BEST.items():
        for lr in RATES:
            for seed in range(2):
                score = {"validation/accuracy": 0.9 - abs(lr - best) + 0.001 * seed, "test/accuracy": 0.5}
                folder.add(score, keys={"optimiser.lr": lr}, seed=seed, algorithm=algorithm)
    return folder


def test_finds_the_best_rate_of_each_arm_and_marks_the_ends(tuned: Folder) -> None:
    table = tuning(load(tuned.path)).set_index("algorithm")
    assert table["best"].to_dict() == BEST
    assert table["score"].tolist() == pytest.approx([0.9005, 0.9005])
    assert table["runner_up"].tolist() == pytest.approx([0.9005 - 0.07, 0.9005 - 0.2])
    assert table["at_the_end"].to_dict() == {"bp": False, "fa": True}


def test_what_is_printed_is_read_by_the_sweeper(tuned: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    assert main([str(tuned.path)]) == 0
    printed = yaml.safe_load(capsys.readouterr().out.partition("hydra.sweeper.pairs:\n")[2])
    assert printed == [{"when": {"algorithm": a}, "set": {"optimiser.lr": lr}} for a, lr in BEST.items()]


def test_a_run_that_diverged_is_not_chosen(tuned: Folder) -> None:
    tuned.add({"validation/accuracy": 0.99}, status="diverged", keys={"optimiser.lr": 1.0}, algorithm="bp")
    tuned.add({"validation/accuracy": 0.1}, keys={"optimiser.lr": 1.0}, algorithm="fa")
    table = tuning(load(tuned.path))
    assert dict(zip(table["algorithm"], table["best"], strict=True)) == BEST
    assert not table["at_the_end"].any()


def test_a_rate_that_one_seed_did_not_survive_is_not_chosen(tuned: Folder) -> None:
    """By the seeds that did it would be the best."""
    for algorithm in BEST:
        tuned.add({"validation/accuracy": 0.99}, keys={"optimiser.lr": 1.0}, seed=0, algorithm=algorithm)
        tuned.add({}, status="diverged", keys={"optimiser.lr": 1.0}, seed=1, algorithm=algorithm)
    table = tuning(load(tuned.path))
    assert dict(zip(table["algorithm"], table["best"], strict=True)) == BEST
    assert not table["at_the_end"].any()


def test_an_arm_of_which_no_run_learned_has_none(folder: Folder) -> None:
    for algorithm in BEST:
        for lr in RATES:
            status = "diverged" if algorithm == "fa" else "complete"
            folder.add({"validation/accuracy": lr}, status=status, keys={"optimiser.lr": lr}, algorithm=algorithm)
    table = tuning(load(folder.path)).set_index("algorithm")
    assert table.loc["bp", "best"] == 0.3
    assert math.isnan(table.loc["fa", "best"])
    assert "fa" not in pairs(table.reset_index(), "optimiser.lr")


def test_arms_with_unequal_tries_do_not_compare(tuned: Folder) -> None:
    tuned.add({"validation/accuracy": 0.1}, keys={"optimiser.lr": 1.0}, algorithm="fa")
    with pytest.raises(AnalysisError, match="algorithm: fa: 4"):
        tuning(load(tuned.path))


def test_runs_that_failed_are_no_tries(tuned: Folder) -> None:
    tuned.add(status="failed", keys={"optimiser.lr": 0.3}, seed=2, algorithm="fa")
    with pytest.raises(AnalysisError, match="1 runs are not finished"):
        tuning(load(tuned.path))


def test_what_has_no_order_has_no_ends(tuned: Folder) -> None:
    table = tuning(load(tuned.path), key="algorithm")
    assert table.set_index("optimiser.lr")["best"].to_dict() == {0.03: "bp", 0.1: "bp", 0.3: "fa"}
    assert not table["at_the_end"].any()
    assert "- {when: {optimiser.lr: 0.3}, set: {algorithm: fa}}" in pairs(table, "algorithm")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--key", "optimiser.momentum"], "does not vary"),
        (["--key", "optimiser.l"], "Did you mean optimiser.lr?"),
        (["--score", "validation/acuracy"], "dataset.validation=0.1"),
        (["--score", "test/acuracy"], "no run has test/acuracy. Did you mean test/accuracy?"),
    ],
)
def test_bad_input(tuned: Folder, asked: list[str], message: str) -> None:
    given = subprocess.run(
        [sys.executable, "-m", "creditlab.analysis.studies.tuning", str(tuned.path), *asked],
        capture_output=True,
        text=True,
    )
    assert given.returncode == 2
    assert message in given.stderr
    assert "Traceback" not in given.stderr
