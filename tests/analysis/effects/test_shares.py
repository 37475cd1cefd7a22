"""Components of variance: they are those of the model, shares add up, and intervals cover what is there."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from creditlab.analysis.effects.anova import anova
from creditlab.analysis.effects.shares import HOW, WHAT, shares, what_how
from tests.analysis.frames import FACTORS, crossing, fitted, rows_of

METRICS = ["test/loss", "weights/a"]
PLAIN = {"*": "identity"}  # every metric is compared as it is
TERMS = ["algorithm", "optimiser", "algorithm:optimiser", "seed", "seed:algorithm", "seed:optimiser", "residual"]


@pytest.mark.parametrize("drop", [[], [0, 5]])
def test_shares_of_a_metric_add_up(drop):
    runs = crossing([3, 2], 4, True, np.random.default_rng(15)).rename(columns={"m0": "test/loss", "m1": "weights/a"})
    table = rows_of(shares, runs.drop(index=drop), FACTORS[:2], METRICS)
    assert table.groupby("metric")["share"].sum().tolist() == pytest.approx([1, 1])
    assert table.groupby("metric")["side"].first().to_dict() == {"test/loss": "behaviour", "weights/a": "encoding"}
    assert table["metric"].drop_duplicates().tolist() == METRICS
    for _, rows in table.groupby("metric"):
        assert rows["term"].tolist() == TERMS
        np.testing.assert_allclose(rows["share"], rows["variance"].clip(lower=0) / rows["variance"].clip(lower=0).sum())
    assert (table["low"].isna() == bool(drop)).all()  # a mixed model has no interval


def test_components_of_one_factor_are_those_of_the_mean_squares():
    runs = crossing([3], 6, True, np.random.default_rng(1), metrics=1)
    table = rows_of(shares, runs, ["algorithm"], ["m0"]).set_index("term")["variance"]
    wide = runs.pivot_table("m0", "seed", "algorithm").to_numpy()
    grand, rows, columns = wide.mean(), wide.mean(axis=1), wide.mean(axis=0)
    residual = ((wide - rows[:, None] - columns + grand) ** 2).sum() / 10
    seed = (3 * ((rows - grand) ** 2).sum() / 5 - residual) / 3
    effect = (6 * ((columns - grand) ** 2).sum() - 2 * residual) / 18
    assert table.to_dict() == pytest.approx({"algorithm": effect, "seed": seed, "residual": residual})


def test_a_mixed_model_has_the_components_of_the_strata_where_little_is_missing():
    """One run of 3 × 2 × 40 is missing: the estimates hardly move."""
    runs = crossing([3, 2], 40, True, np.random.default_rng(2), metrics=1)
    whole, holed = (
        rows_of(shares, each, FACTORS[:2], ["m0"]).set_index("term")["variance"] for each in (runs, runs.drop(index=0))
    )
    np.testing.assert_allclose(holed, whole[holed.index], rtol=0.2, atol=0.05)
    assert not np.allclose(holed, whole[holed.index], rtol=1e-9)


def test_components_are_those_that_were_drawn_and_intervals_cover_them():
    """Of 400 metrics: an effect of variance 2, seeds of 1, seed × algorithm of ½, a residual of 1."""
    rng, draws, seeds = np.random.default_rng(3), 400, 6
    runs = crossing([3, 2], seeds, True, rng, metrics=0)
    effect = np.sqrt(3) * np.array([-1, 0, 1])
    values = np.repeat(effect[runs["algorithm"].str[1].astype(int)][:, None], draws, axis=1)
    values = values + rng.normal(size=(seeds, draws))[runs["seed"]] + rng.normal(size=values.shape)
    group = runs.groupby(["seed", "algorithm"]).ngroup().to_numpy()
    values += np.sqrt(0.5) * rng.normal(size=(group.max() + 1, draws))[group]
    names = [f"m{i}" for i in range(draws)]
    table = rows_of(shares, pd.concat([runs, pd.DataFrame(values, columns=names)], axis=1), FACTORS[:2], names)
    drawn = pd.Series([2.0, 0.0, 0.0, 1.0, 0.5, 0.0, 1.0], TERMS)
    means = table.groupby("term")["variance"].mean()
    np.testing.assert_allclose(means[TERMS], drawn, atol=0.15)
    for term in ("algorithm", "seed", "seed:algorithm", "residual"):
        rows = table[table["term"] == term]
        share = drawn[term] / drawn.sum()
        covered = (rows["low"] <= share) & (rows["high"] >= share)
        assert covered.mean() > 0.9, (term, covered.mean())


def test_summed_up_over_what_is_learned_and_how_it_is_encoded():
    runs = crossing([3, 2], 4, True, np.random.default_rng(16), metrics=5)
    names = ["test/loss", "train/loss", "weights/a", "weights/b", "signals/c"]
    runs = runs.rename(columns={f"m{i}": name for i, name in enumerate(names)})
    runs["weights/b"] += 40 * (runs["algorithm"] == "a1")
    fits = fitted(runs, FACTORS[:2], names, scales=PLAIN)
    table, tests = what_how(fits).frame, anova(fits).frame
    assert list(zip(table["of"], table["term"], strict=True)) == [
        (side, term) for side in (WHAT, HOW) for term in ("algorithm", "optimiser", "algorithm:optimiser")
    ]
    for _, row in table.iterrows():
        members = names[:2] if row["of"] == WHAT else names[2:]
        part = tests[tests["metric"].isin(members) & (tests["term"] == row["term"])].set_index("metric")
        assert (row["n_metrics"], row["n_found"]) == (len(members), (part["p_adjusted"] <= 0.05).sum())
        expected = [part["omega_sq"].median(), part["omega_sq"].min(), part["omega_sq"].max()]
        assert row[["median_omega_sq", "lowest", "highest"]].tolist() == pytest.approx(expected, rel=1e-12)
        assert row["highest_metric"] == part["omega_sq"].idxmax()
    assert table["n_found"].sum() >= 1
