"""Which levels of a factor differ, and by how much: all pairs, on the one model.

Where the design is complete, a difference is taken seed by seed, and its error is that from seed to seed (Student's t;
nothing is assumed of the spread of levels). Else it is a contrast of the mixed model. Marginal pairs average the other
factors, each combination of their levels with the same weight. Where an interaction is shown, the pairs of each factor
within each level of the other stand beside them (simple effects).

Pairs are decided below the effect that they belong to: where that is shown, at its level, divided by the number of
pairs (Bonferroni). The interval is for that level, so that it excludes 0 exactly where p is at most the level. Where
the effect is not shown, no pair is; the interval is then that of the level which the pairs would have had.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.effects.anova import question_of
from creditlab.analysis.model.design import LEAST_SEEDS, Term, name_of
from creditlab.analysis.model.fits import Fit, Fits, within_options
from creditlab.analysis.model.questions import level_if_found, verdicts
from creditlab.analysis.model.scales import Scale
from creditlab.analysis.names import ALPHA
from creditlab.analysis.table import once, stacked, statistic

PAIR: dict[str, str | tuple[str, str]] = {
    "metric": "name of the metric",
    "factor": "the factor whose levels are compared",
    "at": "the level of another factor at which they are compared; empty where the other factors are averaged",
    "level_a": "one level",
    "level_b": "the other level",
    "mean_a": ("mean at level_a; the median where the scale is log or logit", "the metric's"),
    "mean_b": ("mean at level_b; the median where the scale is log or logit", "the metric's"),
    "difference": ("mean_a minus mean_b", "the metric's"),
    "ci_low": ("lower end of its interval, at the level of the test", "the metric's"),
    "ci_high": ("upper end of its interval, at the level of the test", "the metric's"),
    "estimate": ("the difference on the scale: of log odds, of logarithms, or the difference itself", "the scale's"),
    "error": ("its standard error", "the scale's"),
    "t": "estimate over its standard error",
    "df": "degrees of freedom",
    "p": "p of this pair alone",
    "p_adjusted": "p that accounts for all pairs of the effect and all tests of the report",
    "found": "whether the pair is shown to differ: p is at most the level",
    "level": "level at which the pair is decided; the interval's coverage is 1 − level",
    "seeds": "seeds that it rests on",
    "scale": "what is compared: the metric (identity), its logarithm (log) or its log odds (logit)",
}


VERDICT = ("ci_low", "ci_high", "p_adjusted", "found", "level")  # columns that depend on the tests of the report


@once
def pairs(fits: Fits) -> pd.DataFrame:
    """All pairs, marginal and within levels of another factor: the columns of PAIR but VERDICT, `term`, the effect that
    the pair belongs to, and `middle`, the mean of both levels on the scale."""
    tables = [table for fit in fits for table in _of_fit(fit)]
    for key, host, option, within in within_options(fits):
        for table in (
            table for fit in within for table in _pairs(fit, key, (), (), (key,)) if (key,) in fit.design.terms
        ):
            tables.append(table.assign(at=f"{host}={option}", term=f"{key} within {option}"))
    return stacked(tables, [*(c for c in PAIR if c not in VERDICT), "term", "middle"])


def _of_fit(fit: Fit) -> Iterator[pd.DataFrame]:
    terms = fit.design.terms
    for factor in fit.design.varying:
        if (factor,) not in terms:
            continue
        yield from _pairs(fit, factor, (), (), (factor,))
        for other in fit.design.varying:
            term = tuple(name for name in fit.design.varying if name in (factor, other))
            if other == factor or term not in terms:
                continue
            for level in range(len(fit.design.levels[fit.design.varying.index(other)])):
                yield from _pairs(fit, factor, (other,), (level,), term)


def _pairs(fit: Fit, factor: str, others: Sequence[str], at: Sequence[int], term: Term) -> Iterator[pd.DataFrame]:
    """A table for each pair of levels of `factor`, where the factors `others` have the levels `at`."""
    design = fit.design
    levels = design.levels[design.varying.index(factor)]
    words = [design.levels[design.varying.index(name)][number] for name, number in zip(others, at, strict=True)]
    weights = [design.level_weights((factor, *others), (i, *at)) for i in range(len(levels))]
    means = [fit.solved.mean(weight) for weight in weights]
    for a, b in combinations(range(len(levels)), 2):
        pair = fit.solved.estimate(weights[a] - weights[b])
        with np.errstate(divide="ignore", invalid="ignore"):  # seeds that do not differ: NaN
            t = np.where(pair.error > 0, pair.value / pair.error, np.nan)
        p = 2 * stats.t.sf(np.abs(t), pair.df)
        middle = (means[a] + means[b]) / 2
        in_units = [scale.difference(m, d) for scale, m, d in zip(fit.scales, middle, pair.value, strict=True)]
        yield pd.DataFrame(
            {
                "metric": fit.metrics,
                "factor": factor,
                "at": ", ".join(f"{name}={word}" for name, word in zip(others, words, strict=True)),
                "level_a": levels[a],
                "level_b": levels[b],
                "mean_a": [float(s.back(m)) for s, m in zip(fit.scales, means[a], strict=True)],
                "mean_b": [float(s.back(m)) for s, m in zip(fit.scales, means[b], strict=True)],
                "difference": np.array(in_units, dtype=float),
                "estimate": pair.value,
                "error": pair.error,
                "t": t,
                "df": pair.df,
                "p": np.where(pair.seeds >= LEAST_SEEDS, p, np.nan),
                "seeds": pair.seeds,
                "scale": [scale.kind for scale in fit.scales],
                "term": name_of(term),
                "middle": middle,
            }
        )


def decided(table: pd.DataFrame, fits: Fits, scale_of: Mapping[str, Scale]) -> pd.DataFrame:
    """The rows of `table` (columns of `pairs`, and `question`) that the effects which they belong to let appear, with
    VERDICT. `fits` are those whose report asks the questions.
    """
    effects = verdicts(fits).rename(columns={"found": "shown", "p_adjusted": "p_effect"})
    effects = effects[["question", "metric", "shown", "level", "p_effect"]]
    table = table.merge(effects, on=["question", "metric"], how="left")
    table["shown"] = table["shown"].eq(True)
    table = table[(table["at"] == "") | table["shown"]].reset_index(drop=True)
    number = table.groupby(["question", "metric"])["p"].transform("size")
    table["level"] = table["level"].fillna(table["question"].map(level_if_found(fits))).astype(float) / number
    table["p_adjusted"] = (table["p"] / table["level"] * ALPHA).clip(upper=1)
    table["p_adjusted"] = table[["p_adjusted", "p_effect"]].max(axis=1, skipna=False)
    table["found"] = table["shown"] & (table["p"] <= table["level"])
    half = stats.t.isf(table["level"] / 2, table["df"]) * table["error"]
    for column, end in (("ci_low", table["estimate"] - half), ("ci_high", table["estimate"] + half)):
        rows = zip(table["metric"], table["middle"], end, strict=True)
        table[column] = [float(scale_of[metric].difference(middle, value)) for metric, middle, value in rows]
    return table


@statistic("Pairwise comparisons", "One row per metric, factor and pair of levels.", PAIR, place=90)
def posthoc(fits: Fits) -> pd.DataFrame:
    """Differences between the levels of each factor, and within the levels of another where an interaction is shown."""
    table = pairs(fits)
    if table.empty:
        return posthoc.empty()
    outcome = fits.sweep.outcome
    questions = [question_of(t, m, outcome) for t, m in zip(table["term"], table["metric"], strict=True)]
    return decided(table.assign(question=questions), fits, fits.scale_of)[list(posthoc.columns)]
