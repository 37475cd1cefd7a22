"""Kendall's coefficient of concordance W: its value, interval, permutation test and noise ceiling.

With m raters, n items, midranks, R_j the rank sum of item j and t the sizes of the groups of ties in a rater:

    W = 12 S / (m²(n³ − n) − m T)    S = Σ_j (R_j − mean R)²    T = Σ (t³ − t)
    χ² = m(n − 1) W, n − 1 df    F = (m − 1) W / (1 − W), ν₁ = n − 1 − 2/m and ν₂ = (m − 1) ν₁ df

(Kendall 1948; χ² is Friedman's; F, better for few raters, Kendall & Babington Smith 1939, Legendre 2005, JABES 10.)
The permutation p shuffles the items within each rater, 999 times, less often (not below 99) where raters × items are
many. Unrelated raters have an expected W of 1/m, not 0: that is the *floor*, and the mean Spearman correlation of
pairs of raters is given beside it, computed as such (without ties it is (mW − 1)/(m − 1)). The interval takes its
spread from a bootstrap over items, on Fisher's scale z = artanh((mW − 1)/(m − 1)), on which the spread hardly depends
on W; the percentiles themselves cover a little less than they say.

Pairs of classes are no independent items: a class that is hard is mistaken for many (permuting pairs, p of unrelated
raters was below 0.05 in 12 of 100). So of confusion, classes are what is drawn: the permutation relabels the classes of
each rater, the interval comes from the jackknife over classes, and χ² and F have no p.

*Noise ceiling*: the W to expect if the raters differed by their seeds alone. Within a rater, ρ is the mean Spearman
correlation between its S single seeds; an average over S seeds then correlates with another such average at
r = Sρ / (1 + (S − 1)ρ) (Spearman 1910, Brown 1910), and m raters reach W = (1 + (m − 1) r) / m, r averaged over the
raters with at least two seeds. Seeds shared between raters can lift W above it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from creditlab.analysis.model.jackknife import reach
from creditlab.analysis.model.permutation import p_value
from creditlab.analysis.names import LEVEL

DRAWS = 200  # of the bootstrap
PERMUTED = 20_000_000  # ranks, at most, if 99 permutations allow


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


def interval(scores: np.ndarray, generator: np.random.Generator) -> tuple[float, float]:
    """The ends of the interval of W over items, from `scores` (raters, items)."""
    m, n = scores.shape
    correlation = (m * np.array([kendall_w(scores), *bootstrap_w(scores, generator)]) - 1) / (m - 1)
    z = np.arctanh(correlation.clip(-1 + 1e-12, 1 - 1e-12))
    half = stats.norm.ppf((1 + LEVEL) / 2) * z[1:].std() * np.sqrt(n / max(n - 3, 1))
    return _from_fisher(z[0], half, m)


def interval_over_classes(scores: np.ndarray, pairs: np.ndarray) -> tuple[float, float]:
    """The ends of the interval of W over classes, from `scores` (raters, items) of the `pairs` (items, 2) of classes.

    NaN of fewer than four classes.
    """
    m, classes = len(scores), np.unique(pairs)
    if len(classes) < 4:
        return float("nan"), float("nan")
    kept = [(pairs != c).all(axis=1) for c in classes]
    w = np.array([kendall_w(scores), *(kendall_w(scores[:, rows]) for rows in kept)])
    z = np.arctanh(((m * w - 1) / (m - 1)).clip(-1 + 1e-12, 1 - 1e-12))
    return _from_fisher(z[0], float(reach(z[1:], len(classes))), m)


def _from_fisher(z: float, half: float, m: int) -> tuple[float, float]:
    """The ends of an interval of W of m raters from that on Fisher's scale, z ± half."""
    low, high = (1 + (m - 1) * np.tanh([z - half, z + half])) / m
    return max(float(low), 0.0), float(high)


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


def permutation_p(scores: np.ndarray, generator: np.random.Generator, pairs: np.ndarray | None = None) -> float:
    """How often raters (raters, items) that rank the items independently agree as much, in (0, 1]; where items are
    `pairs` (items, 2) of classes, raters that take the classes for others independently."""
    ranks = stats.rankdata(scores, axis=1)
    count = int(np.clip(PERMUTED // ranks.size, 99, 999))
    if pairs is not None:
        place = np.unique(pairs, return_inverse=True)[1].reshape(pairs.shape)
        item = np.zeros((place.max() + 1, place.max() + 1), dtype=np.intp)
        item[place[:, 0], place[:, 1]] = np.arange(len(place))

    def drawn() -> np.ndarray:
        if pairs is None:
            return generator.permuted(ranks, axis=1)
        new = generator.permuted(np.tile(np.arange(len(item)), (len(ranks), 1)), axis=1)
        return np.take_along_axis(ranks, item[new[:, place[:, 0]], new[:, place[:, 1]]], axis=1)

    # The ties of each rater stay, so W is as large where the rank sums' squares are.
    squares = np.array([(drawn().sum(axis=0) ** 2).sum() for _ in range(count)])
    return float(p_value(squares >= (ranks.sum(axis=0) ** 2).sum() * (1 - 1e-12)))
