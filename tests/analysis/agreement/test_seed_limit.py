"""Agreement between raters against that of the seeds of one rater: by definition, in limit cases, by simulation."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from creditlab.analysis import fit, load
from creditlab.analysis.agreement.concordance import (
    EQUIVALENT,
    LESS,
    NOT_SHOWN,
    concordance,
    concordance_differences,
    seed_limit,
)
from creditlab.analysis.agreement.kendall import kendall_w
from creditlab.analysis.agreement.seed_limit import against_seeds, difference, without_each_seed
from creditlab.analysis.model.questions import verdicts
from tests.analysis.oracles import FOLDER, numbers


def scores_of(x: np.ndarray) -> pd.DataFrame:
    """`x` (raters, seeds, items) as a frame of ratings."""
    raters, seeds, items = x.shape
    index = pd.MultiIndex.from_product([list("abcdef")[:raters], list(map(str, range(seeds)))], names=["rater", "seed"])
    return pd.DataFrame(x.reshape(-1, items), index=index)


def drawn(rng: np.random.Generator, seeds: int, apart: float, shared: float = 0.0, items: int = 100) -> np.ndarray:
    """Three raters of common items; `apart` is the sd of what is a rater's, `shared` of what a seed does to all."""
    common = rng.normal(size=items) + apart * rng.normal(size=(3, 1, items))
    return common + rng.normal(size=(3, seeds, items)) + shared * rng.normal(size=(1, seeds, items))


def d_of(x: np.ndarray) -> float:
    """The difference by its definition, pair by pair."""
    rho = {}
    raters, seeds = x.shape[:2]
    for i in range(raters):
        for j in range(raters):
            pairs = permutations(range(seeds), 2)
            rho[i, j] = np.mean([stats.spearmanr(x[i, s], x[j, t]).statistic for s, t in pairs])
    within = np.mean([rho[i, i] for i in range(raters)])
    return within - np.mean([rho[i, j] for i, j in combinations(range(raters), 2)])


def test_the_difference_and_its_jackknife_by_definition():
    x = drawn(np.random.default_rng(0), 4, 0.7)
    row = against_seeds(scores_of(x))
    assert row["difference"] == pytest.approx(d_of(x), rel=1e-9)
    parts = np.array([d_of(np.delete(x, s, axis=1)) for s in range(4)])
    error = np.sqrt(3 / 4 * ((parts - parts.mean()) ** 2).sum())
    assert row["t"] == pytest.approx(d_of(x) / error, rel=1e-9)
    ends = d_of(x) + error * np.array(stats.t.interval(0.95, 3))
    assert [row["ci_low"], row["ci_high"]] == pytest.approx(ends.tolist(), rel=1e-9)
    assert row["upper"] == pytest.approx(d_of(x) + error * stats.t.ppf(0.95, 3), rel=1e-9)
    assert row["p"] == pytest.approx(2 * stats.t.sf(row["t"], 3))
    assert (row["n_seeds"], row["df"]) == (4, 3)
    assert (row["p_equivalent"] < 0.05) == (row["upper"] < 0.05)


def test_what_a_seed_does_to_all_raters_does_not_lift_their_agreement():
    x = drawn(np.random.default_rng(1), 6, 0.0, shared=2.0, items=2000)
    row = against_seeds(scores_of(x))
    assert abs(row["difference"]) < 0.02
    same_seed = np.mean([stats.spearmanr(x[0, s], x[1, s]).statistic for s in range(6)])
    assert same_seed > row["between"] + 0.4


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_verdicts_of_raters_that_are_alike_and_that_are_not(seeds):
    rng = np.random.default_rng(seeds)
    alike = [against_seeds(scores_of(drawn(rng, seeds, 0.0, shared))) for shared in (0, 0.7) for _ in range(40)]
    assert np.mean([row["ci_low"] > 0 for row in alike]) <= 0.05
    apart = [against_seeds(scores_of(drawn(rng, seeds, 0.7))) for _ in range(40)]
    assert np.mean([row["ci_low"] > 0 for row in apart]) > {3: 0.5, 5: 0.95, 10: 0.99}[seeds]
    assert np.mean([row["upper"] < 0.05 for row in apart]) == 0


def test_the_interval_of_the_ceiling_covers_it():
    """Items are fixed, seeds are drawn: 150 draws of five seeds against what 300 seeds give."""
    rng = np.random.default_rng(8)
    items = rng.normal(size=100)
    many = items + rng.normal(size=(300, 100))
    rho = stats.spearmanr(many, axis=1).statistic[~np.eye(300, dtype=bool)].mean()
    ceiling = (1 + 2 * (5 * rho / (1 + 4 * rho))) / 3
    rows = [against_seeds(scores_of(items + rng.normal(size=(3, 5, 100)))) for _ in range(150)]
    covered = [row["ceiling_low"] <= ceiling <= row["ceiling_high"] for row in rows]
    assert np.mean(covered) > 0.9
    assert np.mean([row["ceiling_high"] - row["ceiling_low"] for row in rows]) < 0.1
    assert all(row["ceiling_high"] <= 1 for row in rows)


def test_two_w_are_compared_over_the_seeds_that_they_share():
    rng = np.random.default_rng(4)
    x, y = drawn(rng, 5, 0.2), drawn(rng, 5, 1.5)
    row = difference(without_each_seed(scores_of(x)), without_each_seed(scores_of(y)))
    w = [kendall_w(each.mean(axis=1)) for each in (x, y)]
    assert row["difference"] == pytest.approx(w[0] - w[1])
    parts = np.array(
        [np.subtract(*(kendall_w(np.delete(each, s, axis=1).mean(axis=1)) for each in (x, y))) for s in range(5)]
    )
    error = np.sqrt(4 / 5 * ((parts - parts.mean()) ** 2).sum())
    assert row["t"] == pytest.approx(row["difference"] / error, rel=1e-9)
    assert row["p"] == pytest.approx(2 * stats.t.sf(row["t"], 4), rel=1e-9)
    assert row["p"] < 0.01


def test_few_seeds_and_raters_of_their_own_seeds():
    two = against_seeds(scores_of(drawn(np.random.default_rng(0), 2, 0.5)))
    assert np.isfinite(two["difference"])
    assert np.isnan([two[key] for key in ("ci_low", "p", "p_equivalent", "ceiling_low")]).all()
    one = against_seeds(scores_of(drawn(np.random.default_rng(0), 1, 0.5)))
    assert np.isnan(one["within"])
    x = drawn(np.random.default_rng(0), 3, 0.5).reshape(9, -1)
    index = pd.MultiIndex.from_arrays([list("aaabbbccc"), list("012345678")])
    lone = against_seeds(pd.DataFrame(x, index=index))
    assert (lone["n_seeds"], lone["df"]) == (9, 8)
    pairs = [stats.spearmanr(x[i], x[j]).statistic for i in range(3) for j in range(3, 6)]
    assert np.isfinite(lone["p"])
    assert lone["between"] == pytest.approx(
        np.mean(
            [
                np.mean(pairs),
                *[
                    np.mean([stats.spearmanr(x[i], x[j]).statistic for i in r for j in range(6, 9)])
                    for r in (range(3), range(3, 6))
                ],
            ]
        )
    )


def test_the_w_of_r():
    published = numbers()["kendall"]
    values = pd.read_csv(FOLDER / "sweep_complete.csv")
    ranks = values.pivot_table(published["metric"], "seed", ["algorithm", "optimiser"]).to_numpy()
    assert kendall_w(ranks) == pytest.approx(published["W"], rel=1e-12)


def test_of_a_sweep(folder):
    """fa rates as bp does, es rates another way; on the second data set all rate alike."""
    rng = np.random.default_rng(0)
    common = {name: rng.normal(size=(2, 300)) for name in ("digits", "mnist")}
    for dataset in common:
        for algorithm in ("bp", "fa", "es"):
            kind = int(algorithm == "es" and dataset == "digits")
            for seed in range(6):
                loss = common[dataset][kind] + 0.5 * rng.normal(size=300)
                folder.add(
                    {"test/loss": float(loss.mean())}, loss=loss, algorithm=algorithm, seed=seed, dataset=dataset
                )
    fits = fit(load(folder.path))
    rows = seed_limit(fits).frame.set_index("dataset")
    assert rows["verdict"].to_dict() == {"digits": LESS, "mnist": EQUIVALENT}
    assert (
        rows["noise_ceiling"] == concordance(fits).frame.query("raters == 'algorithm'")["noise_ceiling"].tolist()
    ).all()
    assert rows["noise_ceiling"].between(rows["ceiling_low"], rows["ceiling_high"]).all()
    assert set(seed_limit(fits, margin=1e-6).frame["verdict"]) == {LESS, NOT_SHOWN}
    row = concordance_differences(fits).frame.iloc[0]
    assert row[["raters", "dataset_a", "dataset_b", "n_seeds"]].tolist() == ["algorithm", "digits", "mnist", 6]
    assert row["ci_high"] < 0
    tests = verdicts(fits).set_index(["question", "metric"])["p_adjusted"]
    assert tests["concordance", "digits, loss: algorithm"] == rows.loc["digits", "p_adjusted"]
    assert tests["concordance as of seeds", "mnist, loss: algorithm"] == rows.loc["mnist", "p_equivalent_adjusted"]
    assert tests["concordance compared", "digits, loss and mnist, loss: algorithm"] == row["p_adjusted"]
