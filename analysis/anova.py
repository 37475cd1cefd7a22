"""What each factor does to each metric: analysis of variance with effect sizes.

    η² = SS / SS_total    partial η² = SS / (SS + SS_residual)    ω² = (SS − df MS_residual) / (SS_total + MS_residual)

Where every combination of levels has the same number of runs, the sums of squares of types I, II and III agree and come
in closed form from cell means, for all metrics at once (Montgomery 2017, Design and Analysis of Experiments, ch. 5).
Else statsmodels fits each metric: type II (each effect given all others but those that contain it) or type III (given
all others, sum-to-zero coding), on a model that `design` has held to its rank; SS_total is the corrected total, which
the effects then do not add up to. p is adjusted by Holm within a family: all tests of one term, one a metric.

A run takes part in a metric if it is finished and the value is finite; nothing is imputed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from analysis import AnalysisError
from analysis.design import Design, Term, build, labels

COLUMNS = ["metric", "term", "sum_sq", "df", "F", "p", "p_adjusted", "eta_sq", "partial_eta_sq", "omega_sq", "n"]
RESIDUAL = "Residual"
ROUNDING = 1e-12  # of the largest value: what varies less than this does not vary

Kind = Literal["II", "III"]


@dataclass(frozen=True)
class Model:
    """What was fitted to the metrics that have a value for the same runs."""

    metrics: list[str]
    n: int
    left_out: dict[str, int]  # by status: diverged runs, and complete ones without a finite value
    terms: list[str]
    residual_df: int
    balanced: bool
    method: Literal["closed form", "statsmodels"]
    kind: Kind  # of the sums of squares; all kinds agree where balanced
    notes: list[str]


@dataclass(frozen=True)
class Anova:
    table: pd.DataFrame  # COLUMNS; a row a term and metric, the residual last
    models: list[Model]  # the one with most metrics first
    untested: dict[str, str]  # metric → why
    families: dict[str, int]  # term → number of tests that Holm's correction is over


def name(term: Term) -> str:
    return ":".join(term)


def closed_form(values: np.ndarray, design: Design) -> tuple[np.ndarray, np.ndarray]:
    """Sums of squares of each term (terms, metrics) and of the residual (metrics,) in a balanced design.

    `values` is (runs, metrics). Residuals are formed before they are squared, so that no digits cancel.
    """
    order = np.lexsort(design.codes.T[::-1])
    residual = values[order].reshape(*design.shape, -1, values.shape[1])  # axes of the design, replicates, metrics
    everywhere = set(range(len(design.shape) + 1))
    residual = residual - residual.mean(axis=tuple(everywhere), keepdims=True)
    sums = {}
    for term in sorted(design.terms, key=len):  # main effects first: an interaction is what they leave of its means
        own = {design.axes.index(factor) for factor in term}
        effect = residual.mean(axis=tuple(everywhere - own), keepdims=True)
        residual = residual - effect
        runs_a_mean = len(values) / math.prod(design.shape[axis] for axis in own)
        sums[term] = runs_a_mean * (effect**2).sum(axis=tuple(everywhere))
    return np.stack([sums[term] for term in design.terms]), (residual**2).sum(axis=tuple(everywhere))


def least_squares(values: np.ndarray, design: Design, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """The same for any design whose terms are estimable, by statsmodels, metric by metric."""
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    coded = {factor: f"C(f{axis}, Sum)" for axis, factor in enumerate(design.axes)}
    names = [":".join(coded[factor] for factor in term) for term in design.terms]
    data = pd.DataFrame(design.codes, columns=[f"f{axis}" for axis in range(len(design.axes))])
    scale = values.std(axis=0)
    standard = (values - values.mean(axis=0)) / scale
    sums, residuals = [], []
    for column in standard.T:
        fit = ols(f"y ~ {' + '.join(names)}", data.assign(y=column)).fit()
        table = anova_lm(fit, typ={"II": 2, "III": 3}[kind])
        sums.append(table.loc[names, "sum_sq"].to_numpy())
        residuals.append(fit.ssr)
    return np.stack(sums, axis=1) * scale**2, np.array(residuals) * scale**2


def _tabulate(
    metrics: np.ndarray, design: Design, values: np.ndarray, sums: np.ndarray, residual: np.ndarray
) -> pd.DataFrame:
    """The rows for `metrics`, from sums of squares (terms, metrics) and of the residual (metrics,)."""
    df = np.array([design.df(term) for term in design.terms])[:, None]
    total = ((values - values.mean(axis=0)) ** 2).sum(axis=0)
    mean_square = residual / design.residual_df
    f = sums / df / mean_square
    none = np.full((1, len(metrics)), np.nan)
    columns = {
        "sum_sq": [sums, residual[None]],
        "df": [np.broadcast_to(df, sums.shape), np.full_like(none, design.residual_df)],
        "F": [f, none],
        "p": [stats.f.sf(f, df, design.residual_df), none],
        "eta_sq": [sums / total, residual[None] / total],
        "partial_eta_sq": [sums / (sums + residual), none],
        "omega_sq": [(sums - df * mean_square) / (total + mean_square), none],
    }
    table = pd.DataFrame({key: np.concatenate(parts).T.ravel() for key, parts in columns.items()})
    terms = [*map(name, design.terms), RESIDUAL]
    table["metric"] = np.repeat(metrics, len(terms))
    table["term"] = np.tile(np.array(terms, dtype=object), len(metrics))
    table["n"] = len(values)
    return table.astype({"df": int})


def holm(p: np.ndarray) -> np.ndarray:
    """p adjusted by Holm's step-down (1979). That of statsmodels collects garbage at each call, 0.2 s a family."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return stepped[np.argsort(order, kind="stable")]


def _adjust(table: pd.DataFrame) -> dict[str, int]:
    """Write the adjusted p of each family into `table`; their sizes."""
    families = {}
    table["p_adjusted"] = np.nan
    for term, p in table[table["term"] != RESIDUAL].groupby("term", sort=False)["p"]:
        table.loc[p.index, "p_adjusted"] = holm(p.to_numpy())
        families[str(term)] = len(p)
    return families


def _untestable(values: np.ndarray, residual: np.ndarray | None = None) -> np.ndarray:
    """Which metrics (runs, metrics) have no variation, or none that the model leaves (`residual` sums of squares)."""
    rounding = len(values) * (ROUNDING * np.abs(values).max(axis=0)) ** 2
    left = ((values - values.mean(axis=0)) ** 2).sum(axis=0) if residual is None else residual
    return left <= rounding


def anova(
    runs: pd.DataFrame, factors: Sequence[str], metrics: Sequence[str], kind: Kind = "II", strict: bool = False
) -> Anova:
    """Analyse each of `metrics`, columns of `runs` (a row a finished run, with `factors`, seed and status).

    Raises AnalysisError if `strict` and a combination of levels has no run.
    """
    runs = runs.reset_index(drop=True)
    complete = (runs["status"] == "complete").to_numpy()[:, None]  # what a diverged run still shows means nothing
    present = np.isfinite(runs[list(metrics)].to_numpy(dtype=float)) & complete  # (runs, metrics)
    groups: dict[bytes, list[int]] = {}
    for index in range(len(metrics)):
        groups.setdefault(present[:, index].tobytes(), []).append(index)

    tables, models = [], []
    untested: dict[str, str] = {}
    for members in sorted(groups.values(), key=len, reverse=True):
        mask = present[:, members[0]]
        names = np.array([metrics[i] for i in members], dtype=object)
        if not mask.any():
            untested |= dict.fromkeys(names, "no finite value in any finished run")
            continue
        values = runs.loc[mask, list(names)].to_numpy(dtype=float)
        constant = _untestable(values)
        untested |= dict.fromkeys(names[constant], "constant")
        values, names = values[:, ~constant], names[~constant]
        if not len(names):
            continue
        design = build(runs[mask], factors)
        if design.holes and strict:
            raise AnalysisError(
                f"{names[0]}: no run at {design.holes}. Run what is missing, or leave out --strict for a smaller model."
            )
        if design.reason:
            untested |= dict.fromkeys(names, design.reason)
            continue
        balanced = design.balanced
        sums, residual = closed_form(values, design) if balanced else least_squares(values, design, kind)
        exact = _untestable(values, residual)
        untested |= dict.fromkeys(names[exact], "does not vary within cells: nothing to test against")
        names, values = names[~exact], values[:, ~exact]
        if not len(names):
            continue
        tables.append(_tabulate(names, design, values, sums[:, ~exact], residual[~exact]))
        models.append(
            Model(
                metrics=list(names),
                n=len(values),
                left_out=runs.loc[~mask, "status"].value_counts().to_dict(),
                terms=[name(term) for term in design.terms],
                residual_df=design.residual_df,
                balanced=balanced,
                method="closed form" if balanced else "statsmodels",
                kind=kind,
                notes=[*_absent(runs, mask, factors), *design.notes],
            )
        )
    if not tables:
        return Anova(pd.DataFrame(columns=COLUMNS), models, untested, {})
    table = pd.concat(tables, ignore_index=True)
    families = _adjust(table)
    position = {metric: i for i, metric in enumerate(metrics)}
    table = table.sort_values("metric", key=lambda names: names.map(position), kind="stable", ignore_index=True)
    return Anova(table[COLUMNS], models, untested, families)


def _absent(runs: pd.DataFrame, mask: np.ndarray, factors: Sequence[str]) -> list[str]:
    """The levels that no run with a value has."""
    words = labels(runs[list(factors)])
    gone = {f: sorted(set(words[f]) - set(words.loc[mask, f])) for f in factors}
    return [f"without {factor}={', '.join(levels)}: no finite value" for factor, levels in gone.items() if levels]
