"""Adjusted p within families of metrics against statsmodels, and their errors in simulation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.formula.api import ols
from statsmodels.stats.multitest import multipletests

from creditlab.analysis.effects import many_tests
from creditlab.analysis.effects.anova import anova
from creditlab.analysis.effects.many_tests import multiplicity
from creditlab.analysis.model.multiplicity import effective
from creditlab.analysis.names import RESIDUAL
from tests.analysis.frames import FACTORS, crossing, fitted


def corrected(table: pd.DataFrame, residuals: pd.DataFrame) -> pd.DataFrame:
    """`multiplicity` of tests with p that are given, in a `table` of metric, term and p."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(many_tests, "anova", lambda _: SimpleNamespace(frame=table))
        return multiplicity(SimpleNamespace(residuals=residuals, made={})).frame


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_is_that_of_statsmodels(p):
    metrics = [f"weights/{i}" for i in range(len(p))]
    residuals = pd.DataFrame(np.random.default_rng(0).normal(size=(40, len(p))), columns=metrics)
    table = corrected(pd.DataFrame({"metric": metrics, "term": "algorithm", "p": p}), residuals)
    np.testing.assert_allclose(table["p_holm"], multipletests(p, method="holm")[1], rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(table["p_bh"], multipletests(p, method="fdr_bh")[1], rtol=1e-12)


def test_families_are_named_and_their_size_is_given():
    metrics = ["test/loss", "train/loss", "weights/a/x", "weights/b/x", "weights/c/x"]
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"metric": np.repeat(metrics, 3), "term": ["algorithm", "optimiser", RESIDUAL] * 5})
    table["p"] = np.where(table["term"] == RESIDUAL, np.nan, rng.random(15) / 5)
    residuals = pd.DataFrame(rng.normal(size=(40, 5)), columns=metrics)
    rows = corrected(table, residuals)
    assert len(rows) == 10
    weights = rows[(rows["family"] == "weights") & (rows["term"] == "algorithm")]
    assert set(weights["size"]) == {3}
    np.testing.assert_allclose(weights["p_holm"], multipletests(weights["p"], method="holm")[1])
    np.testing.assert_allclose(weights["p_bh"], multipletests(weights["p"], method="fdr_bh")[1])
    assert weights["effective_nyholt"].iloc[0] == pytest.approx(effective(residuals[metrics[2:]].to_numpy())[1])


def test_the_tests_of_a_sweep_are_those_of_its_analysis_of_variance():
    names = ["test/loss", "weights/a", "weights/b", "weights/c"]
    runs = crossing([3, 2], 4, True, np.random.default_rng(2), metrics=4)
    runs = runs.rename(columns={f"m{i}": name for i, name in enumerate(names)})
    fits = fitted(runs, FACTORS[:2], names)
    rows, tests = multiplicity(fits).frame, anova(fits).frame.query("term != @RESIDUAL")
    assert rows[["metric", "term", "p"]].to_numpy().tolist() == tests[["metric", "term", "p"]].to_numpy().tolist()
    assert rows.groupby(["term", "family"])["size"].unique().map(list).to_dict() == {
        (term, family): [size]
        for term in ("algorithm", "optimiser", "algorithm:optimiser", "seed")
        for family, size in (("behaviour", 1), ("weights", 3))
    }
    model = "C(algorithm) * C(optimiser) + C(seed)"
    residuals = np.stack([ols(f"y ~ {model}", runs.assign(y=runs[name])).fit().resid for name in names[1:]], axis=1)
    independent = rows.loc[rows["family"] == "weights", ["effective_li_ji", "effective_nyholt"]].drop_duplicates()
    assert independent.to_numpy().tolist() == [pytest.approx(effective(residuals), rel=1e-9)]


def test_false_discoveries_are_bounded():
    """Of 20 metrics half have an effect; the share of false ones among the positives stays at 5 %, and Holm's chance
    of any false one."""
    rng = np.random.default_rng(2)
    p = rng.random((4000, 20))
    p[:, :10] = p[:, :10] ** 6 / 10
    metrics = [f"weights/{i}" for i in range(20)]
    table = pd.DataFrame({"metric": metrics * 4000, "term": np.repeat(np.arange(4000), 20), "p": p.ravel()})
    rows = corrected(table, pd.DataFrame(rng.normal(size=(40, 20)), columns=metrics))
    positive = rows["p_bh"].to_numpy().reshape(p.shape) < 0.05
    false_share = positive[:, 10:].sum(axis=1) / positive.sum(axis=1).clip(min=1)
    any_false = (rows["p_holm"].to_numpy().reshape(p.shape)[:, 10:] < 0.05).any(axis=1)
    assert np.mean(false_share) == pytest.approx(0.05 / 2, abs=0.005)  # the rate is that of the true nulls' share
    assert np.mean(any_false) < 0.05
