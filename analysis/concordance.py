"""Do raters agree on which samples are hard? Kendall's W over per-sample loss.

A rater is a level of a factor (an algorithm, an optimiser, …); it ranks the test samples by their loss, averaged over
the runs of each seed and then over seeds. With m raters, n items, midranks, R_j the rank sum of item j and t the sizes
of the groups of ties in a rater:

    W = 12 S / (m²(n³ − n) − m T)    S = Σ_j (R_j − mean R)²    T = Σ (t³ − t)    χ² = m(n − 1) W, n − 1 df

(Kendall 1948; χ² is Friedman's.) Unrelated raters have an expected W of 1/m, not 0, so the mean Spearman correlation of
pairs of raters is given beside it, computed as such (without ties it is (mW − 1)/(m − 1)). The interval is a percentile
bootstrap over items.

*Noise ceiling*: the W to expect if the raters differed by their seeds alone. Within a rater, ρ is the mean Spearman
correlation between its S single seeds; an average over S seeds then correlates with another such average at
r = Sρ / (1 + (S − 1)ρ) (Spearman 1910, Brown 1910), and m raters reach W = (1 + (m − 1) r) / m, r averaged over the
raters with at least two seeds. Seeds shared between raters can lift W above it.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.collect import Sweep
from analysis.design import SEED, labels
from creditlab.records import Run

COLUMNS = [
    *["dataset", "raters", "n_raters", "n_items", "W", "chi2", "df", "p"],
    *["mean_spearman", "ci_low", "ci_high", "noise_ceiling"],
]
DRAWS = 200  # of the bootstrap
LEVEL = 0.95


@dataclass(frozen=True)
class Concordance:
    table: pd.DataFrame  # COLUMNS; a row for each data set and factor
    notes: list[str]


def _from_sums(deviations: np.ndarray, ties: np.ndarray, m: int, n: int) -> np.ndarray:
    """W from S = Σ(R − mean R)² and the T of all raters together. NaN where every rater ties every item."""
    below = m**2 * (n**3 - n) - m * np.asarray(ties, dtype=float)
    return np.divide(12 * deviations, below, out=np.full_like(below, np.nan), where=below > 0)


def kendall_w(scores: np.ndarray) -> float:
    """Kendall's coefficient of concordance, tie-corrected, in [0, 1]; NaN if every rater ties every item.

    `scores` is (raters, items), at least two of each.
    """
    m, n = scores.shape
    ranks = stats.rankdata(scores, axis=1)
    spread = ((ranks.sum(axis=0) - m * (n + 1) / 2) ** 2).sum()
    # Within a rater the ranks' squares fall short of those of 1 … n by Σ(t³ − t)/12.
    ties = m * n * (n + 1) * (2 * n + 1) * 2 - 12 * (ranks**2).sum()
    return float(_from_sums(spread, ties, m, n))


def mean_spearman(scores: np.ndarray) -> float:
    """The mean of the rank correlations of all pairs of raters, in [−1/(m−1), 1]; NaN if a rater ties every item.

    With z the ranks centred and of unit length, Σ over pairs of z_i·z_k = (|Σ_i z_i|² − m) / 2.
    """
    m, n = scores.shape
    centred = stats.rankdata(scores, axis=1) - (n + 1) / 2
    length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    if not length.all():
        return float("nan")
    return float((((centred / length).sum(axis=0) ** 2).sum() - m) / (m * (m - 1)))


def bootstrap_w(scores: np.ndarray, generator: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """W of `draws` resamples of the items, with replacement; shape (draws,).

    An item drawn w times is w tied items. So nothing is ranked anew: with C the running sum of w in a rater's order,
    the items tied at places lo … hi−1 become t = C[hi] − C[lo] tied items of midrank (C[lo] + C[hi] + 1)/2.
    """
    m, n = scores.shape
    order = np.argsort(scores, axis=1, kind="stable")
    hi = stats.rankdata(scores, method="max", axis=1).astype(np.intp)
    lo = stats.rankdata(scores, method="min", axis=1).astype(np.intp) - 1
    tied = (hi - lo > 1).any(axis=1)
    batch = 16  # small enough for a rater's running sums to stay in cache
    results = []
    for start in range(0, draws, batch):
        size = min(batch, draws - start)
        w = np.stack([np.bincount(generator.integers(n, size=n), minlength=n) for _ in range(size)], axis=1)
        w = w.astype(np.int32)  # (items, draws)
        running = np.zeros((n + 1, size), dtype=np.int32)
        twice = np.full((n, size), m, dtype=np.int64)  # 2 R
        ties = np.full(size, (~tied).sum()) * (w.astype(np.int64) ** 3 - w).sum(axis=0)
        for rater in range(m):
            np.cumsum(w[order[rater]], axis=0, out=running[1:])
            upper = running[hi[rater]]
            lower = running[lo[rater]] if tied[rater] else upper - w
            twice += upper
            twice += lower
            if tied[rater]:
                t = (upper - lower).astype(float)
                ties = ties + (w * (t**2 - 1)).sum(axis=0)
        spread = (w * (twice / 2 - m * (n + 1) / 2) ** 2).sum(axis=0)
        results.append(_from_sums(spread, ties, m, n))
    return np.concatenate(results)


def noise_ceiling(seeds: Sequence[np.ndarray]) -> float:
    """The W that raters would reach if they differed by their seeds alone. `seeds` has an array (seeds, items) a rater.

    NaN where no rater has two seeds.
    """
    reliability = []
    for scores in seeds:
        if len(scores) > 1:
            rho = max(mean_spearman(scores), 0.0)  # seeds that disagree more than by chance promise no agreement
            reliability.append(len(scores) * rho / (1 + (len(scores) - 1) * rho))
    m = len(seeds)
    return float((1 + (m - 1) * np.mean(reliability)) / m) if reliability else float("nan")


def _statistics(seeds: Sequence[np.ndarray], generator: np.random.Generator) -> dict[str, float]:
    """A row of the table from an array (seeds, items) a rater."""
    scores = np.stack([each.mean(axis=0) for each in seeds])
    m, n = scores.shape
    w = kendall_w(scores)
    chi2 = m * (n - 1) * w
    low, high = np.quantile(bootstrap_w(scores, generator), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {
        "n_raters": m,
        "n_items": n,
        "W": w,
        "chi2": chi2,
        "df": n - 1,
        "p": float(stats.chi2.sf(chi2, n - 1)),
        "mean_spearman": mean_spearman(scores),
        "ci_low": float(low),
        "ci_high": float(high),
        "noise_ceiling": noise_ceiling(seeds),
    }


def _seed_means(runs: pd.DataFrame, found: dict[str, Run], factors: Sequence[str], notes: list[str]) -> dict:
    """{factor: {level: {seed: mean loss by item}}} over `runs` of one data set, each read once; {} if they do not have
    the same test set. `notes` gets what was left out and why.
    """
    sums: dict[tuple[str, str, str], np.ndarray] = {}
    counts: Counter[tuple[str, str, str]] = Counter()
    unread, unbounded = [], []
    first: tuple[str, np.ndarray] | None = None
    words = labels(runs[[*factors, SEED]])
    for run, row in zip(runs["run"], words.to_dict("records"), strict=True):
        try:
            arrays = found[run].arrays()
            loss, label = arrays["test/loss"].astype(float), arrays["test/label"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            unread.append(f"{run} ({type(error).__name__}: {error})")
            continue
        if not np.isfinite(loss).all():
            unbounded.append(run)
            continue
        first = first or (run, label)
        if not np.array_equal(label, first[1]) or loss.shape != label.shape:
            notes.append(
                f"no concordance: {first[0]} and {run} have different test sets, whose items cannot be matched"
            )
            return {}
        for factor in factors:
            key = (factor, row[factor], row[SEED])
            sums[key] = sums[key] + loss if key in sums else loss
            counts[key] += 1
    for runs_out, why in ((unread, "no readable per-sample loss"), (unbounded, "a per-sample loss that is not finite")):
        if runs_out:
            more = f" and {len(runs_out) - 1} more" if runs_out[1:] else ""
            notes.append(f"left out, {why}: {runs_out[0]}{more}")
    means: dict[str, dict[str, dict[str, np.ndarray]]] = {factor: {} for factor in factors}
    for (factor, level, seed), total in sums.items():
        means[factor].setdefault(level, {})[seed] = total / counts[factor, level, seed]
    return means


def concordance(sweep: Sweep) -> Concordance:
    """W by data set over the levels of each factor, from the runs that are complete."""
    usable = sweep.usable
    found = {run.name: run for run in sweep.records}
    factors = [factor for factor in sweep.factors if factor != "dataset"]
    rows, notes = [], []
    for dataset, runs in usable.groupby("dataset"):
        said: list[str] = []
        diverged = int((runs["status"] != "complete").sum())
        if diverged:
            said.append(f"left out, diverged: {diverged}")
        means = _seed_means(runs[runs["status"] == "complete"], found, factors, said)
        for factor, levels in means.items():
            seeds = [np.stack(list(by_seed.values())) for by_seed in levels.values()]
            if len(seeds) < 2 or seeds[0].shape[1] < 2:
                said.append(f"{factor}: fewer than two raters or items, nothing to compare")
                continue
            # A generator of its own for each row, so that no row depends on which others there are.
            row = _statistics(seeds, np.random.default_rng(0))
            rows.append({"dataset": dataset, "raters": factor, **row})
            if np.isnan(row["noise_ceiling"]):
                said.append(f"{factor}: no rater has two seeds, so there is no noise ceiling")
        notes += [f"{dataset}: {note}" for note in said]
    return Concordance(pd.DataFrame(rows, columns=COLUMNS), notes)
