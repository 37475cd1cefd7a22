"""What goes with what: each metric with an outcome (test accuracy), by three numbers that answer three questions.

*Within cells*: do runs of the same levels that differ from each other in one also differ in the other? Cell means, seed
means and the means of each seed at each level (and pair of levels, where there are three factors) are removed from
both, so that only the residual stratum of the analysis of variance is left. With ν residual degrees of freedom

    r = Σxy / √(Σx² Σy²)    t = r √(df / (1 − r²)), df = ν − 1    interval tanh(artanh r ± 1.96 / √(df − 1))

Where runs are missing, x and y are the residuals of the least-squares fit of the same terms. *Between cells*: the r of
the cell means. It has no p: cells are few, and nobody drew them. *Effects of a factor*: the r of what its levels do to
both (their marginal means; for two factors, their interaction). It describes, and has no p either. A factor that moves
both makes the last two large and leaves the first one alone. No r shows a cause.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.model.fits import Fits
from creditlab.analysis.model.questions import adjusted, question
from creditlab.analysis.names import LEVEL, SEED, coded, labels, outcome_of
from creditlab.analysis.table import once, stacked, statistic

QUESTION = "association within cells"
WITHIN = "within cells"
BETWEEN = "between cells"
ORDER = 2  # factors in the largest interaction with the seed that is removed
ROUNDING = 1e-12  # of the largest value


@statistic(
    "Association with accuracy",
    "One row per metric and question: within cells, between cells, and the effects of each factor.",
    {
        "outcome": "what the metric is associated with",
        "metric": "name of the metric",
        "scope": "within cells, between cells, or the effects of a factor or of an interaction",
        "n": "runs within cells; cells between cells; levels, or cells, of the effects",
        "df": "degrees of freedom of the residual stratum less one; only within cells",
        "r": "Pearson's r, in [−1, 1]",
        "ci_low": "lower end of its interval; only within cells",
        "ci_high": "upper end of its interval; only within cells",
        "t": "r √(df / (1 − r²)); only within cells",
        "p": "p of this test alone; only within cells",
        "p_adjusted": "p over all tests of the report; only within cells",
    },
    place=150,
)
def association(fits: Fits) -> pd.DataFrame:
    """r of each metric with the outcome within cells, between them, and of the effects of each factor."""
    rows = _associated(fits.sweep)
    p = rows["metric"].map(adjusted(fits, QUESTION)).astype(float)
    return rows.assign(p_adjusted=p.where(rows["scope"] == WITHIN))[list(association.columns)]


@question
def _question(fits: Fits) -> pd.DataFrame:
    """Whether a metric goes with the outcome within cells."""
    rows = _associated(fits.sweep)
    return rows.loc[rows["scope"] == WITHIN, ["metric", "p"]].assign(question=QUESTION)


@once
def _associated(sweep: Sweep) -> pd.DataFrame:
    """The rows of `association` but for p_adjusted."""
    columns = [name for name in association.columns if name != "p_adjusted"]
    outcome, runs = sweep.outcome or outcome_of(sweep.metrics), sweep.complete
    words = labels(runs[[*sweep.factors, SEED]])
    factors = [factor for factor in sweep.factors if len(set(words[factor])) > 1]
    metrics = [metric for metric in sweep.comparable if metric != outcome]
    if outcome is None or not factors or not metrics:
        return pd.DataFrame(columns=columns)
    points = runs[[outcome, *metrics]].astype(float).groupby([words[name] for name in (*factors, SEED)]).mean()
    settings, values = points.index.to_frame(index=False), points.to_numpy()
    present = np.isfinite(values[:, 1:]) & np.isfinite(values[:, :1])
    groups: dict[bytes, list[int]] = {}  # metrics with a value at the same points
    for index in range(len(metrics)):
        groups.setdefault(present[:, index].tobytes(), []).append(index)
    tables = []
    for members in groups.values():
        kept = present[:, members[0]]
        if kept.sum() > 1:
            of_members = values[kept][:, [0, *(1 + index for index in members)]]
            for place, row in enumerate(_scopes(settings[kept], of_members, factors)):
                tables.append(
                    pd.DataFrame(row).assign(metric=[metrics[i] for i in members], index=members, place=place)
                )
    rows = stacked(tables, [*(name for name in columns if name != "outcome"), "index", "place"])
    rows = rows.assign(outcome=outcome).sort_values(["index", "place"], ignore_index=True)
    return rows[columns]


def _scopes(settings: pd.DataFrame, values: np.ndarray, factors: Sequence[str]) -> Iterator[dict]:
    """The columns of each scope, from `values` (points, outcome and metrics)."""
    codes = np.stack([coded(settings[name])[0] for name in (*factors, SEED)], axis=1)
    residuals, n, df = residual_stratum(codes, values)
    yield {"scope": WITHIN, "n": n, **within(residuals[:, 1:], residuals[:, :1], df)}
    none = dict.fromkeys(("ci_low", "ci_high", "t", "p", "df"), np.nan)
    cells, cell = np.unique(codes[:, :-1], axis=0, return_inverse=True)
    sums = np.zeros((len(cells), values.shape[1]))
    np.add.at(sums, cell.ravel(), values)
    means = sums / np.bincount(cell.ravel())[:, None]
    centred = means - means.mean(axis=0)
    yield {"scope": BETWEEN, "n": len(cells), "r": r_of(centred, means, len(cells) - 1), **none}
    shape = codes[:, :-1].max(axis=0) + 1
    if len(cells) < np.prod(shape):
        return  # marginal means need every cell
    grid = means.reshape(*shape, -1)
    for size in range(1, min(ORDER, len(factors)) + 1):
        for term in combinations(range(len(factors)), size):
            effects = grid.mean(axis=tuple(axis for axis in range(len(factors)) if axis not in term))
            for axis in range(size):
                effects = effects - effects.mean(axis=axis, keepdims=True)
            free = int(np.prod([shape[axis] - 1 for axis in term]))
            flat = effects.reshape(-1, effects.shape[-1])
            name = ":".join(factors[axis] for axis in term)
            yield {"scope": f"effects of {name}", "n": len(flat), "r": r_of(flat, means, free), **none}


def r_of(centred: np.ndarray, values: np.ndarray, df: int) -> np.ndarray:
    """r of the first column of `centred` with each other one. NaN with fewer than two degrees of freedom, where r can
    only be ±1, and where a column varies no more than rounding lets `values` vary.
    """
    x, y = centred[:, 1:], centred[:, :1]
    if not len(centred):
        return np.full(x.shape[1], np.nan)
    length = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    least = ROUNDING * np.sqrt(len(centred)) * np.abs(values).max(axis=0)
    varies = (np.sqrt((centred**2).sum(axis=0)) > least) & (df > 1)
    r = np.divide((x * y).sum(axis=0), length, out=np.full(x.shape[1], np.nan), where=varies[1:] & varies[0])
    return r.clip(-1, 1)


def within(x: np.ndarray, y: np.ndarray, df: int) -> dict[str, np.ndarray | float]:
    """r, interval, t and p of the residuals `x` (points, metrics) with `y` (points, 1); `df` residual degrees of
    freedom."""
    both = np.hstack([y, x])
    r = r_of(both, np.ones_like(both), df)
    free = df - 1
    with np.errstate(divide="ignore"):
        t = r * np.sqrt(free / (1 - r**2))
    wide = stats.norm.ppf((1 + LEVEL) / 2) / np.sqrt(free - 1) if free > 1 else np.inf
    z = np.arctanh(r.clip(-1 + 1e-15, 1 - 1e-15))
    p = 2 * stats.t.sf(np.abs(t), free)
    return {"df": float(free), "r": r, "ci_low": np.tanh(z - wide), "ci_high": np.tanh(z + wide), "t": t, "p": p}


def residual_stratum(codes: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, int, int]:
    """What is left of `values` (points, metrics) after the means of cells, seeds and seeds at each level; how many
    points take part; and its degrees of freedom.

    `codes` (points, factors and seed) number the levels. A term that would leave nothing is not removed: with one
    factor, a seed's run at a level is what is left. Where seeds have (almost) no two cells in common, one point per
    seed is taken, and only cell means are removed: seeds are then replicates.
    """
    count = np.bincount(codes[:, -1])
    crossed = codes[count[codes[:, -1]] > 1], values[count[codes[:, -1]] > 1]
    first = np.unique(codes[:, -1], return_index=True)[1]
    alone = codes[first], values[first]
    factors = codes.shape[1] - 1
    cell = tuple(range(factors))
    sizes = range(min(ORDER, factors - 1) + 1)
    terms = [(*term, factors) for size in sizes for term in combinations(cell, size)]
    residuals, df = _residuals(*crossed, [cell, *terms])
    alone_df = len(first) - len(np.unique(alone[0][:, :-1], axis=0))
    if alone_df > 2 * df:
        residuals, df = _residuals(*alone, [cell])
    return residuals, len(residuals), df


def _residuals(codes: np.ndarray, values: np.ndarray, terms: Sequence[tuple[int, ...]]) -> tuple[np.ndarray, int]:
    """The least-squares residuals of `values` on `terms`, the first of which is the cell, and their degrees of freedom.

    Where all of them would leave nothing, on the first and on each further one that leaves something.
    """
    if not len(codes):
        return values, 0
    scale = np.abs(values).max(axis=0)
    residual = values / np.where(scale > 0, scale, 1)
    shape = tuple(codes.max(axis=0) + 1)
    if len(codes) == np.prod(shape) and len(terms) > 1:
        return _complete(codes, residual, terms, shape)
    blocks = [_indicators(codes, axes) for axes in terms]
    rank = _rank(blocks)
    if rank == len(codes):
        kept = blocks[:1]
        for block in blocks[1:]:
            kept += [block] if _rank([*kept, block]) < len(codes) else []
        blocks, rank = kept, _rank(kept)
    x = np.hstack(blocks)
    inverse = np.linalg.pinv(x.T @ x, hermitian=True)
    residual = residual - residual.mean(axis=0)
    for _ in range(2):  # the second time removes what rounding left of the first
        residual = residual - x @ (inverse @ (x.T @ residual))
    return residual, len(codes) - rank


def _complete(
    codes: np.ndarray, values: np.ndarray, terms: Sequence[tuple[int, ...]], shape: tuple[int, ...]
) -> tuple[np.ndarray, int]:
    """The same where each seed has each cell: means are removed one after the other."""
    order = np.lexsort(codes.T[::-1])
    residual = values[order].reshape(*shape, -1)
    residual = residual - residual.mean(axis=-2, keepdims=True)
    df = len(codes) - len(codes) // shape[-1]
    for axes in terms[1:]:
        columns = int(np.prod([shape[axis] - 1 for axis in axes]))
        if columns < df:
            others = tuple(axis for axis in range(len(shape)) if axis not in axes)
            residual = residual - residual.mean(axis=others, keepdims=True)
            df -= columns
    return residual.reshape(values.shape)[np.argsort(order)], df


def _indicators(codes: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The column of each combination of the levels of `axes`, (points, combinations)."""
    group = np.unique(codes[:, axes], axis=0, return_inverse=True)[1].ravel()
    return np.eye(group.max() + 1)[group]


def _rank(blocks: Sequence[np.ndarray]) -> int:
    """The rank of all columns of `blocks`: that of X'X, whose entries are whole numbers, so that it is clear-cut."""
    x = np.hstack(blocks)
    return int(np.linalg.matrix_rank(x.T @ x, hermitian=True))
