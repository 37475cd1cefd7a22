"""What each factor does to each metric: analysis of variance with effect sizes and their intervals.

    η² = SS / SS_total    partial η² = SS / (SS + SS_residual)    ω² = (SS − df MS_residual) / (SS_total + MS_residual)

Sums of squares are those of `fits`; SS_total is the corrected total, which the effects of an unbalanced design need not
add up to. p is that of the F test, adjusted by Holm within a family: all tests of one term, one per metric.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.model.fits import Fit, Fits, Model, name_of
from creditlab.analysis.model.multiplicity import holm
from creditlab.analysis.model.shares import intervals
from creditlab.analysis.names import RESIDUAL, SEED, many, some
from creditlab.analysis.table import statistic

SHARE = "share of the total sum of squares"
MODELS = 8  # that the notes name


@statistic(
    "Analysis of variance",
    "One row per metric and term; the residual is the last term of each metric.",
    {
        "metric": "name of the metric",
        "term": "factor, interaction of factors, or the seed",
        "sum_sq": ("sum of squares", "the metric's unit squared"),
        "df": "degrees of freedom",
        "F": "mean square over that of the residual",
        "p": "p of the F test",
        "p_adjusted": "p adjusted by Holm over all tests of this term",
        "eta_sq": f"η²: {SHARE}",
        "partial_eta_sq": "partial η²: share of what this term and the residual have together",
        "omega_sq": "ω²: η² corrected for chance, negative where chance explains more",
        "n": "runs",
        "eta_sq_low": "lower end of the interval of η²",
        "eta_sq_high": "upper end of the interval of η²",
        "partial_eta_sq_low": "lower end of the interval of partial η²",
        "partial_eta_sq_high": "upper end of the interval of partial η²",
        "omega_sq_low": "lower end of the interval of ω²",
        "omega_sq_high": "upper end of the interval of ω²",
    },
    place=20,
)
def anova(fits: Fits) -> tuple[pd.DataFrame, list[str]]:
    """F tests and effect sizes of all terms and metrics. The notes say what was fitted, what was left out and why."""
    if not fits.models:
        return anova.empty(), _notes(fits, {})
    table = pd.concat(map(_tabulate, fits), ignore_index=True)
    table["p_adjusted"] = np.nan
    for _, p in table[table["term"] != RESIDUAL].groupby("term", sort=False)["p"]:
        table.loc[p.index, "p_adjusted"] = holm(p.to_numpy())
    position = {metric: i for i, metric in enumerate(fits.sweep.outcomes)}
    table = table.sort_values("metric", key=lambda names: names.map(position), kind="stable", ignore_index=True)
    return table[list(anova.columns)], _notes(fits, families(table))


def families(table: pd.DataFrame) -> dict[str, int]:
    """{term: number of tests that Holm's correction is over} of a table of `anova`."""
    tests = table[table["term"] != RESIDUAL]
    return {str(term): int(size) for term, size in tests.groupby("term", sort=False).size().items()}


def _tabulate(fit: Fit) -> pd.DataFrame:
    """The rows of a fit, by metric and term."""
    design, values, sums, residuals = fit.design, fit.values, fit.sums, fit.residuals
    df = np.array([design.df(term) for term in design.terms])
    residual = (residuals**2).sum(axis=0)
    total = ((values - values.mean(axis=0)) ** 2).sum(axis=0)
    mean_square = residual / design.residual_df
    f = sums / df[:, None] / mean_square
    kurtosis = stats.kurtosis(residuals, axis=0, bias=False).clip(min=0)
    shares, partial = intervals(sums, df, residual, design.residual_df, total, kurtosis)
    none = np.full((1, len(fit.metrics)), np.nan)
    columns = {
        "sum_sq": [sums, residual[None]],
        "df": [np.broadcast_to(df[:, None], sums.shape), np.full_like(none, design.residual_df)],
        "F": [f, none],
        "p": [stats.f.sf(f, df[:, None], design.residual_df), none],
        "eta_sq": [sums / total, residual[None] / total],
        "partial_eta_sq": [sums / (sums + residual), none],
        "omega_sq": [(sums - df[:, None] * mean_square) / (total + mean_square), none],
    }
    for effect, ends in (("eta_sq", shares), ("partial_eta_sq", partial), ("omega_sq", shares)):
        columns |= {f"{effect}_low": [ends[0], none], f"{effect}_high": [ends[1], none]}
    table = pd.DataFrame({key: np.concatenate(parts).T.ravel() for key, parts in columns.items()})
    terms = [*map(name_of, design.terms), RESIDUAL]
    table["metric"] = np.repeat(np.array(fit.metrics, dtype=object), len(terms))
    table["term"] = np.tile(np.array(terms, dtype=object), len(fit.metrics))
    table["n"] = len(values)
    return table.astype({"df": int})


def _notes(fits: Fits, families: Mapping[str, int]) -> list[str]:
    """What was fitted, what was left out and why."""
    lines = []
    for fit in fits.models[:MODELS]:
        lines += [_sentence(fit.model, alone=len(fits.models) == 1), *(f"  {note}" for note in fit.notes)]
    if len(fits.models) > MODELS:
        lines.append(f"… and {len(fits.models) - MODELS} more models, in analysis.json")
    if families:
        sizes = ", ".join(f"{term} {size}" for term, size in families.items())
        lines.append(f"p: F test, Holm's adjustment over all tests of one term ({sizes}). η²: share of the total SS.")
    metrics = defaultdict(list)
    for metric, reason in fits.untested.items():
        metrics[reason].append(metric)
    return lines + [f"Not tested, {reason}: {some(names)}" for reason, names in metrics.items()]


def _sentence(model: Model, alone: bool) -> str:
    """A model in words."""
    metrics = "" if alone else f" for {many(len(model.metrics), 'metric')} ({some(model.metrics, 3)})"
    left_out = ", ".join(f"{n} {status}" for status, n in model.left_out.items())
    terms = " + ".join(f"{term} (block)" if term == SEED else term for term in model.terms)
    squares = "balanced, so that the sums of squares of types I, II and III agree"
    return (
        f"Model{metrics}: {terms}; n = {many(model.n, 'run')}"
        f"{f' (left out, diverged or no finite value: {left_out})' if left_out else ''}; "
        f"residual df {model.residual_df}; the seed is a {model.seed}; "
        f"{squares if model.balanced else f'unbalanced, sums of squares of type {model.kind}'} ({model.method})."
    )
