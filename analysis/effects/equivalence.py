"""Is it the same? Levels that differ by no more than a margin, which is a claim that needs a test of its own.

With d_s the difference between two levels for seed s (mean over the other factors), S seeds and the margin δ:

    margin in the metric's unit     equivalent if the 90 % interval of Student's t lies within ±δ: two one-sided tests
                                    (Schuirmann 1987); p is the larger of theirs
    margin of k standard            equivalent if |t| < √F⁻¹(.05; 1, S − 1, S k²), with t = d̄ √S / sd(d)
    deviations over seeds           (Wellek 2010, Testing statistical hypotheses of equivalence, ch. 5)

The margin must be named before looking. Levels *differ* where `posthoc` finds that they do. There are four outcomes:
*differ*, *equivalent within the margin*, *differ, by less than the margin*, *undecided*. A difference that is not shown
is undecided, never the same.

*The same geometry* means that each metric of a list is equivalent (intersection-union test, Berger 1982): its p is the
largest of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.posthoc import posthoc
from creditlab.analysis.model.by_seed import of_sweep
from creditlab.analysis.model.fits import Fits
from creditlab.analysis.model.questions import adjusted, pair_name, question
from creditlab.analysis.names import ALPHA, BEHAVIOUR, AnalysisError, some
from creditlab.analysis.table import once, stacked, statistic

QUESTION, SAME = "equivalence", "the same geometry"
UNDECIDED, DIFFER, EQUIVALENT = "undecided", "differ", "equivalent within the margin"
BY_LESS = "differ, by less than the margin"
PAIR = {
    "factor": "the factor whose levels are compared",
    "level_a": "one level",
    "level_b": "the other level",
}


@statistic(
    "Equivalence within a margin",
    "One row per metric with a margin, factor and pair of levels. Without a margin there is no row.",
    {
        "metric": "name of the metric",
        **PAIR,
        "n": "seeds that both levels share",
        "margin": ("the difference that does not matter", "the metric's"),
        "by": "what the margin is: of the metric's unit, or so many standard deviations over seeds",
        "difference": ("mean at level_a minus mean at level_b", "the metric's"),
        "low": ("lower end of its 90 % interval", "the metric's"),
        "high": ("upper end of its 90 % interval", "the metric's"),
        "t": "difference over its standard error",
        "df": "degrees of freedom",
        "p": "p of equivalence, of this test alone",
        "p_adjusted": "p of equivalence over all tests of the report",
        "differs": "whether the pair is shown to differ, from `posthoc`",
        "outcome": "differ; equivalent within the margin; differ, by less than the margin; or undecided",
    },
    place=92,
)
def equivalence(fits: Fits, margin: Mapping[str, float] | None = None, spread: float | None = None) -> pd.DataFrame:
    """Each pair of levels that share at least two seeds, for each metric that a pattern of `margin` matches.

    `margin` gives the difference that does not matter by pattern of metrics ({"test/accuracy": 0.01}), in the metric's
    unit; by default the margins of the sweep. `spread` gives it in standard deviations over seeds, for all metrics that
    no pattern matches. Raises AnalysisError for a margin that is not above 0 and for a pattern that no metric matches.
    """
    asked = margin is None and spread is None
    rows = _tested(fits.sweep, fits.sweep.margins if margin is None else margin, spread)
    p = name_of(rows).map(adjusted(fits, QUESTION)) if asked else rows["p"]  # what the user asks aside stands alone
    different = posthoc(fits).frame.query("at == '' and found")
    shown = set(different[["metric", *PAIR]].itertuples(index=False, name=None))
    differs = [pair in shown for pair in rows[["metric", *PAIR]].itertuples(index=False, name=None)]
    rows = rows.assign(p_adjusted=p.astype(float), differs=np.array(differs, bool))
    return rows.assign(outcome=_outcome(rows))[list(equivalence.columns)]


@statistic(
    "The same geometry",
    "One row per factor and pair of levels: whether all internal metrics with a margin are equivalent.",
    {
        **PAIR,
        "n_metrics": "internal metrics with a margin",
        "n_equivalent": "those that are equivalent within their margin, each at 5 %",
        "p": "p that all are: the largest of theirs",
        "p_adjusted": "that p over all tests of the report",
        "same": "whether all are equivalent",
        "not_equivalent": "those that are not shown to be, the first few",
    },
    place=94,
)
def same_geometry(fits: Fits, margin: Mapping[str, float] | None = None, spread: float | None = None) -> pd.DataFrame:
    """Whether levels have the same geometry; the arguments are those of `equivalence`."""
    asked = margin is None and spread is None
    rows = _together(_tested(fits.sweep, fits.sweep.margins if margin is None else margin, spread))
    p = (pair_name(rows).map(adjusted(fits, SAME)) if asked else rows["p"]).astype(float)
    return rows.assign(p_adjusted=p, same=p <= ALPHA)[list(same_geometry.columns)]


def _together(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `same_geometry` but for p_adjusted and same, from those of `_tested`."""
    internal = rows[~rows["metric"].astype(str).str.startswith(BEHAVIOUR)]
    result = []
    for pair, of_pair in internal.groupby(list(PAIR), sort=False):
        missing = of_pair.loc[~(of_pair["p"] <= ALPHA), "metric"].tolist()
        counts = (len(of_pair), len(of_pair) - len(missing))
        result.append((*pair, *counts, of_pair["p"].max(skipna=False), some(missing, 4)))
    return pd.DataFrame(result, columns=[*PAIR, "n_metrics", "n_equivalent", "p", "not_equivalent"])


@question
def _question(fits: Fits) -> pd.DataFrame:
    """Whether levels are equivalent, metric by metric and in all; no test where the sweep has no margins."""
    rows = _tested(fits.sweep, fits.sweep.margins, None)
    together = _together(rows)
    by_metric = pd.DataFrame({"metric": name_of(rows), "p": rows["p"]}).assign(question=QUESTION)
    in_all = pd.DataFrame({"metric": pair_name(together), "p": together["p"]}).assign(question=SAME)
    return pd.concat([by_metric, in_all], ignore_index=True)


def name_of(rows: pd.DataFrame) -> pd.Series:
    """What a test of `equivalence` is called in the tree of questions: the metric, and the levels that are compared."""
    return rows["metric"].astype(str) + ": " + pair_name(rows)


def margins_of(metrics: list[str], margin: Mapping[str, float], spread: float | None) -> dict[str, tuple[float, bool]]:
    """{metric: its margin, and whether that is in standard deviations}; the first pattern that matches counts."""
    for name, value in (*margin.items(), *([] if spread is None else [("spread", spread)])):
        if not (isinstance(value, int | float) and np.isfinite(value) and value > 0):
            raise AnalysisError(
                f"the margin of {name} is {value!r}. A margin is a number above 0, in the metric's unit."
            )
    for pattern in margin:
        if not any(fnmatchcase(metric, pattern) for metric in metrics):
            raise AnalysisError(
                f"no metric matches {pattern!r}, for which a margin is given. There are: {some(metrics)}."
            )
    chosen = {}
    for metric in metrics:
        values = [(float(value), False) for pattern, value in margin.items() if fnmatchcase(metric, pattern)]
        values += [] if spread is None else [(float(spread), True)]
        if values:
            chosen[metric] = values[0]
    return chosen


@once
def _tested(sweep: Sweep, margin: Mapping[str, float], spread: float | None) -> pd.DataFrame:
    """The rows of `equivalence` but for p_adjusted, differs and outcome."""
    columns = [name for name in equivalence.columns if name not in ("p_adjusted", "differs", "outcome")]
    chosen = margins_of(sweep.comparable, margin, spread)
    if not chosen or sweep.complete.empty:
        return pd.DataFrame(columns=columns)
    largest = sweep.complete[list(chosen)].astype(float).abs().max()
    for metric, (value, of_spread) in chosen.items():
        if not of_spread and value >= largest[metric]:
            raise AnalysisError(
                f"the margin of {metric} is {value:g}, and no value exceeds {largest[metric]:g}. A margin is in the "
                "metric's unit: one point of accuracy is 0.01."
            )
    means = of_sweep(sweep, list(chosen))
    size, standardised = (np.array(each) for each in zip(*chosen.values(), strict=True))
    tables = []
    for factor in means.factors:
        pairs = [
            pd.DataFrame(_pair(d, size, standardised)).assign(metric=means.metrics, level_a=a, level_b=b)
            for a, b, d in means.differences(factor)
        ]
        if pairs:
            rows = pd.concat(pairs, ignore_index=True).assign(factor=factor)
            tables.append(rows[rows["n"] > 1])
    rows = stacked(tables, columns)
    place = {metric: i for i, metric in enumerate(sweep.outcomes)}
    return rows.sort_values("metric", key=lambda names: names.map(place), kind="stable", ignore_index=True)


def _pair(differences: np.ndarray, size: np.ndarray, standardised: np.ndarray) -> dict[str, np.ndarray]:
    """The tests of one pair of levels from `differences` (seeds, metrics), with the margin of each metric."""
    n = np.isfinite(differences).sum(axis=0)
    mean, sd = mean_and_sd(differences)
    df = n - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        error = sd / np.sqrt(n)
        t = mean / error
        wide = stats.t.ppf(1 - ALPHA, df) * error
        p = stats.t.cdf((np.abs(mean) - size) / error, df)
    chosen = np.flatnonzero(standardised & (n > 1))
    p[chosen] = stats.ncf.cdf(t[chosen] ** 2, 1, df[chosen], n[chosen] * size[chosen] ** 2)
    return {
        "n": n,
        "margin": np.where(standardised, size * sd, size),
        "by": np.where(standardised, "standard deviations over seeds", "the metric's unit"),
        "difference": mean,
        "low": mean - wide,
        "high": mean + wide,
        "t": t,
        "df": df,
        "p": p,
    }


def mean_and_sd(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the standard deviation of the finite values of each column; NaN of fewer than two."""
    frame = pd.DataFrame(values)
    return frame.mean().to_numpy(), frame.std().to_numpy()


def _outcome(rows: pd.DataFrame) -> np.ndarray:
    """The outcome of each row, from p_adjusted and differs."""
    equivalent, differs = rows["p_adjusted"].astype(float) <= ALPHA, rows["differs"].astype(bool)
    return np.select([equivalent & differs, equivalent, differs], [BY_LESS, EQUIVALENT, DIFFER], UNDECIDED)
