"""A test that the runs cannot bear gives no verdict: it says that there are too few to tell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from creditlab.analysis import assumptions, fit, robust
from creditlab.analysis.__main__ import main
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.assumptions import LEAST_DF, TOO_FEW


def null_sweep(levels: int, seeds: int, metrics: int) -> Sweep:
    """Normal values without an effect, seeds shared between the levels of one factor."""
    rng = np.random.default_rng(1)
    codes = np.array([(level, seed) for level in range(levels) for seed in range(seeds)])
    names = [f"m{i}" for i in range(metrics)]
    runs = pd.DataFrame(rng.normal(size=(len(codes), metrics)), columns=names)
    runs = runs.assign(algorithm=[f"a{level}" for level in codes[:, 0]], seed=codes[:, 1], status="complete")
    return Sweep.of(runs, ["algorithm"], names)


@pytest.mark.parametrize(("levels", "seeds", "df"), [(2, 2, 1), (3, 2, 2), (2, 4, 3), (3, 3, 4), (4, 3, 6)])
def test_normal_values_are_rejected_at_the_level_or_not_at_all(levels, seeds, df):
    """With one residual degree of freedom Shapiro-Wilk rejects every normal metric."""
    table = assumptions(fit(null_sweep(levels, seeds, 400))).frame
    if df < LEAST_DF:
        assert set(table["normality_test"]) == {TOO_FEW}
        assert table["p_normality"].isna().all()
    else:
        assert (table["p_normality"] < 0.05).mean() < 0.09  # 0.05 and four standard errors of 400 draws
    assert table["fails"].str.contains("normality").mean() < 0.09


def test_a_permutation_test_says_what_p_it_can_give():
    """Two levels and three shared seeds: there are 8 orders. The observed one and its mirror have the same F."""
    table = robust(fit(null_sweep(2, 3, 20)), metrics=[f"m{i}" for i in range(20)]).frame
    permuted = table[table["test"] == "permutation"]
    assert permuted["least_p"].between(0.2, 0.3).all()  # 2 of 8
    assert (permuted["p"] >= permuted["least_p"] - 1e-12).all()
    many = robust(fit(null_sweep(2, 9, 5)), metrics=["m0"]).frame
    assert many.loc[many["test"] == "permutation", "least_p"].iloc[0] < 0.05


def test_a_test_that_cannot_show_anything_does_not_disagree(folder, capsys):
    """An F test that finds a large effect, beside a permutation test of eight orders."""
    rng = np.random.default_rng(0)
    for level, algorithm in enumerate(("bp", "fa")):
        for seed in range(3):
            skewed = 10 * level + float(rng.exponential()) ** 6 * 1e-3
            folder.add({"test/accuracy": skewed, "weights/a/rank": skewed**2}, algorithm=algorithm, seed=seed)
    assert main([str(folder.path)]) == 0
    printed = capsys.readouterr().out
    assert "permutation" not in printed or "Too few runs for a permutation test to tell: algorithm" in printed
    assert ", permutation ." not in printed  # no row of a disagreement


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_a_metric_whose_squares_overflow_is_not_called_constant(scale):
    sweep = null_sweep(3, 4, 2)
    sweep.runs["m0"] *= scale
    fits = fit(sweep)
    assert "squares cannot be summed" in fits.untested["m0"]
    assert "m1" not in fits.untested
