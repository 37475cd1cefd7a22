"""The shares of variance side by side: they add up, and what they do not add up to is named."""

from __future__ import annotations

import numpy as np
import pytest

from creditlab.analysis.effects.anova import anova
from creditlab.analysis.effects.shares import HOW, OVERLAP, WHAT, shares, what_how
from creditlab.analysis.names import RESIDUAL
from tests.analysis.frames import FACTORS, crossing, fitted, rows_of

METRICS = ["test/loss", "weights/a"]


def test_shares_of_variance():
    runs = crossing([3, 2], 4, True, np.random.default_rng(15)).rename(columns={"m0": "test/loss", "m1": "weights/a"})
    whole = rows_of(shares, runs, FACTORS[:2], METRICS)
    assert whole.groupby("metric")["share"].sum().tolist() == pytest.approx([1, 1])
    assert whole.groupby("metric")["side"].first().to_dict() == {"test/loss": "behaviour", "weights/a": "encoding"}
    assert OVERLAP not in set(whole["term"])
    holed = rows_of(shares, runs.drop(index=[0, 5]), FACTORS[:2], METRICS)
    assert holed.groupby("metric")["share"].sum().tolist() == pytest.approx([1, 1])
    assert set(holed.loc[holed["term"] == OVERLAP, "metric"]) == {"test/loss", "weights/a"}


def test_shares_are_eta_squared_with_its_interval():
    runs = crossing([3, 2], 4, True, np.random.default_rng(15)).rename(columns={"m0": "test/loss", "m1": "weights/a"})
    fits = fitted(runs, FACTORS[:2], METRICS)
    ours = shares(fits).frame.set_index(["metric", "term"])[["share", "low", "high"]]
    theirs = anova(fits).frame.set_index(["metric", "term"])[["eta_sq", "eta_sq_low", "eta_sq_high"]]
    np.testing.assert_array_equal(ours, theirs.loc[ours.index])


def test_summed_up_over_what_is_learned_and_how_it_is_encoded():
    runs = crossing([3, 2], 4, True, np.random.default_rng(16), metrics=5)
    names = ["test/loss", "train/loss", "weights/a", "weights/b", "signals/c"]
    fits = fitted(runs.rename(columns={f"m{i}": name for i, name in enumerate(names)}), FACTORS[:2], names)
    table, tests = what_how(fits).frame, anova(fits).frame.query("term != @RESIDUAL")
    assert list(zip(table["of"], table["term"], strict=True)) == [
        (side, term) for side in (WHAT, HOW) for term in ("algorithm", "optimiser", "algorithm:optimiser", "seed")
    ]
    for _, row in table.iterrows():
        members = names[:2] if row["of"] == WHAT else names[2:]
        part = tests[tests["metric"].isin(members) & (tests["term"] == row["term"])].set_index("metric")
        assert (row["n_metrics"], row["n_found"]) == (len(members), (part["p_adjusted"] < 0.05).sum())
        expected = [part["eta_sq"].median(), part["eta_sq"].min(), part["eta_sq"].max()]
        assert row[["median_eta_sq", "lowest", "highest"]].tolist() == pytest.approx(expected, rel=1e-12)
        assert row["highest_metric"] == part["eta_sq"].idxmax()
    assert RESIDUAL not in set(table["term"])
