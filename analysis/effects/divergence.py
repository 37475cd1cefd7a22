"""Runs that diverged, as an outcome of their own: how many, at which level, and what follows if they count as worst.

The *rate* of a level or a cell is x of n runs, with Clopper & Pearson's interval (1934). Two levels are compared over
pairs of runs that agree in seed and all other factors: McNemar's exact test asks whether those in which only the one
diverged are as many as those in which only the other did.

Means are over the runs that finished, which flatters a level that loses its worst runs. So each pair of levels is also
compared by *worst rank*: in a pair of runs, the run that diverged is behind the one that finished, and of two that
finished the one with the better outcome is ahead. A level is ahead in a seed where it is ahead in more of its pairs,
and the sign test asks whether seeds favour one level. With S seeds its least p is 2/2^S. Where the mean over survivors
and the worst rank point to different levels, neither is the winner.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.model.fits import Fits
from creditlab.analysis.model.intervals import half_width
from creditlab.analysis.model.questions import adjusted, pair_name, question
from creditlab.analysis.names import LEVEL, SEED, labels, level_order, lower_is_better
from creditlab.analysis.table import once, stacked, statistic

QUESTION = "divergence"


@statistic(
    "Runs that diverged",
    "One row per level of each factor, and per cell. Without a run that diverged there is no row.",
    {
        "term": "the factor; all factors, for a cell",
        "level": "level, or the levels of the cell",
        "diverged": "runs that diverged",
        "n": "runs that finished or diverged",
        "rate": "share of runs that diverged",
        "low": "lower end of its interval",
        "high": "upper end of its interval",
    },
    place=84,
)
def divergence(sweep: Sweep) -> pd.DataFrame:
    """How many runs of each level and of each cell diverged."""
    runs = sweep.usable
    if not (runs["status"] == "diverged").any() or not sweep.factors:
        return divergence.empty()
    words = labels(runs[sweep.factors])
    varying = [factor for factor in sweep.factors if len(set(words[factor])) > 1]
    groups = [[factor] for factor in varying] + ([varying] if len(varying) > 1 else [])
    tables = []
    for names in groups:
        lost = (runs["status"] == "diverged").groupby([words[name] for name in names]).agg(["sum", "size"])
        cells = [(index,) if isinstance(index, str) else tuple(map(str, index)) for index in lost.index]
        counts = dict(zip(cells, lost.to_numpy().tolist(), strict=True))
        for cell in sorted(cells, key=lambda levels: list(map(level_order, levels))):
            x, n = counts[cell]
            tables.append((":".join(names), ", ".join(cell), x, n, x / n, *clopper_pearson(x, n)))
    return pd.DataFrame(tables, columns=list(divergence.columns))


@statistic(
    "Runs that diverged, by pair of levels",
    "One row per factor and pair of levels of which one has a run that diverged.",
    {
        "factor": "the factor whose levels are compared",
        "level_a": "one level",
        "level_b": "the other level",
        "n_pairs": "pairs of runs that agree in seed and all other factors",
        "only_a": "pairs in which only the run at level_a diverged",
        "only_b": "pairs in which only the run at level_b diverged",
        "both": "pairs in which both runs diverged",
        "p": "p of McNemar's exact test of equal rates",
        "p_adjusted": "that p over all tests of the report",
        "outcome": "the metric by which runs that finished are compared",
        "n_seeds": "seeds with a pair in which both runs finished",
        "difference": ("mean at level_a minus mean at level_b among pairs that finished", "the metric's"),
        "ci_low": ("lower end of its interval over seeds", "the metric's"),
        "ci_high": ("upper end of its interval over seeds", "the metric's"),
        "seeds_a": "seeds in which level_a is ahead by worst rank",
        "seeds_b": "seeds in which level_b is ahead by worst rank",
        "p_worst_rank": "p of the sign test over these seeds",
        "least_p": "least p that so many seeds can give",
        "ahead": "the level that is ahead both among survivors and by worst rank; empty where they disagree",
    },
    place=86,
)
def divergence_pairs(fits: Fits) -> pd.DataFrame:
    """The levels of each factor compared by how many of their runs diverged, and by worst rank."""
    rows = _compared(fits.sweep)
    p = pair_name(rows).map(adjusted(fits, QUESTION)).astype(float)
    return rows.assign(p_adjusted=p)[list(divergence_pairs.columns)]


@question
def _question(fits: Fits) -> pd.DataFrame:
    """Whether two levels diverge at different rates."""
    rows = _compared(fits.sweep)
    return pd.DataFrame({"metric": pair_name(rows), "p": rows["p"]}).assign(question=QUESTION)


def clopper_pearson(x: int, n: int) -> tuple[float, float]:
    """The ends of the exact interval of a share, x of n."""
    low = stats.beta.ppf((1 - LEVEL) / 2, x, n - x + 1) if x else 0.0
    high = stats.beta.ppf((1 + LEVEL) / 2, x + 1, n - x) if x < n else 1.0
    return float(low), float(high)


def sign_test(first: int, second: int) -> float:
    """p of as uneven a split between two sides that are equally likely; 1 without any."""
    total = first + second
    return float(stats.binomtest(first, total, 0.5).pvalue) if total else 1.0


@once
def _compared(sweep: Sweep) -> pd.DataFrame:
    """The rows of `divergence_pairs` but for p_adjusted."""
    columns = [name for name in divergence_pairs.columns if name != "p_adjusted"]
    runs, outcome = sweep.usable, sweep.outcome
    if not (runs["status"] == "diverged").any():
        return pd.DataFrame(columns=columns)
    words = labels(runs[[*sweep.factors, SEED]])
    lost = runs["status"] == "diverged"
    score = runs[outcome].astype(float) if outcome else pd.Series(np.nan, runs.index)
    lower = outcome is not None and lower_is_better(outcome)
    score = -score if lower else score
    table = words.assign(lost=lost.astype(float), score=score.where(~lost))
    tables = [pd.DataFrame(_pairs(table, factor, sweep.factors)) for factor in sweep.factors]
    rows = stacked([each.assign(outcome=outcome or "") for each in tables], columns)
    if lower:
        ends = rows[["difference", "ci_high", "ci_low"]].to_numpy(float)
        rows[["difference", "ci_low", "ci_high"]] = -ends
    return rows


def _pairs(table: pd.DataFrame, factor: str, factors: list[str]) -> Iterator[dict[str, object]]:
    """The columns of each pair of levels of `factor`, from a `table` with one row per run: its factors, its seed,
    whether it was lost, and its score, of which more is better. A cell is lost where all its runs are."""
    others = [name for name in factors if name != factor]
    cells = table.groupby([factor, SEED, *others]).agg({"lost": "min", "score": "mean"})
    cells["lost"] = cells["lost"] == 1
    levels = sorted(set(table[factor]), key=level_order)
    for a, b in combinations(levels, 2):
        first, second = cells.loc[a].align(cells.loc[b], join="inner", axis=0)
        if not len(first) or not (first["lost"] | second["lost"]).any():
            continue
        only_a, only_b = int((first["lost"] & ~second["lost"]).sum()), int((~first["lost"] & second["lost"]).sum())
        gap = first["score"] - second["score"]
        by_seed = gap.groupby(level=SEED).mean().dropna()
        mean, half = by_seed.mean(), half_width(by_seed.std(), len(by_seed)) if len(by_seed) > 1 else np.nan
        ahead = np.sign(gap).where(gap.notna(), second["lost"].astype(float) - first["lost"].astype(float))
        seeds = np.sign(ahead.groupby(level=SEED).sum())
        seeds_a, seeds_b = int((seeds > 0).sum()), int((seeds < 0).sum())
        sides = {(1, 1): a, (-1, -1): b, (1, None): a, (-1, None): b}
        winner = (int(np.sign(seeds_a - seeds_b)), None if np.isnan(mean) else int(np.sign(mean)))
        yield {
            "factor": factor,
            "level_a": a,
            "level_b": b,
            "n_pairs": len(first),
            "only_a": only_a,
            "only_b": only_b,
            "both": int((first["lost"] & second["lost"]).sum()),
            "p": sign_test(only_a, only_b),
            "n_seeds": len(by_seed),
            "difference": mean,
            "ci_low": mean - half,
            "ci_high": mean + half,
            "seeds_a": seeds_a,
            "seeds_b": seeds_b,
            "p_worst_rank": sign_test(seeds_a, seeds_b),
            "least_p": min(1.0, 2.0 ** (1 - seeds_a - seeds_b)),
            "ahead": sides.get(winner, ""),
        }
