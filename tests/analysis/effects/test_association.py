"""Associations against scipy, pingouin, limit cases and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pingouin
import pytest
from scipy import stats

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.association import association, fisher, over_seeds

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")


def clustered(seed: int, within: float, n: int = 8, levels: int = 5) -> pd.DataFrame:
    """Levels far apart in both, along a line; within a level the correlation is `within`."""
    rng = np.random.default_rng(seed)
    level = np.repeat(np.arange(levels), n)
    x = rng.normal(size=len(level))
    y = within * x + np.sqrt(1 - within**2) * rng.normal(size=len(level))
    runs = pd.DataFrame({"x": 10 * level + x, "test/accuracy": 10 * level + y, "algorithm": [f"a{i}" for i in level]})
    return runs.assign(seed=np.tile(np.arange(n), levels), status="complete")


def associated(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of `runs` by scope."""
    return association(Sweep.of(runs, ["algorithm"], ["x", "test/accuracy"])).frame.set_index("scope")


def test_across_and_within_tell_different_things():
    runs = clustered(0, -0.8)
    rows = associated(runs)
    assert rows[["factor", "outcome", "metric"]].drop_duplicates().to_numpy().tolist() == [
        ["algorithm", "test/accuracy", "x"]
    ]
    across, within = rows.loc["across all runs"], rows.loc["within algorithm"]
    assert across["r"] == pytest.approx(pingouin.corr(runs["x"], runs["test/accuracy"])["r"].iloc[0], rel=1e-9)
    dummies = pd.get_dummies(runs["algorithm"], drop_first=True, dtype=float)
    partial = pingouin.partial_corr(runs.join(dummies), "x", "test/accuracy", list(dummies)).iloc[0]
    assert within["r"] == pytest.approx(partial["r"], rel=1e-9)
    assert across["r"] > 0.9
    assert within["r"] < -0.5
    means = runs.groupby("algorithm")[["x", "test/accuracy"]].mean()
    between = rows.loc["between algorithm"]
    assert (between["n"], between["r"]) == (5, pytest.approx(stats.pearsonr(*means.to_numpy().T).statistic))
    one = runs[runs["algorithm"] == "a2"]
    spearman = stats.spearmanr(one["x"], one["test/accuracy"])[0]
    assert rows.loc["within algorithm=a2", "spearman"] == pytest.approx(spearman)


def jackknife_over_seeds(runs: pd.DataFrame, within: bool) -> list[float]:
    """r, the ends of its interval and p, each r computed anew."""

    def r(runs: pd.DataFrame) -> float:
        both = runs[["x", "test/accuracy"]]
        both = both - runs.groupby("algorithm")[["x", "test/accuracy"]].transform("mean") if within else both
        return stats.pearsonr(*both.to_numpy().T).statistic

    seeds = sorted(set(runs["seed"]))
    parts = [np.arctanh(r(runs[runs["seed"] != seed])) for seed in seeds]
    z, error = np.arctanh(r(runs)), np.std(parts) * np.sqrt(len(seeds) - 1)
    ends = np.tanh(z + error * np.array(stats.t.interval(0.95, len(seeds) - 1)))
    return [r(runs), *ends, 2 * stats.t.sf(abs(z) / error, len(seeds) - 1)]


@pytest.mark.parametrize("drop", [[], [0, 9, 17, 39]])
def test_seeds_are_what_is_independent(drop):
    runs = clustered(3, 0.5).drop(index=drop)
    rows = associated(runs)[["r", "ci_low", "ci_high", "p"]]
    assert rows.loc["across all runs"].tolist() == pytest.approx(jackknife_over_seeds(runs, False), rel=1e-8)
    assert rows.loc["within algorithm"].tolist() == pytest.approx(jackknife_over_seeds(runs, True), rel=1e-8)
    one = runs[runs["algorithm"] == "a3"]
    assert rows.loc["within algorithm=a3"].tolist() == pytest.approx(jackknife_over_seeds(one, False), rel=1e-8)
    shuffled = associated(runs.sample(frac=1, random_state=0))
    np.testing.assert_allclose(shuffled[rows.columns], rows, rtol=1e-9)


def test_r_of_independent_points_is_scipys():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(9, 3)), rng.normal(size=(9, 1))
    for column, (r, low, high, p) in enumerate(zip(*fisher(x, y), strict=True)):
        theirs = stats.pearsonr(x[:, column], y[:, 0])
        ours = [theirs.statistic, *theirs.confidence_interval(), theirs.pvalue]
        assert [r, low, high, p] == pytest.approx(ours, rel=1e-9)


@pytest.mark.parametrize(("seeds", "start", "effect", "r"), [(3, 0.5, 2, 0.6), (5, 1, 2, 0), (10, 0, 0, 0.6)])
def test_intervals_of_r_cover_what_other_seeds_would_give(seeds, start, effect, r):
    """95 % ± 2 % of 3,000 draws: four levels × two of another factor, all fixed, and seeds that are drawn."""
    rng = np.random.default_rng(1)
    level, other, seed = np.indices((4, 2, seeds)).reshape(3, -1)
    mean = effect * rng.normal(size=(2, 4, 2))[:, level, other]
    noise = rng.normal(size=(2, len(level), 3000))
    noise[1] = r * noise[0] + np.sqrt(1 - r**2) * noise[1]
    x, y = mean[:, :, None] + noise + start * rng.normal(size=(2, seeds, 3000))[:, seed]
    for means, code in ((0, np.zeros_like(level)), (mean.reshape(2, 4, -1).mean(axis=2)[:, level], level)):
        fixed = mean - (means if code.any() else mean.mean(axis=1, keepdims=True))
        a, b = (fixed**2).mean(axis=1) + 1 + start**2
        truth = ((fixed[0] * fixed[1]).mean() + r) / np.sqrt(a * b)
        _, low, high, _ = over_seeds(x, y, code, seed)
        assert ((low <= truth) & (truth <= high)).mean() == pytest.approx(0.95, abs=0.02)


def test_false_positives_of_r():
    """At 0.05 of 4,000 draws, whatever seeds and levels do to both; of three seeds that share much, less often."""
    rng = np.random.default_rng(2)
    level, seed = np.indices((4, 6)).reshape(2, -1)
    x, y = rng.normal(size=(2, 24, 4000)) + rng.normal(size=(2, 6, 4000))[:, seed]
    for code in (np.zeros_like(level), level):
        shift = 5 * rng.normal(size=(2, 4, 4000))[:, level] if code.any() else np.zeros((2, 1, 1))
        p = over_seeds(x + shift[0], y + shift[1], code, seed)[3]
        assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.02)
        assert (fisher(x, y)[3] < 0.05).mean() > 0.1  # what taking all runs for independent makes of it
    few = seed < 3
    assert (over_seeds(x[few], y[few], level[few], seed[few])[3] < 0.05).mean() < 0.06
    means = rng.normal(size=(2, 4, 4000))
    _, low, high, p = fisher(*means)
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.02)
    assert ((low <= 0) & (high >= 0)).mean() == pytest.approx(0.95, abs=0.02)


def test_points_that_cannot_bear_a_correlation():
    line, codes = np.arange(6.0)[:, None], np.zeros(6, int)
    assert np.isnan(fisher(np.ones((5, 1)), line[:5])).all()
    assert np.isnan(fisher(line[:2], line[:2])).all()
    r, low, high, _ = fisher(line[:3], np.array([[0.0], [1], [3]]))
    assert (low, high) == (-1, 1)
    assert r == pytest.approx(stats.pearsonr([0, 1, 2], [0, 1, 3]).statistic)
    assert np.isnan(over_seeds(np.ones((6, 1)), line, codes, np.arange(6))).all()
    r, *rest = over_seeds(line, line**2, codes, np.array([0, 0, 0, 1, 1, 1]))
    assert np.isfinite(r).all()
    assert np.isnan(rest).all()  # two seeds


def test_without_the_outcome_and_of_diverged_runs_nothing_is_associated():
    runs = clustered(0, 0.5)
    assert association(Sweep.of(runs, ["algorithm"], ["x"])).frame.empty
    assert association(Sweep.of(runs.assign(status="diverged"), ["algorithm"], ["x", "test/accuracy"])).frame.empty
    far = runs.assign(status=runs["status"].where(runs.index != 3, "diverged"), x=runs["x"].where(runs.index != 3, 1e9))
    pd.testing.assert_frame_equal(associated(far), associated(runs.drop(index=3)))
