"""What goes with what: each metric with an outcome (test accuracy), across runs.

Pearson's r of a metric with an outcome, in scopes that answer different questions. Across all runs r is large as soon
as algorithms differ in both, which says nothing about the runs of one algorithm. *Within* takes each level's means away
first; *between* is of the means of levels, of which there are few.

Runs of one seed share their start, and runs of one level share its effect: they are no independent points (taken as
such, p of unrelated metrics is below 0.05 in up to one of four). Across and within, levels are what they are and seeds
are drawn: the spread of z = artanh r is that of the jackknife over seeds, and interval and p are Student's t of z over
it with one degree of freedom less than there are seeds. They need three seeds. Between levels it is Fisher's z of
means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.names import LEVEL, SEED, coded, labels
from creditlab.analysis.table import stacked, statistic

OUTCOME = "test/accuracy"
ROUNDING = 1e-15


@statistic(
    "Association with accuracy",
    "One row per metric and scope: across runs, within and between levels. Intervals need three seeds.",
    {
        "factor": "the factor whose levels make the scopes",
        "outcome": "what the metric is associated with",
        "metric": "name of the metric",
        "scope": "across all runs, within levels (pooled, and of each), or between levels",
        "n": "runs; levels, in the scope between levels",
        "r": "Pearson's r, in [−1, 1]",
        "ci_low": "lower end of its interval",
        "ci_high": "upper end of its interval",
        "p": "its p, not adjusted",
        "spearman": "Spearman's ρ, in [−1, 1]",
    },
    place=150,
)
def association(sweep: Sweep) -> pd.DataFrame:
    """r of each metric with OUTCOME, by each factor: across all runs, within its levels and between them."""
    factors = sweep.factors if OUTCOME in sweep.metrics else []
    return stacked([_of_factor(sweep, factor) for factor in factors], list(association.columns))


def _of_factor(sweep: Sweep, factor: str) -> pd.DataFrame:
    runs, metrics = sweep.complete, [metric for metric in sweep.outcomes if metric != OUTCOME]
    words = labels(runs[[factor, SEED]])
    y, values = runs[[OUTCOME]].to_numpy(float), runs[metrics].to_numpy(float)
    present = np.isfinite(values) & np.isfinite(y)
    groups: dict[bytes, list[int]] = {}  # metrics with a value for the same runs
    for index in range(len(metrics)):
        groups.setdefault(present[:, index].tobytes(), []).append(index)
    tables = []
    for members in groups.values():
        kept = present[:, members[0]]
        if not kept.any():
            continue
        level, names = coded(words.loc[kept, factor])
        seed = coded(words.loc[kept, SEED])[0]
        for table in _scopes(values[np.ix_(kept, members)], y[kept], factor, level, names, seed):
            tables.append(table.assign(metric=[metrics[i] for i in members], index=members))
    if not tables:
        return association.empty()
    table = pd.concat(tables, ignore_index=True).sort_values(["index", "place"], ignore_index=True)
    return table.assign(factor=factor, outcome=OUTCOME)


def _centred(values: np.ndarray, level: np.ndarray) -> np.ndarray:
    """`values` (n, metrics) less the means of their level (n,), numbered from 0."""
    sums = np.zeros((level.max() + 1, values.shape[1]))
    np.add.at(sums, level, values)
    return values - (sums / np.bincount(level)[:, None])[level]


def _r(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """r of the columns of `x` (n, metrics) with `y` (n, 1), both centred; NaN where one does not vary."""
    length = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    least = 1e-12 * np.maximum(np.abs(x).max(axis=0), np.abs(y).max(axis=0)).clip(min=1e-300)
    return np.divide((x * y).sum(axis=0), length, out=np.full(x.shape[1], np.nan), where=length > least).clip(-1, 1)


def fisher(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """r of the columns of `x` (n, metrics) with `y` (n, 1), the ends of its interval and p, of n independent points."""
    n = len(x)
    r = _r(x - x.mean(axis=0), y - y.mean(axis=0)) if n > 2 else np.full(x.shape[1], np.nan)
    t = r * np.sqrt((n - 2) / (1 - r**2).clip(min=1e-300))
    wide = stats.norm.ppf((1 + LEVEL) / 2) / np.sqrt(n - 3) if n > 3 else np.inf
    z = np.arctanh(r.clip(-1 + ROUNDING, 1 - ROUNDING))
    return r, np.tanh(z - wide), np.tanh(z + wide), 2 * stats.t.sf(np.abs(t), n - 2)


def over_seeds(x: np.ndarray, y: np.ndarray, level: np.ndarray, seed: np.ndarray) -> tuple[np.ndarray, ...]:
    """The same within `level`, with seeds as what is independent; both (n,), numbered from 0.

    Without a seed's runs, of which level l has n_l,s with the sums x_l,s and y_l,s of centred values,
        Σxy becomes Σxy − Σ_s xy − Σ_l x_l,s y_l,s / (n_l − n_l,s).
    """
    x, y = _centred(x, level), _centred(y, level)
    seeds, none = seed.max() + 1, np.full(x.shape[1], np.nan)
    r = _r(x, y) if len(x) - level.max() > 2 else none
    if seeds < 3:
        return r, none, none, none
    cells, cell = np.unique(np.stack([seed, level], axis=1), axis=0, return_inverse=True)
    order = np.argsort(cell.ravel(), kind="stable")
    counts = np.bincount(cell.ravel())
    left = np.bincount(level)[cells[:, 1]] - counts
    weight = np.divide(1, left, out=np.zeros(len(left)), where=left > 0)[:, None]
    first = np.searchsorted(cells[:, 0], np.arange(seeds))

    def without(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Σab within levels of all runs but a seed's, (seeds, metrics)."""
        whole, mine, yours = (np.add.reduceat(v[order], np.cumsum(counts) - counts) for v in (a * b, a, b))
        return (a * b).sum(axis=0) - np.add.reduceat(whole + weight * mine * yours, first)

    with np.errstate(invalid="ignore", divide="ignore"):  # what no longer varies without a seed: NaN
        parts = without(x, y) / np.sqrt(without(x, x).clip(min=0) * without(y, y).clip(min=0))
        z, parts = (np.arctanh(each.clip(-1 + ROUNDING, 1 - ROUNDING)) for each in (r, parts))
        error = np.sqrt((seeds - 1) * parts.var(axis=0))
        wide = stats.t.ppf((1 + LEVEL) / 2, seeds - 1) * error
        return r, np.tanh(z - wide), np.tanh(z + wide), 2 * stats.t.sf(np.abs(z) / error, seeds - 1)


def _scopes(
    x: np.ndarray, y: np.ndarray, factor: str, level: np.ndarray, names: Sequence[str], seed: np.ndarray
) -> Iterator[pd.DataFrame]:
    """One table per scope with one row per metric, of runs that all have a value."""
    one = np.zeros(len(x), int)  # a single level
    means = [np.stack([v[level == i].mean(0) for i in range(len(names))]) for v in (x, y)]
    scopes: list[tuple] = [("across all runs", x, y, over_seeds(x, y, one, seed))]
    scopes += [(f"within {factor}", _centred(x, level), _centred(y, level), over_seeds(x, y, level, seed))]
    scopes += [(f"between {factor}", *means, fisher(*means))]
    for i, name in enumerate(names):
        rows = level == i
        seeds = np.unique(seed[rows], return_inverse=True)[1].ravel()
        scopes.append((f"within {factor}={name}", x[rows], y[rows], over_seeds(x[rows], y[rows], one[rows], seeds)))
    for place, (scope, a, b, (r, low, high, p)) in enumerate(scopes):
        ranks = (stats.rankdata(v, axis=0) - (len(a) + 1) / 2 for v in (a, b))
        columns = {"n": len(a), "r": r, "ci_low": low, "ci_high": high, "p": p, "spearman": _r(*ranks)}
        yield pd.DataFrame(columns).assign(scope=scope, place=place)
