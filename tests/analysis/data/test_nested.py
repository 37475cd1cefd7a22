"""A key that only some options have: compared at its best value, chosen on other seeds, and tested by itself."""

from __future__ import annotations

import numpy as np
import pytest

from creditlab.analysis import anova, fit, load, posthoc
from creditlab.analysis.catalogue import statistics
from creditlab.analysis.claims.verdicts import judged
from creditlab.records import read_claims


def fill(folder, sigmas: dict[float, float], *, seeds: int = 5, validation: bool = False, noise: float = 0.01) -> None:
    """bp at .9, and es at the accuracy that goes with each σ."""
    rng = np.random.default_rng(0)
    for seed in range(seeds):
        folder.add({"test/accuracy": 0.9 + noise * rng.normal(), "w/a": rng.normal()}, algorithm="bp", seed=seed)
        for sigma, accuracy in sigmas.items():
            metrics = {"test/accuracy": accuracy + noise * rng.normal(), "w/a": rng.normal()}
            metrics |= {"validation/accuracy": 1 - accuracy} if validation else {}
            folder.add(metrics, algorithm="es", keys={"algorithm.sigma": sigma}, seed=seed)


def test_the_best_sigma_is_what_is_compared(folder):
    """The mean over σ is below bp, the best σ above it."""
    fill(folder, {0.1: 0.97, 0.5: 0.4})
    sweep = load(folder.path)
    assert sweep.nested == {"algorithm.sigma": "algorithm"}
    assert sweep.tuned == [
        "es is compared at its best algorithm.sigma, chosen for each seed by the test/accuracy of the other seeds"
    ]
    pairs = posthoc(fit(sweep)).frame.query("metric == 'test/accuracy' and factor == 'algorithm'")
    (difference,) = pairs["difference"]
    assert difference == pytest.approx(-0.07, abs=0.02)
    assert len(sweep.usable) == 10
    assert len(sweep.finished) == 15


def test_the_key_is_tested_within_the_option(folder):
    fill(folder, {0.1: 0.97, 0.5: 0.4})
    fits = fit(load(folder.path))
    row = anova(fits).frame.query("metric == 'test/accuracy' and term == 'algorithm.sigma within es'")
    assert row["found"].all()
    assert list(row["n"]) == [10]
    pairs = posthoc(fits).frame.query("metric == 'test/accuracy' and factor == 'algorithm.sigma'")
    assert list(pairs["at"]) == ["algorithm=es"]
    assert pairs["difference"].item() == pytest.approx(0.57, abs=0.02)


def test_a_seed_takes_no_part_in_its_own_choice(folder):
    """σ that differ by noise only: chosen by its own seed the best of 20 would lie 1.9 standard deviations too high."""
    fill(folder, dict.fromkeys(np.round(np.linspace(0.1, 2, 20), 2), 0.9), seeds=8)
    pairs = posthoc(fit(load(folder.path))).frame.query("metric == 'test/accuracy' and factor == 'algorithm'")
    assert abs(pairs["difference"].item()) < 0.01


def test_the_validation_set_chooses_where_it_was_recorded(folder):
    """It says the contrary of the test set here."""
    fill(folder, {0.1: 0.97, 0.5: 0.4}, validation=True)
    sweep = load(folder.path)
    assert "chosen for each seed by the validation accuracy" in sweep.tuned[0]
    used = sweep.usable[sweep.usable["algorithm"] == "es"]
    assert set(used["algorithm.sigma"]) == {0.5}


def test_a_value_that_the_user_chooses(folder):
    fill(folder, {0.1: 0.97, 0.5: 0.4})
    sweep = load(folder.path, where={"algorithm.sigma": ["0.5", "absent"]})
    assert sweep.tuned == []
    pairs = posthoc(fit(sweep)).frame.query("metric == 'test/accuracy' and factor == 'algorithm'")
    assert pairs["difference"].item() == pytest.approx(0.5, abs=0.02)


def test_a_claim_is_about_the_best_value_unless_it_names_one(folder, tmp_path):
    fill(folder, {0.1: 0.97, 0.5: 0.4})
    text = "- {claim: best, metric: test/accuracy, cell: {algorithm: es}, holds: {above: 0.95}}\n"
    text += (
        "- {claim: named, metric: test/accuracy, cell: {algorithm: es, algorithm.sigma: 0.5}, holds: {below: 0.45}}\n"
    )
    (tmp_path / "claims.yml").write_text(text)
    sweep = load(folder.path)
    table = judged(sweep, read_claims(tmp_path / "claims.yml"), lambda name: statistics()[name](fit(sweep)).frame)
    assert list(table.frame["verdict"]) == ["holds", "holds"]
    assert list(table.frame["n_seeds"]) == [5, 5]
