"""A test that the runs cannot bear gives no verdict: it says that there are too few to tell."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from creditlab.analysis import anova, assumptions, fit, posthoc
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


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_a_metric_whose_squares_overflow_is_not_called_constant(scale):
    sweep = null_sweep(3, 4, 2)
    sweep.runs["m0"] *= scale
    fits = fit(sweep)
    assert "squares cannot be summed" in fits.untested["m0"]
    assert "m1" not in fits.untested


@pytest.mark.parametrize("seeds", [2, 3])
def test_a_verdict_needs_three_seeds(seeds):
    """Of two seeds there are estimates; however large an effect is, nothing is found."""
    sweep = null_sweep(3, seeds, 2)
    sweep.runs["m0"] += 1e3 * (sweep.runs["algorithm"] == "a1")
    fits = fit(sweep)
    row = anova(fits).frame.iloc[0]
    assert row["F"] > 100
    assert row["found"] == (seeds == 3)
    table = posthoc(fits).frame
    assert table["difference"].notna().all()
    assert table["found"].any() == (seeds == 3)
    assert np.isnan(row["p"]) == (seeds == 2)
