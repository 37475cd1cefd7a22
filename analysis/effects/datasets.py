"""What holds of other data sets: levels compared over data sets that are a random sample of those one could take.

Data sets that were chosen and named are a factor like any other, and nothing is said of others. Where the user says
that they are a sample (`random`), the data set is what is independent: seeds and the other factors are averaged in each
data set, and levels are ranked in it. Friedman's test asks whether the mean ranks R of the k levels differ over N data
sets; Nemenyi's compares each pair (Demšar 2006, J. Mach. Learn. Res. 7):

    z = |R_i − R_j| / √(k(k + 1) / 6N), and √2 z is a studentised range of k means with infinite degrees of freedom

With two levels it is Wilcoxon's signed-rank test. Below LEAST data sets there are estimates and no test.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.model.fits import Fits
from creditlab.analysis.model.questions import adjusted, question
from creditlab.analysis.model.studentised_range import range_sf
from creditlab.analysis.names import AnalysisError, labels, level_order, many
from creditlab.analysis.table import once, statistic

LEAST = 6  # data sets, below which nothing is said of others
INFINITE = 1e9  # degrees of freedom


@statistic(
    "Comparison over data sets",
    "One row per metric, factor and pair of levels, where data sets are said to be a random sample.",
    {
        "metric": "name of the metric",
        "factor": "the factor whose levels are compared",
        "level_a": "one level",
        "level_b": "the other level",
        "n_datasets": "data sets with a value at each level of the factor",
        "test": "Friedman's with Nemenyi's comparison, or Wilcoxon's for two levels",
        "statistic": "Friedman's χ², or Wilcoxon's W, of all levels",
        "p_levels": "p that no level differs, of this test alone",
        "p_levels_adjusted": "that p over all tests of the report",
        "rank_a": "mean rank of level_a; 1 is the least value",
        "rank_b": "mean rank of level_b",
        "p": "p of this pair, over all pairs of the factor",
        "difference": ("mean over data sets of level_a minus level_b", "the metric's"),
        "lowest": ("the least such difference of a data set", "the metric's"),
        "highest": ("the greatest such difference of a data set", "the metric's"),
    },
    place=145,
)
def datasets(fits: Fits, random: str | None = None) -> tuple[pd.DataFrame, list[str]]:
    """The levels of each factor compared over the levels of the factor `random`, by default that of the sweep.

    Raises AnalysisError where `random` is no factor of the sweep.
    """
    over = fits.sweep.random if random is None else random
    rows = _compared(fits.sweep, over)
    tests = {f: adjusted(fits, _asked(f, over)) for f in rows["factor"].unique()} if random is None else {}
    pairs = zip(rows["factor"], rows["metric"], rows["p_levels"], strict=True)
    p = [tests[f].get(metric, np.nan) if tests else alone for f, metric, alone in pairs]
    rows = rows.assign(p_levels_adjusted=np.array(p, float))[list(datasets.columns)]
    n = int(rows["n_datasets"].max()) if len(rows) else LEAST
    few = f"{many(n, 'level')} of {over}: estimates that say nothing of others (at least {LEAST} are needed)"
    return rows, [few] if n < LEAST else []


@question
def _question(fits: Fits) -> pd.DataFrame:
    """Whether a factor changes a metric over data sets: one question for each factor; none where they are fixed."""
    over = fits.sweep.random
    rows = _compared(fits.sweep, over).drop_duplicates(["metric", "factor"])
    asked = [_asked(factor, over) for factor in rows["factor"]]
    return pd.DataFrame({"question": asked, "metric": rows["metric"], "p": rows["p_levels"]})


def _asked(factor: str, over: str) -> str:
    return f"{factor} over {over}"


@once
def _compared(sweep: Sweep, over: str) -> pd.DataFrame:
    """The rows of `datasets` but for p_levels_adjusted."""
    columns = [name for name in datasets.columns if name != "p_levels_adjusted"]
    if over and over not in sweep.factors:
        raise AnalysisError(
            f"{over!r} is no factor of this sweep, so its levels are no sample. Factors: {sweep.factors}."
        )
    if not over or sweep.complete.empty:
        return pd.DataFrame(columns=columns)
    runs, words = sweep.complete, labels(sweep.complete[sweep.factors])
    values = runs[sweep.comparable].astype(float)
    rows = []
    for factor in (f for f in sweep.factors if f != over):
        others = [f for f in sweep.factors if f not in (over, factor)]
        means = values.groupby([words[name] for name in (over, factor, *others)]).mean()
        levels = sorted(set(words[factor]), key=level_order)
        for metric in sweep.comparable:
            cells = means.pivot_table(metric, over, [factor, *others]).dropna()  # data sets with each cell of any
            table = cells.T.groupby(level=factor).mean().T
            if table.shape[1] > 1 and len(table) > 1:
                present = [level for level in levels if level in table]
                rows += [{"metric": metric, "factor": factor, **row} for row in _pairs(table[present])]
    place = {metric: i for i, metric in enumerate(sweep.outcomes)}
    table = pd.DataFrame(rows, columns=columns)
    return table.sort_values("metric", key=lambda names: names.map(place), kind="stable", ignore_index=True)


def _pairs(table: pd.DataFrame) -> Iterator[dict[str, object]]:
    """The columns from `level_a` on, of each pair of levels, from a `table` of data sets by levels."""
    n, k = table.shape
    ranks = stats.rankdata(table.to_numpy(), axis=1)
    mean = ranks.mean(axis=0)
    about = {"n_datasets": n, "test": "Friedman" if k > 2 else "Wilcoxon", "statistic": np.nan, "p_levels": np.nan}
    p = np.full((k, k), np.nan)
    if n >= LEAST:
        about |= dict(zip(("statistic", "p_levels"), _all_levels(table.to_numpy(), ranks), strict=True))
        z = np.abs(mean[:, None] - mean) / np.sqrt(k * (k + 1) / (6 * n))
        p = range_sf(np.sqrt(2) * z, k, np.full_like(z, INFINITE)) if k > 2 else np.full((2, 2), about["p_levels"])
    for a, b in combinations(range(k), 2):
        gap = table.iloc[:, a] - table.iloc[:, b]
        yield {
            "level_a": table.columns[a],
            "level_b": table.columns[b],
            **about,
            "rank_a": mean[a],
            "rank_b": mean[b],
            "p": float(p[a, b]),
            "difference": gap.mean(),
            "lowest": gap.min(),
            "highest": gap.max(),
        }


def _all_levels(values: np.ndarray, ranks: np.ndarray) -> tuple[float, float]:
    """Friedman's χ², corrected for ties, and its p, from `values` (data sets, levels); of two levels Wilcoxon's W."""
    n, k = values.shape
    if k == 2:
        if (values[:, 0] == values[:, 1]).all():
            return 0.0, 1.0
        result = stats.wilcoxon(values[:, 0], values[:, 1])
        return float(result.statistic), float(result.pvalue)
    spread = (n * (ranks.mean(axis=0) - (k + 1) / 2) ** 2).sum() * n
    within = ((ranks - (k + 1) / 2) ** 2).sum() / (k - 1)  # n k (k + 1) / 12 without ties
    chi2 = float(spread / within) if within > 0 else 0.0
    return chi2, float(stats.chi2.sf(chi2, k - 1))
