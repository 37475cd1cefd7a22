"""What each factor does to each metric: F tests of the one model, with effect sizes and their intervals.

    partial η² = SS / (SS + SS_error)        partial ω² = df (F − 1) / (df (F − 1) + n)
    generalised η² = SS / (SS + squares within cells)

Each effect is tested against its own variation from seed to seed (see `model`). n is the number of means that the
effect rests on (seeds × levels). η² overstates a share, most of all with few seeds; ω² does not. The interval of ω²
comes from the noncentral F distribution of the test: λ / (λ + n). Generalised η² (Olejnik & Algina 2003) can be
compared between studies with other designs; it needs a complete design.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pandas as pd
from scipy import special

from creditlab.analysis.model.design import Term, name_of
from creditlab.analysis.model.fits import Fit, Fits, Model, within_options
from creditlab.analysis.model.questions import question, verdicts
from creditlab.analysis.model.strata import Strata
from creditlab.analysis.names import BEHAVIOUR, LEVEL, many, some
from creditlab.analysis.table import once, statistic

MODELS = 8  # that the notes name
BISECTIONS = 60
LARGEST = 1e6  # noncentrality: of more, the share is 1 to all digits that anyone reads


def question_of(term: str, metric: str, outcome: str | None) -> str:
    """The question that the F test of a term for a metric belongs to: one each for the outcome, for the rest of what is
    learned and for how it is encoded."""
    if metric == outcome:
        return f"{term}: {metric}"
    return f"{term}: {'what is learned' if metric.startswith(BEHAVIOUR) else 'how it is encoded'}"


@once
def tests(fits: Fits) -> pd.DataFrame:
    """One row per metric and term: the columns of `anova` but for the verdicts, and the question."""
    outcome = fits.sweep.outcome
    tables = [_of_term(fit, term, name_of(term)) for fit in fits for term in fit.design.terms]
    for key, _, option, within in within_options(fits):
        tables += [
            _of_term(fit, term, f"{name_of(term)} within {option}")
            for fit in within
            for term in fit.design.terms
            if key in term
        ]
    if not tables:
        return pd.DataFrame(columns=["question", *anova.columns])
    table = pd.concat(tables, ignore_index=True)
    table["question"] = [question_of(t, m, outcome) for t, m in zip(table["term"], table["metric"], strict=True)]
    position = {metric: i for i, metric in enumerate(fits.sweep.outcomes)}
    return table.sort_values("metric", key=lambda names: names.map(position), kind="stable", ignore_index=True)


@question
def terms(fits: Fits) -> pd.DataFrame:
    """Does a factor, or a combination of factors, change the metrics?"""
    return tests(fits)[["question", "metric", "p"]]


def _of_term(fit: Fit, term: Term, name: str) -> pd.DataFrame:
    test = fit.tests[term]
    f = np.where(np.isnan(test.p), np.nan, test.f)  # too few seeds for a verdict have no interval either
    low, high = omega_interval(f, test.df1, test.df2, test.units)
    solved = fit.solved
    cells = solved.cell_squares if isinstance(solved, Strata) else np.full(len(test.f), np.nan)
    return pd.DataFrame(
        {
            "metric": fit.metrics,
            "term": name,
            "F": test.f,
            "df": test.df1,
            "df_error": test.df2,
            "epsilon": test.epsilon,
            "p": test.p,
            "omega_sq": test.omega_sq,
            "omega_sq_low": low,
            "omega_sq_high": high,
            "partial_eta_sq": test.partial_eta_sq,
            "generalised_eta_sq": test.sum_sq / (test.sum_sq + cells),
            "sum_sq": test.sum_sq,
            "error_sq": test.error_sq,
            "n": len(fit.values),
            "seeds": fit.design.n_seeds,
            "scale": [scale.kind for scale in fit.scales],
            "model": "error strata" if fit.design.complete else "mixed model",
        }
    )


@statistic(
    "Analysis of variance",
    "One row per metric and term.",
    {
        "metric": "name of the metric",
        "term": "factor, or combination of factors; `KEY within OPTION` of a key that only this option has",
        "F": "F of the effect against its own variation from seed to seed",
        "df": "degrees of freedom of the effect, times epsilon",
        "df_error": "degrees of freedom of its error, times epsilon",
        "epsilon": "Huynh and Feldt's correction for levels that differ in spread; 1 where they do not",
        "p": "p of the F test; empty with fewer than three seeds",
        "p_adjusted": "p that accounts for all tests of the report",
        "found": "whether the effect is shown: p_adjusted is at most .05",
        "omega_sq": "partial ω²: share of what the effect and its error have together, corrected for chance",
        "omega_sq_low": "lower end of its interval of 95 %",
        "omega_sq_high": "upper end of its interval of 95 %",
        "partial_eta_sq": "partial η²: the same share, not corrected",
        "generalised_eta_sq": "generalised η²: share of the effect and of all variation within cells",
        "sum_sq": ("sum of squares of the effect; empty for a mixed model", "the scale's unit squared"),
        "error_sq": ("sum of squares of its error; empty for a mixed model", "the scale's unit squared"),
        "n": "runs",
        "seeds": "seeds",
        "scale": "what is compared: the metric (identity), its logarithm (log) or its log odds (logit)",
        "model": "error strata where every seed has every combination of levels, else mixed model",
    },
    place=20,
)
def anova(fits: Fits) -> tuple[pd.DataFrame, list[str]]:
    """F tests and effect sizes of all terms and metrics. The notes say what was fitted, what was left out and why."""
    table = tests(fits)
    if table.empty:
        return anova.empty(), _notes(fits)
    answers = verdicts(fits)[["question", "metric", "p_adjusted", "found"]]
    table = table.merge(answers, on=["question", "metric"], how="left", validate="one_to_one")
    table["found"] = table["found"].eq(True)
    return table[list(anova.columns)], _notes(fits)


def omega_interval(f: np.ndarray, df1: np.ndarray, df2: np.ndarray, units: int) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the interval of the population's partial ω², from the noncentral F distribution."""
    tail = (1 - LEVEL) / 2
    low, high = (noncentrality(f, df1, df2, at) for at in (1 - tail, tail))
    return low / (low + units), high / (high + units)


def noncentrality(f: np.ndarray, df1: np.ndarray, df2: np.ndarray, probability: float) -> np.ndarray:
    """λ for which noncentral F(λ) lies below `f` with `probability`; between 0 and LARGEST. Elementwise."""
    f, df1, df2 = np.broadcast_arrays(np.asarray(f, float), np.asarray(df1, float), np.asarray(df2, float))
    least = np.zeros_like(f)
    most = np.minimum(4 * (f * df1 + df1 + 10), LARGEST)
    for _ in range(BISECTIONS):
        short = (special.ncfdtr(df1, df2, most, f) > probability) & (most < LARGEST)
        if not short.any():
            break
        most = np.where(short, np.minimum(2 * most, LARGEST), most)
    for _ in range(BISECTIONS):
        middle = (least + most) / 2
        below = special.ncfdtr(df1, df2, middle, f) > probability  # falls with λ
        least, most = np.where(below, middle, least), np.where(below, most, middle)
    return np.where(np.isfinite(f), (least + most) / 2, np.nan)


def _notes(fits: Fits) -> list[str]:
    """What was fitted, what was left out and why."""
    lines = []
    for fit in fits.models[:MODELS]:
        lines += [_sentence(fit.model, alone=len(fits.models) == 1), *(f"  {note}" for note in fit.model.notes)]
    if len(fits.models) > MODELS:
        lines.append(f"… and {len(fits.models) - MODELS} more models, in analysis.json")
    if fits.models:
        lines.append("p_adjusted accounts for all tests of the report: the false discovery rate is 5 % over the whole.")
    metrics = defaultdict(list)
    for metric, reason in fits.untested.items():
        metrics[reason].append(metric)
    return lines + [f"Not tested, {reason}: {some(names)}" for reason, names in metrics.items()]


def _sentence(model: Model, alone: bool) -> str:
    """A model in words."""
    metrics = "" if alone else f" for {many(len(model.metrics), 'metric')} ({some(model.metrics, 3)})"
    left_out = ", ".join(f"{n} {status}" for status, n in model.left_out.items())
    scales = defaultdict(list)
    for metric, kind in model.scales.items():
        scales[kind].append(metric)
    compared = "".join(f"; {some(names, 3)} on the {kind} scale" for kind, names in scales.items())
    return (
        f"Model{metrics}: {' + '.join(model.terms)}; {many(model.n, 'run')} of {many(model.seeds, 'seed')}"
        f"{f' (left out, diverged or no finite value: {left_out})' if left_out else ''}; {model.tested}{compared}."
    )
