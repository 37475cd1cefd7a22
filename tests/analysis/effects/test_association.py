"""Associations against least squares by another route, data sets with R's numbers, confounds and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols

from creditlab.analysis import fit
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.association import association, r_of, residual_stratum, within
from tests.analysis.oracles import METRICS, sweep_complete

FACTORS = ["algorithm", "optimiser"]
FORMULA = "C(algorithm) * C(optimiser) + C(seed) * C(algorithm) + C(seed) * C(optimiser)"


def associated(runs: pd.DataFrame, factors: list[str], metrics: list[str]) -> pd.DataFrame:
    """The rows of `runs` by metric and scope."""
    return association(fit(Sweep.of(runs, factors, metrics))).frame.set_index(["metric", "scope"])


def of_the_sweep(drop: list[int]) -> pd.DataFrame:
    """The sweep on digits without some runs; its accuracy is what others are associated with."""
    return sweep_complete().drop(index=drop).rename(columns={"accuracy": "test/accuracy"})


@pytest.mark.parametrize("drop", [[], [3, 17, 30], [0, 1, 2, 3, 9]])
def test_within_cells_is_the_residual_stratum_of_least_squares(drop):
    runs = of_the_sweep(drop)
    rows = associated(runs, FACTORS, ["test/accuracy", *METRICS[1:]])
    models = {m: ols(f"y ~ {FORMULA}", runs.assign(y=runs[m])).fit() for m in ["test/accuracy", *METRICS[1:]]}
    df = models["loss"].df_resid - 1
    for metric in METRICS[1:]:
        row = rows.loc[(metric, "within cells")]
        r = stats.pearsonr(models["test/accuracy"].resid, models[metric].resid).statistic
        assert row["r"] == pytest.approx(r, abs=1e-9)
        assert row["df"] == df
        t = r * np.sqrt(df / (1 - r**2))
        assert (row["t"], row["p"]) == pytest.approx((t, 2 * stats.t.sf(abs(t), df)), abs=1e-8)
        ends = np.tanh(np.arctanh(r) + 1.959963985 * np.array([-1, 1]) / np.sqrt(df - 1))
        assert row[["ci_low", "ci_high"]].tolist() == pytest.approx(ends.tolist(), abs=1e-8)
    if not drop:
        assert df == 15  # 2 · 2 · 4 − 1
        assert rows.loc[("change_rank", "within cells"), "r"] == pytest.approx(-0.0411, abs=1e-4)


def test_between_cells_and_effects_describe_means():
    rows = associated(of_the_sweep([]), FACTORS, ["test/accuracy", "change_rank"]).loc["change_rank"]
    means = sweep_complete().groupby(FACTORS)[["accuracy", "change_rank"]].mean()
    assert rows.loc["between cells", "r"] == pytest.approx(stats.pearsonr(*means.to_numpy().T).statistic)
    for factor in FACTORS:
        of_levels = means.groupby(factor).mean()
        assert rows.loc[f"effects of {factor}", "r"] == pytest.approx(stats.pearsonr(*of_levels.to_numpy().T).statistic)
    both = means.to_numpy().reshape(3, 3, 2)
    both = both - both.mean(axis=0, keepdims=True) - both.mean(axis=1, keepdims=True) + both.mean(axis=(0, 1))
    interaction = stats.pearsonr(*both.reshape(9, 2).T).statistic
    assert rows.loc["effects of algorithm:optimiser", "r"] == pytest.approx(interaction)
    assert rows["n"].tolist() == [45, 9, 3, 3, 9]
    described = rows.drop(index="within cells")
    assert described[["p", "p_adjusted", "ci_low", "ci_high", "df"]].isna().all(axis=None)


def sweep_of(rng: np.random.Generator, levels: int, seeds: int) -> pd.DataFrame:
    """Two unrelated metrics; the optimiser moves both a lot, and seeds move each at each level."""
    algorithm, optimiser, seed = np.indices((3, levels, seeds)).reshape(3, -1)
    runs = pd.DataFrame({"algorithm": [f"a{i}" for i in algorithm], "optimiser": [f"o{i}" for i in optimiser]})
    for name in ("x", "test/accuracy"):
        by_seed = rng.normal(size=seeds)[seed] + rng.normal(size=(levels, seeds))[optimiser, seed]
        runs[name] = 9 * optimiser + by_seed + rng.normal(size=len(runs)) / 3
    return runs.assign(seed=seed, status="complete")


def test_what_a_factor_does_to_both_is_not_within():
    """Simpson: r over all runs is nearly 1, and nothing goes with accuracy within cells."""
    runs = sweep_of(np.random.default_rng(0), 3, 6)
    assert runs[["x", "test/accuracy"]].corr().iloc[0, 1] > 0.9
    rows = associated(runs, FACTORS, ["x", "test/accuracy"]).loc["x"]
    assert rows.loc["effects of optimiser", "r"] > 0.99
    assert rows.loc["between cells", "r"] > 0.9
    assert rows.loc["within cells", "p_adjusted"] > 0.05
    follows = runs.assign(x=runs["test/accuracy"] + runs["x"] / 9)
    assert associated(follows, FACTORS, ["x", "test/accuracy"]).loc["x"].loc["within cells", "p_adjusted"] < 0.001


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_false_positives_with_seed_effects_at_each_level(seeds):
    """5 % of 2,000 sweeps, give or take three standard errors, though seeds move both metrics at each level."""
    rng = np.random.default_rng(seeds)
    codes = np.stack(np.unravel_index(np.arange(9 * seeds), (3, 3, seeds)), axis=1)
    shapes = ((3, 3, seeds), (1, 3, 1), (1, 1, seeds), (3, 1, seeds), (1, 3, seeds))
    sizes = (1, 1.5, 1, 0.7, 0.7)
    values = sum(sd * rng.normal(size=(*shape, 4000)) for sd, shape in zip(sizes, shapes, strict=True))
    residuals, n, df = residual_stratum(codes, values.reshape(-1, 4000))
    assert (n, df) == (9 * seeds, 4 * (seeds - 1))
    p = [within(residuals[:, [i]], residuals[:, [2000 + i]], df)["p"][0] for i in range(2000)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.015)


def test_designs_that_leave_another_stratum():
    rng = np.random.default_rng(1)
    codes = np.stack(np.unravel_index(np.arange(20), (4, 5)), axis=1)  # one factor and the seed: cell and seed go
    assert residual_stratum(codes, rng.normal(size=(20, 2)))[1:] == (20, 12)
    three = np.stack(np.unravel_index(np.arange(24 * 3), (2, 3, 4, 3)), axis=1)
    assert residual_stratum(three, rng.normal(size=(72, 1)))[2] == 2 * 1 * 2 * 3  # seed × pairs go too
    alone = codes.copy()
    alone[:, 1] = np.arange(20)  # seeds are replicates: only cells go
    values = rng.normal(size=(20, 2))
    residuals, n, df = residual_stratum(alone, values)
    assert (n, df) == (20, 16)
    expected = values - values.reshape(4, 5, 2).mean(axis=1).repeat(5, axis=0)
    np.testing.assert_allclose(residuals * np.abs(values).max(axis=0), expected, atol=1e-12)
    alone[5, 1] = 0  # one seed is shared by accident: one of its two runs is left out
    assert residual_stratum(alone, values)[1:] == (19, 15)


def test_the_outcome_is_accuracy_or_the_first_metric_of_behaviour():
    runs = of_the_sweep([])
    assert set(associated(runs, FACTORS, ["test/accuracy", "loss"])["outcome"]) == {"test/accuracy"}
    runs = runs.rename(columns={"test/accuracy": "test/perplexity", "loss": "weights/a"})
    assert set(associated(runs, FACTORS, ["weights/a", "test/perplexity"])["outcome"]) == {"test/perplexity"}
    assert set(associated(sweep_complete(), FACTORS, METRICS)["outcome"]) == {"accuracy"}


def test_runs_that_diverged_and_missing_values_take_no_part():
    runs = of_the_sweep([])
    fewer = associated(runs.drop(index=3), FACTORS, ["test/accuracy", "loss"])
    diverged = runs.assign(status=runs["status"].where(runs.index != 3, "diverged"))
    rows = associated(diverged, FACTORS, ["test/accuracy", "loss"]).drop(columns="p_adjusted")
    pd.testing.assert_frame_equal(rows, fewer.drop(columns="p_adjusted"))  # the divergence is one more question
    gaps = associated(runs.assign(loss=runs["loss"].where(runs.index != 3)), FACTORS, ["test/accuracy", "loss"])
    pd.testing.assert_frame_equal(gaps.drop(columns="p_adjusted"), fewer.drop(columns="p_adjusted"))
    assert associated(runs.assign(status="diverged"), FACTORS, ["test/accuracy", "loss"]).empty
    constant = associated(runs.assign(loss=1.0), FACTORS, ["test/accuracy", "loss"])
    assert constant["r"].isna().all()


def test_one_seed_bears_no_test():
    rows = associated(of_the_sweep([]).query("seed == '0'"), FACTORS, ["test/accuracy", "loss"]).loc["loss"]
    assert rows["p"].isna().all()
    assert np.isfinite(rows.loc["between cells", "r"])


def test_without_a_point_in_the_stratum_there_is_no_r():
    """Two algorithms of two seeds each, of which no seed has both."""
    runs = pd.DataFrame({"algorithm": ["bp", "bp", "fa", "fa"], "seed": [0, 1, 2, 3], "status": "complete"})
    runs = runs.assign(**{"test/accuracy": [0.1, 0.2, 0.3, 0.5], "w/a": [1.0, 2.0, 2.0, np.nan]})
    assert association(fit(Sweep.of(runs, ["algorithm"], ["test/accuracy", "w/a"]))).frame["p"].isna().all()
    assert np.isnan(r_of(np.zeros((0, 2)), np.zeros((0, 2)), 0)).all()
