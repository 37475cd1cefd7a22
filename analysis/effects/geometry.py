"""Whether a factor moves the encoding as a whole: one test of all internal metrics, beside the many of one metric each.

A permutational analysis of variance (Anderson 2001, Austral Ecol. 26) of the metrics' z-scores. A factor A is tested on
the means by seed and level, an interaction A:B on those by seed and cell, less the seed's means over each of the two.
With |·|² the sum of squares over all metrics,

    pseudo-F = (|A|² / df_A) / (|seed:A|² / df_seed:A)    R² = |A|² / (|A|² + |seed|² + |seed:A|²)

If A does nothing, the levels of a seed are exchangeable, so that p comes from exchanging the levels of A within each
seed; those of A and those of B, for their interaction. Runs are not exchanged: they share what the seed does to a
level, and about half of all sweeps without an effect would have a p below .05. Exchanging the levels of all seeds alike
changes nothing, so the first seed keeps its order. Up to ARRANGEMENTS arrangements are all taken; of more, DRAWS random
ones. Few seeds have few arrangements: `least_p` is the least p that they can give, and above
.05 they cannot tell.

The test also reacts to levels that differ in their spread, so distances to the level's centroid are given beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, permutations, product

import numpy as np
import pandas as pd

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.model.by_seed import BySeed, of_sweep
from creditlab.analysis.model.fits import Fits
from creditlab.analysis.model.permutation import p_value
from creditlab.analysis.model.questions import adjusted, question
from creditlab.analysis.names import ALPHA, BEHAVIOUR, family, many, some
from creditlab.analysis.table import once, stacked, statistic

QUESTION = "geometry"
ALL = "all internal metrics"
ARRANGEMENTS = 20_000  # that are taken one by one
DRAWS = 9_999


@statistic(
    "Geometry as a whole",
    "One row per set of internal metrics, and factor or interaction of two factors.",
    {
        "metrics": "all internal metrics, or those of one family",
        "term": "the factor or interaction",
        "n_metrics": "metrics with a value in all runs that take part",
        "n_seeds": "seeds that have a run in each cell",
        "df": "degrees of freedom of the term",
        "df_error": "degrees of freedom of its interaction with the seed",
        "F": "pseudo-F: mean square of the term over that of its interaction with the seed",
        "r_squared": "share of the squared distances among the means that the term accounts for",
        "p": "p by permutation within seeds, of this test alone",
        "least_p": "least p that so many seeds can give; above .05 they are too few to tell",
        "arrangements": "arrangements of the levels that were taken, the observed one included",
        "exact": "whether these are all arrangements",
        "p_adjusted": "p over all tests of the report; only of all internal metrics, where the seeds can tell",
        "narrowest": "level (or cell) whose seeds lie closest together",
        "narrowest_distance": ("mean distance of its seeds from their centroid", "standard deviations"),
        "widest": "level (or cell) whose seeds lie farthest apart",
        "widest_distance": ("mean distance of its seeds from their centroid", "standard deviations"),
    },
    place=125,
)
def geometry(fits: Fits) -> tuple[pd.DataFrame, list[str]]:
    """A permutational analysis of variance of all internal metrics, and of each family of them, by factor."""
    rows, notes = _tested(fits.sweep)
    p = rows["term"].map(adjusted(fits, QUESTION)).astype(float)
    return rows.assign(p_adjusted=p.where(rows["metrics"] == ALL))[list(geometry.columns)], notes


@question
def _question(fits: Fits) -> pd.DataFrame:
    """Whether a factor moves all internal metrics; without a p where seeds are too few to tell."""
    rows, _ = _tested(fits.sweep)
    rows = rows[(rows["metrics"] == ALL) & (rows["least_p"] <= ALPHA)]
    return pd.DataFrame({"metric": rows["term"], "p": rows["p"]}).assign(question=QUESTION)


@once
def _tested(sweep: Sweep) -> tuple[pd.DataFrame, list[str]]:
    """The rows of `geometry` but for p_adjusted, and the notes."""
    columns = [name for name in geometry.columns if name != "p_adjusted"]
    internal = [metric for metric in sweep.comparable if not metric.startswith(BEHAVIOUR)]
    if len(internal) < 2 or not sweep.factors or sweep.complete.empty:
        return pd.DataFrame(columns=columns), []
    means, notes = complete(of_sweep(sweep, internal))
    families: dict[str, list[str]] = {}
    for metric in means.metrics:
        families.setdefault(family(metric), []).append(metric)
    several = {name: members for name, members in families.items() if 1 < len(members) < len(means.metrics)}
    sets = {ALL: means.metrics} | several
    tables = []
    if len(means.seeds) > 1 and len(means.metrics) > 1:
        z = _scaled(means.values)
        for name, members in sets.items():
            chosen = z[..., np.isin(means.metrics, members)]
            tested = pd.DataFrame(terms(replace(means, metrics=members, values=chosen)))
            tables.append(tested.assign(metrics=name, n_metrics=len(members), n_seeds=len(means.seeds)))
    elif len(means.seeds) < 2:
        notes = ["no test of the geometry as a whole: fewer than two seeds have a run in each cell"]
    rows = stacked(tables, columns)
    few = rows.loc[(rows["metrics"] == ALL) & (rows["least_p"] > ALPHA), "term"].tolist()
    if few:
        seeds = many(len(means.seeds), "seed")
        notes.append(f"too few seeds to tell ({seeds} cannot give a p of at most {ALPHA}): {some(few)}")
    return rows, notes


def complete(means: BySeed) -> tuple[BySeed, list[str]]:
    """The seeds and metrics with a value in each cell, and what was left out.

    First a metric goes that at least half of the seeds lack in some cell (one of the levels does not have it), then
    each seed that still lacks a value, then each metric that does not vary.
    """
    cells = tuple(range(1, means.values.ndim - 1))
    finite = np.isfinite(means.values)
    seeds = finite.any(axis=-1).all(axis=cells)  # those with a run in each cell
    kept = finite.all(axis=cells)[seeds].sum(axis=0) > seeds.sum() / 2
    seeds &= finite[..., kept].all(axis=(*cells, -1))
    values = means.values[seeds][..., kept]
    flat = values.reshape(math.prod(values.shape[:-1]), values.shape[-1])
    varies = np.ptp(flat, axis=0) > 1e-12 * np.abs(flat).max(axis=0) if len(flat) else np.zeros(flat.shape[1], bool)
    names = np.array(means.metrics, dtype=object)
    notes = []
    for left_out, why in (
        (names[~kept].tolist() if seeds.any() else [], "metrics without a value in some cell"),
        (
            np.array(means.seeds, dtype=object)[~seeds].tolist() if seeds.any() else [],
            "seeds that lack a run or a value",
        ),
    ):
        if left_out:
            notes.append(f"left out of the geometry as a whole, {why}: {some(left_out, 4)}")
    whole = [name for name, kept_seed in zip(means.seeds, seeds, strict=True) if kept_seed]
    return BySeed(means.factors, means.levels, whole, names[kept][varies].tolist(), values[..., varies]), notes


def _scaled(values: np.ndarray) -> np.ndarray:
    """z-scores over all seeds and cells, metric by metric."""
    flat = values.reshape(-1, values.shape[-1])
    return (values - flat.mean(axis=0)) / flat.std(axis=0, ddof=1)


def terms(means: BySeed) -> Iterator[dict[str, object]]:
    """The columns of `geometry` from `term` on, for each factor and each pair of factors."""
    levels = dict(zip(means.factors, means.levels, strict=True))
    for factor in means.factors:
        yield _row(factor, levels[factor], means.means(factor), means.means(factor))
    for a, b in combinations(means.factors, 2):
        cells = means.means(a, b)
        left = cells - cells.mean(axis=1, keepdims=True) - cells.mean(axis=2, keepdims=True)
        names = [", ".join(pair) for pair in product(levels[a], levels[b])]
        yield _row(f"{a}:{b}", names, left + cells.mean(axis=(1, 2), keepdims=True), cells)


def _row(term: str, names: Sequence[str], points: np.ndarray, whole: np.ndarray) -> dict[str, object]:
    """A row from `points` (seeds, levels of each factor, metrics) that hold the term and its interaction with the
    seed, and `whole`, the means that these are part of."""
    shape, seeds = points.shape[1:-1], len(points)
    points = points.reshape(seeds, -1, points.shape[-1])
    centred = points - points.mean(axis=1, keepdims=True)
    centroid = centred.mean(axis=0)
    of_term, error = seeds * (centroid**2).sum(), ((centred - centroid) ** 2).sum()
    distances = (whole - whole.mean(axis=tuple(range(whole.ndim - 1)))) ** 2
    orders, exact, least = arrangements(shape, seeds)
    as_extreme = _as_extreme(centred, orders)
    df = math.prod(levels - 1 for levels in shape)
    from_centroid = np.sqrt(((centred - centroid) ** 2).sum(axis=-1)).mean(axis=0)
    near, far = int(from_centroid.argmin()), int(from_centroid.argmax())
    return {
        "term": term,
        "df": df,
        "df_error": df * (seeds - 1),
        "F": of_term / error * (seeds - 1) if error > 0 else np.inf,
        "r_squared": of_term / distances.sum(),
        "p": float(as_extreme.mean() if exact else p_value(as_extreme)),
        "least_p": least,
        "arrangements": len(orders) + (not exact),
        "exact": exact,
        "narrowest": names[near],
        "narrowest_distance": from_centroid[near],
        "widest": names[far],
        "widest_distance": from_centroid[far],
    }


def arrangements(shape: tuple[int, ...], seeds: int) -> tuple[np.ndarray, bool, float]:
    """Orders of the cells in each seed, (arrangements, seeds, cells), by exchanging the levels of each factor; whether
    these are all; and the least p that they can give. The first seed keeps its order.
    """
    count = math.prod(map(math.factorial, shape))
    count = 2 if shape == (2, 2) else count  # to exchange both factors' levels is to exchange none of their interaction
    cells = np.arange(math.prod(shape)).reshape(shape)
    if count ** (seeds - 1) <= ARRANGEMENTS:
        moves = [cells[np.ix_(*order)].ravel() for order in product(*(permutations(range(n)) for n in shape))]
        moves = moves[:count]
        chosen = np.indices((count,) * (seeds - 1)).reshape(seeds - 1, -1).T
        drawn = np.array(moves)[chosen]
    else:
        generator = np.random.default_rng(0)
        axes = [generator.permuted(np.tile(np.arange(n), (DRAWS, seeds - 1, 1)), axis=2) for n in shape]
        drawn = axes[0] if len(shape) == 1 else axes[0][..., :, None] * shape[1] + axes[1][..., None, :]
        drawn = drawn.reshape(DRAWS, seeds - 1, -1)
    first = np.broadcast_to(cells.ravel(), (len(drawn), 1, cells.size))
    exact = count ** (seeds - 1) <= ARRANGEMENTS
    least = 1 / min(count ** (seeds - 1), ARRANGEMENTS if exact else DRAWS + 1)
    return np.concatenate([first, drawn], axis=1), exact, least


def _as_extreme(centred: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Which `orders` (arrangements, seeds, cells) of `centred` (seeds, cells, metrics) give as great a |term|², hence
    as great an F, as the observed order does.

    |Σ_seeds z|² is a sum over pairs of seeds, so that the metrics enter by their inner products only.
    """
    seeds, cells, _ = centred.shape
    flat = centred.reshape(seeds * cells, -1)
    products = flat @ flat.T
    sums = np.zeros(len(orders))
    for s, t in combinations(range(seeds), 2):
        block = products[s * cells : (s + 1) * cells, t * cells : (t + 1) * cells]
        sums += np.take(block.ravel(), orders[:, s] * cells + orders[:, t]).sum(axis=1)
    blocks = (
        products[s * cells : (s + 1) * cells, t * cells : (t + 1) * cells] for s, t in combinations(range(seeds), 2)
    )
    observed = sum(np.trace(block) for block in blocks)
    return sums >= observed - 1e-9 * np.trace(products)
