"""Sweeps that cannot bear all that is asked of them: every table is written, and what cannot be said is said so."""

from __future__ import annotations

from html import unescape

import numpy as np
import pytest

from creditlab.analysis.__main__ import main
from creditlab.analysis.catalogue import statistics
from tests.analysis.conftest import Folder

RNG = np.random.default_rng(0)


def drawn(*metrics: str) -> dict:
    return {"metrics": {metric: float(RNG.normal()) for metric in metrics}, "loss": RNG.normal(size=20)}


def all_diverged(folder: Folder) -> None:
    for algorithm in ("bp", "fa"):
        for seed in range(3):
            folder.add(
                {"test/accuracy": None, "weights/a/x": float(seed)},
                None,
                status="diverged",
                algorithm=algorithm,
                seed=seed,
            )


def one_seed(folder: Folder) -> None:
    folder.cross(
        lambda **_: drawn("test/accuracy", "weights/a/x"), 1, algorithm=["bp", "fa", "es"], optimiser=["sgd", "muon"]
    )


def two_seeds(folder: Folder) -> None:
    folder.cross(
        lambda **_: drawn("test/accuracy", "weights/a/x"), 2, algorithm=["bp", "fa"], optimiser=["sgd", "muon"]
    )


def a_level_with_seeds_of_its_own(folder: Folder) -> None:
    for algorithm, first in (("bp", 0), ("fa", 0), ("es", 10)):
        for seed in range(first, first + 3):
            for optimiser in ("sgd", "muon"):
                made = drawn("test/accuracy", "weights/a/x")
                folder.add(**made, algorithm=algorithm, optimiser=optimiser, seed=seed)


def constant(folder: Folder) -> None:
    for algorithm in ("bp", "fa", "es"):
        for seed in range(3):
            metrics = {"test/accuracy": 0.5, "weights/a/x": float(ord(algorithm[0]))}
            folder.add(metrics, np.ones(20), algorithm=algorithm, seed=seed)


def one_level_has_a_value(folder: Folder) -> None:
    for algorithm in ("bp", "fa", "es"):
        for seed in range(3):
            single = ["weights/a/x"] if algorithm == "bp" else []
            folder.add(**drawn("test/accuracy", *single), algorithm=algorithm, seed=seed)


def aliased(folder: Folder) -> None:
    for algorithm, rate in (("bp", 0.1), ("fa", 0.2)):
        for seed in range(3):
            folder.add(**drawn("test/accuracy"), keys={"optimiser.lr": rate}, algorithm=algorithm, seed=seed)


def an_empty_cell_and_names_with_markup(folder: Folder) -> None:
    for algorithm in ("bp", "<b>fa</b>"):
        for width in (1, 2, 3):
            for seed in range(3):
                if (algorithm, width) != ("bp", 2):
                    keys = {"algorithm.kind": algorithm, "architecture.width": width}
                    folder.add(**drawn("test/accuracy", "<i>a</i>/[b]/x"), keys=keys, seed=seed)


def partial_diverged_and_of_mixed_schemas(folder: Folder) -> None:
    folder.cross(lambda **_: drawn("test/accuracy"), 3, algorithm=["bp", "fa"])
    folder.add(status="diverged", algorithm="bp", seed=3)
    folder.add(status="failed", algorithm="fa", seed=3)
    old = folder.add(**drawn("test/accuracy"), algorithm="fa", seed=4) / "run.json"
    old.write_text(old.read_text().replace('"schema": 1', '"schema": 99'))


def a_level_that_is_no_number(folder: Folder) -> None:
    for width in (1, 2, 3, None):
        for seed in range(3):
            folder.add(**drawn("test/accuracy"), keys={"architecture.width": width}, seed=seed)


def names_of_other_scripts(folder: Folder) -> None:
    folder.cross(lambda **_: drawn("test/accuracy", "weights/层/秩"), 3, algorithm=["誤差逆伝播", "🦊", "es"])


def many_long_levels(folder: Folder) -> None:
    levels = [f"a_rule_with_a_name_of_more_than_forty_letters_{number}" for number in range(40)]
    folder.cross(lambda **_: drawn("test/accuracy", "weights/a/x"), 2, algorithm=levels)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("make", "status", "line"),
    [
        (all_diverged, 3, "Not tested, no finite value in any finished run: test/accuracy, weights/a/x"),
        (one_seed, 3, "Not tested, one seed: how much a result varies from seed to seed is not known; add seeds:"),
        (two_seeds, 0, "two seeds: estimates without verdicts; a third seed gives them"),
        (a_level_with_seeds_of_its_own, 0, "mixed model by REML: seed and seed × factor are random"),
        (constant, 3, "Not tested, does not vary within cells: nothing to test against: weights/a/x"),
        (one_level_has_a_value, 0, "Not tested, no factor varies among the runs that have it: weights/a/x"),
        (aliased, 0, "optimiser.lr cannot be separated from algorithm"),
        (an_empty_cell_and_names_with_markup, 0, "left out: no run at algorithm.kind=bp, architecture.width=2"),
        (partial_diverged_and_of_mixed_schemas, 0, "diverged: bp-sgd-digits-mlp-s3"),
        (partial_diverged_and_of_mixed_schemas, 0, "failed: fa-sgd-digits-mlp-s3"),
        (partial_diverged_and_of_mixed_schemas, 0, "corrupt: fa-sgd-digits-mlp-s4"),
        (names_of_other_scripts, 0, "Factors: algorithm (es, 誤差逆伝播, 🦊)"),
        (many_long_levels, 0, "Factors: algorithm ("),
        (a_level_that_is_no_number, 0, "Factors: architecture.width (1, 2, 3, null); 3 seeds"),
    ],
)
def test_it_is_said(folder, capsys, monkeypatch, make, status, line):
    monkeypatch.setenv("COLUMNS", "200")
    make(folder)
    assert main([str(folder.path), "--format", "csv", "parquet", "latex", "markdown"]) == status
    assert line in capsys.readouterr().out
    page = (folder.path / "report" / "report.html").read_text()
    assert line.startswith("Factors: ") or line in unescape(page)
    assert "<b>" not in page
    assert "<i>" not in page
    for name in statistics():
        for suffix in ("csv", "parquet", "tex", "md"):
            assert (folder.path / "report" / f"{name}.{suffix}").stat().st_size > 10
