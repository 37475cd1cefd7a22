"""Sweeps in which the truth is planted, and what the sentences say of them: confounds, survivors, associations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from creditlab.analysis import fit
from creditlab.analysis.catalogue import statistics
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.report.conclusions import Cell, conclusions
from creditlab.analysis.report.words import in_words

FACTORS = ["algorithm", "optimiser"]
SLOW = ("fingerprint_confusion", "rdms", "trajectories")


def grid(seeds: int, algorithms=("bp", "fa", "ff"), optimisers=("muon", "sgd")) -> pd.DataFrame:
    rows = [(a, o, s) for a in algorithms for o in optimisers for s in range(seeds)]
    runs = pd.DataFrame(rows, columns=[*FACTORS, "seed"])
    return runs.assign(status="complete", run=[f"{a}-{o}-{s}" for a, o, s in rows])


def sentences_of(runs: pd.DataFrame, **options) -> list[tuple[bool, str]]:
    """Whether it is a claim, and the text of each sentence."""
    metrics = [name for name in runs if "/" in name]
    sweep = replace(Sweep.of(runs, FACTORS, metrics), **options)
    fits = fit(sweep)
    tables = {name: make(fits) for name, make in statistics().items() if name not in SLOW}

    def words(part: str | Cell) -> str:
        if isinstance(part, str):
            return part
        value = tables[part.table].frame.iloc[part.row][part.column]
        return in_words(-value if part.negated else value, part.form)

    return [(one.claim, "".join(map(words, one.parts))) for one in conclusions(tables, sweep)]


def test_nothing_is_claimed_where_nothing_is_there():
    rng, runs = np.random.default_rng(0), grid(5)
    by_seed = rng.normal(size=(5, 3, 12)) * 2  # seed × algorithm, twice the residual
    level = runs["algorithm"].map(["bp", "fa", "ff"].index).to_numpy()
    noise = rng.normal(size=(len(runs), 12)) + by_seed[runs["seed"], level]
    values = {f"weights/l{i}/rank": noise[:, i] for i in range(11)} | {"test/loss": np.exp(noise[:, 11] / 10)}
    sentences = sentences_of(runs.assign(**values))
    assert not [text for claim, text in sentences if claim]
    assert any("not shown to differ" in text for _, text in sentences)


def test_a_confound_of_cells_that_are_missing():
    """Simpson: fa is better with each optimiser, and has most of its runs with the worse one."""
    rng, runs = np.random.default_rng(1), grid(8, ("bp", "fa"))
    better = 0.3 * (runs["algorithm"] == "fa") + 3.0 * (runs["optimiser"] == "muon")
    runs["test/loss"] = np.exp(-better + 0.03 * rng.normal(size=len(runs)))
    few = (runs["algorithm"] == "fa") & (runs["optimiser"] == "muon") & (runs["seed"] > 2)
    few |= (runs["algorithm"] == "bp") & (runs["optimiser"] == "sgd") & (runs["seed"] > 2)
    runs = runs[~few]
    raw = runs.groupby("algorithm")["test/loss"].mean()
    assert raw["fa"] > raw["bp"]  # the mean of the runs says the contrary
    texts = [text for claim, text in sentences_of(runs) if claim and text.startswith("By algorithm")]
    assert any("bp has a higher test/loss than fa" in text for text in texts)


def test_survivors_are_said_to_be_survivors():
    rng, runs = np.random.default_rng(2), grid(5)
    runs["test/accuracy"] = np.round(360 * (0.8 + 0.02 * rng.normal(size=len(runs)))) / 360
    lost = (runs["algorithm"] == "ff") & (runs["seed"] < 3) & (runs["optimiser"] == "sgd")
    runs.loc[lost, "status"] = "diverged"
    runs.loc[lost, "test/accuracy"] = np.nan
    first = sentences_of(runs)[0]
    assert first[1].startswith("By algorithm: 3 of 10 runs with ff diverged (7 % to 65 %)")
    assert "among runs that finished" in first[1]


def test_an_association_that_is_only_the_optimisers():
    """The optimiser moves accuracy and rank; within a cell they have nothing to do with each other."""
    rng, runs = np.random.default_rng(3), grid(6)
    moved = (runs["optimiser"] == "muon").to_numpy(float)
    runs["test/accuracy"] = np.round(360 * (0.7 + 0.15 * moved + 0.01 * rng.normal(size=len(runs)))) / 360
    runs["weights/a/rank"] = 5 * moved + rng.normal(size=len(runs))
    assert np.corrcoef(runs["test/accuracy"], runs["weights/a/rank"])[0, 1] > 0.8
    (about,) = [text for _, text in sentences_of(runs) if "once the effects of seeds are taken out" in text]
    assert "no metric is shown to go with test accuracy" in about


@pytest.mark.parametrize("same", [True, False])
def test_the_same_needs_a_margin(same):
    rng, runs = np.random.default_rng(4), grid(6, ("bp", "fa"))
    runs["weights/a/rank"] = 10 + (0 if same else 0.9) * (runs["algorithm"] == "fa") + 0.1 * rng.normal(size=len(runs))
    runs["test/loss"] = np.exp(0.1 * rng.normal(size=len(runs)))
    assert not any("equivalent" in text for _, text in sentences_of(runs))
    with_margin = " ".join(text for _, text in sentences_of(runs, margins={"weights/a/rank": 0.5}))
    assert ("bp and fa are equivalent in weights/a/rank" in with_margin) == same
