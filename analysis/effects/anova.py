"""What each factor does to each metric: analysis of variance with effect sizes and their intervals.

    η² = SS / SS_total    partial η² = SS / (SS + SS_residual)    ω² = (SS − df MS_residual) / (SS_total + MS_residual)

Sums of squares are those of `fits`; SS_total is the corrected total, which the effects of an unbalanced design need not
add up to. p is that of the F test, adjusted by Holm within a family: all tests of one term, one a metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from creditlab.analysis.effects.shares import intervals
from creditlab.analysis.model.design import Design, Term
from creditlab.analysis.model.fits import Fit, Kind, fit_all
from creditlab.analysis.model.multiplicity import holm
from creditlab.analysis.names import RESIDUAL, SEED

COLUMNS = [
    *["metric", "term", "sum_sq", "df", "F", "p", "p_adjusted", "eta_sq", "partial_eta_sq", "omega_sq", "n"],
    *["eta_sq_low", "eta_sq_high", "partial_eta_sq_low", "partial_eta_sq_high", "omega_sq_low", "omega_sq_high"],
]


@dataclass(frozen=True)
class Model:
    """What was fitted to the metrics that have a value for the same runs."""

    metrics: list[str]
    n: int
    left_out: dict[str, int]  # by status: diverged runs, and complete ones without a finite value
    terms: list[str]
    residual_df: int
    balanced: bool
    method: Literal["closed form", "projection"]
    kind: Kind  # of the sums of squares; all kinds agree where balanced
    seed: str  # what it is in this model
    notes: list[str]


@dataclass(frozen=True)
class Anova:
    table: pd.DataFrame  # COLUMNS; a row a term and metric, the residual last
    models: list[Model]  # the one with most metrics first
    untested: dict[str, str]  # metric → why
    families: dict[str, int]  # term → number of tests that Holm's correction is over


def name(term: Term) -> str:
    return ":".join(term)


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
    terms = [*map(name, design.terms), RESIDUAL]
    table["metric"] = np.repeat(np.array(fit.metrics, dtype=object), len(terms))
    table["term"] = np.tile(np.array(terms, dtype=object), len(fit.metrics))
    table["n"] = len(values)
    return table.astype({"df": int})


def _adjust(table: pd.DataFrame) -> dict[str, int]:
    """Write the adjusted p of each family into `table`; their sizes."""
    families = {}
    table["p_adjusted"] = np.nan
    for term, p in table[table["term"] != RESIDUAL].groupby("term", sort=False)["p"]:
        table.loc[p.index, "p_adjusted"] = holm(p.to_numpy())
        families[str(term)] = len(p)
    return families


def _role(design: Design) -> str:
    """What the seed is in the model."""
    if (SEED,) not in design.terms:
        return "replicate"
    once = len(np.unique(design.codes, axis=0)) == len(design.codes)
    if design.balanced:
        return "random block, repeated measures" if once else "random block, replicated"
    return "random block, incomplete"


def anova(
    runs: pd.DataFrame,
    factors: Sequence[str],
    metrics: Sequence[str],
    kind: Kind = "II",
    strict: bool = False,
    order: int = 2,
) -> Anova:
    """Analyse each of `metrics`, columns of `runs` (a row a finished run, with `factors`, seed and status), with
    interactions of up to `order` factors.

    Raises AnalysisError if `strict` and a combination of levels has no run.
    """
    fits = fit_all(runs, factors, metrics, kind, strict, order)
    models = [
        Model(
            metrics=fit.metrics,
            n=len(fit.values),
            left_out=fit.left_out,
            terms=[name(term) for term in fit.design.terms],
            residual_df=fit.design.residual_df,
            balanced=fit.design.balanced,
            method="closed form" if fit.design.balanced else "projection",
            kind=kind,
            seed=_role(fit.design),
            notes=fit.notes,
        )
        for fit in fits.found
    ]
    if not models:
        return Anova(pd.DataFrame(columns=COLUMNS), models, fits.untested, {})
    table = pd.concat(map(_tabulate, fits.found), ignore_index=True)
    families = _adjust(table)
    position = {metric: i for i, metric in enumerate(metrics)}
    table = table.sort_values("metric", key=lambda names: names.map(position), kind="stable", ignore_index=True)
    return Anova(table[COLUMNS], models, fits.untested, families)
