"""Least squares of all metrics at once on the model that the runs can bear.

Where every combination of levels has the same number of runs, sums of squares come in closed form from cell means, and
those of types I, II and III agree (Montgomery 2017, Design and Analysis of Experiments, ch. 5). Else one QR
factorisation of the design serves all metrics and terms: type I (each effect given those before it, the block first),
II (given all others but those that contain it) or III (given all others, sum-to-zero coding), on a model that `design`
has held to its rank. A seed that is a block is swept out by centring within seeds (Frisch & Waugh 1933).

A run takes part in a metric if it is complete and the value is finite; nothing is imputed. Metrics with a value for the
same runs share a fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from creditlab.analysis.model.design import Design, Term, build
from creditlab.analysis.names import SEED, AnalysisError, labels

ROUNDING = 1e-12  # of the largest value: what varies less than this does not vary

Kind = Literal["I", "II", "III"]


@dataclass(frozen=True)
class Fit:
    """The metrics that have a value for the same runs, and what the model makes of them."""

    metrics: list[str]
    runs: pd.DataFrame  # those that take part
    values: np.ndarray  # (runs, metrics)
    design: Design
    sums: np.ndarray  # (terms, metrics), sums of squares
    residuals: np.ndarray  # (runs, metrics)
    left_out: dict[str, int]  # by status: diverged runs, and complete ones without a finite value
    notes: list[str]


@dataclass(frozen=True)
class Fits:
    found: list[Fit] = field(default_factory=list)  # the one with most metrics first
    untested: dict[str, str] = field(default_factory=dict)  # metric → why

    @property
    def residuals(self) -> pd.DataFrame:
        """A row a run, a column a metric; NaN where the run takes no part."""
        parts = [pd.DataFrame(fit.residuals, index=fit.runs.index, columns=fit.metrics) for fit in self.found]
        return pd.concat(parts, axis=1) if parts else pd.DataFrame()


def closed_form(values: np.ndarray, design: Design) -> tuple[np.ndarray, np.ndarray]:
    """Sums of squares of each term (terms, metrics) and the residuals (runs, metrics) in a balanced design.

    `values` is (runs, metrics). Residuals are formed before anything is squared, so that no digits cancel.
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
    return np.stack([sums[term] for term in design.terms]), residual.reshape(values.shape)[np.argsort(order)]


def given(term: Term, terms: Sequence[Term], kind: Kind) -> list[Term]:
    """The terms that the sum of squares of `term` is adjusted for."""
    if kind == "I":
        return list(terms[: terms.index(term)])
    return [other for other in terms if other != term and (kind == "III" or not set(term) < set(other))]


def projection(values: np.ndarray, design: Design, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """The same for any design whose terms are estimable."""
    effects = [term for term in design.terms if term != (SEED,)]
    columns = [design.columns(term) for term in effects]
    ends = np.cumsum([0, *(each.shape[1] for each in columns)])
    place = {term: list(range(start, end)) for term, start, end in zip(effects, ends, ends[1:], strict=False)}
    x, y = np.hstack(columns), values - values.mean(axis=0)
    inside = design.within(y)
    q, r = np.linalg.qr(design.within(x))
    seen = q.T @ inside
    residual = inside - q @ seen
    sums = {}
    for term in effects:
        others = [column for other in given(term, effects, kind) for column in place[other]]
        own = np.linalg.qr(r[:, others + place[term]])[0][:, len(others) :]
        sums[term] = ((own.T @ seen) ** 2).sum(axis=0)
    if (SEED,) in design.terms:
        if kind == "I":
            sums[SEED,] = ((y - inside) ** 2).sum(axis=0)
        else:
            q, _ = np.linalg.qr(x - x.mean(axis=0))
            without = y - q @ (q.T @ y)  # the fits are nested, so their difference is orthogonal to the residual
            sums[SEED,] = ((without - residual) ** 2).sum(axis=0)
    return np.stack([sums[term] for term in design.terms]), residual


def decompose(values: np.ndarray, design: Design, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """Sums of squares of each term (terms, metrics) and the residuals (runs, metrics) of `values` (runs, metrics)."""
    return closed_form(values, design) if design.balanced else projection(values, design, kind)


def _untestable(values: np.ndarray, residuals: np.ndarray | None = None) -> np.ndarray:
    """Which metrics (runs, metrics) have no variation, or none that the model leaves (`residuals`)."""
    rounding = len(values) * (ROUNDING * np.abs(values).max(axis=0)) ** 2
    return ((values - values.mean(axis=0) if residuals is None else residuals) ** 2).sum(axis=0) <= rounding


def fit_all(
    runs: pd.DataFrame,
    factors: Sequence[str],
    metrics: Sequence[str],
    kind: Kind = "II",
    strict: bool = False,
    order: int = 2,
) -> Fits:
    """Fit each of `metrics`, columns of `runs` (a row a finished run, with `factors`, seed and status), with
    interactions of up to `order` factors.

    Raises AnalysisError if `strict` and a combination of levels has no run.
    """
    # In an order of their own, so that no digit and no random draw depends on the order given.
    keys = [key for key in (*factors, SEED, "run", *metrics[:1]) if key in runs]
    runs = runs.sort_values(keys, key=lambda column: column.astype(str), kind="stable", ignore_index=True)
    complete = (runs["status"] == "complete").to_numpy()[:, None]  # what a diverged run still shows means nothing
    everything = runs[list(metrics)].to_numpy(dtype=float)
    present = np.isfinite(everything) & complete  # (runs, metrics)
    groups: dict[bytes, list[int]] = {}
    for index in range(len(metrics)):
        groups.setdefault(present[:, index].tobytes(), []).append(index)

    fits = Fits()
    for members in sorted(groups.values(), key=len, reverse=True):
        mask = present[:, members[0]]
        names = np.array([metrics[i] for i in members], dtype=object)
        if not mask.any():
            fits.untested.update(dict.fromkeys(names, "no finite value in any finished run"))
            continue
        values = everything[np.ix_(mask, members)]
        constant = _untestable(values)
        fits.untested.update(dict.fromkeys(names[constant], "constant"))
        values, names = values[:, ~constant], names[~constant]
        if not len(names):
            continue
        design = build(runs[mask], factors, order)
        if design.holes and strict:
            raise AnalysisError(
                f"{names[0]}: no run at {design.holes}. Run what is missing, or leave out --strict for a smaller model."
            )
        if design.reason:
            fits.untested.update(dict.fromkeys(names, design.reason))
            continue
        sums, residuals = decompose(values, design, kind)
        exact = _untestable(values, residuals)
        fits.untested.update(dict.fromkeys(names[exact], "does not vary within cells: nothing to test against"))
        if exact.all():
            continue
        fits.found.append(
            Fit(
                metrics=list(names[~exact]),
                runs=runs[mask],
                values=values[:, ~exact],
                design=design,
                sums=sums[:, ~exact],
                residuals=residuals[:, ~exact],
                left_out=runs.loc[~mask, "status"].value_counts().to_dict(),
                notes=[*_absent(runs, mask, factors), *design.notes],
            )
        )
    return fits


def _absent(runs: pd.DataFrame, mask: np.ndarray, factors: Sequence[str]) -> list[str]:
    """The levels that no run with a value has."""
    words = labels(runs[list(factors)])
    gone = {f: sorted(set(words[f]) - set(words.loc[mask, f])) for f in factors}
    return [f"without {factor}={', '.join(levels)}: no finite value" for factor, levels in gone.items() if levels]
