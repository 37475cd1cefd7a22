"""Least squares of all metrics at once, on the model that the runs can bear.

    sweep = load("multirun/demo"); fits = fit(sweep); anova(fits); posthoc(fits)

Where every combination of levels has the same number of runs, sums of squares come in closed form from cell means, and
those of types I, II and III agree (Montgomery 2017, Design and Analysis of Experiments, ch. 5). Else one QR
factorisation of the design serves all metrics and terms: type I (each effect given those before it, the block first),
II (given all others but those that contain it) or III (given all others, sum-to-zero coding), on a model that `design`
has reduced to its rank. A seed that is a block is swept out by centring within seeds (Frisch & Waugh 1933).

A run takes part in a metric if it is complete and the value is finite; nothing is imputed. Metrics with a value for the
same runs share a fit. The fits are computed once, and every statistic of effects takes them.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.model.design import Design, Term, build
from creditlab.analysis.names import SEED, AnalysisError, labels, level_order

ROUNDING = 1e-12  # of the largest value: what varies less than this does not vary
SQUARES = 1e-140, 1e140  # the sizes of values whose squares can be summed

BEYOND = f"its values are not between {SQUARES[0]:g} and {SQUARES[1]:g}, so that their squares cannot be summed"

Kind = Literal["I", "II", "III"]


def name_of(term: Term) -> str:
    return ":".join(term)


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
    kind: Kind  # of the sums of squares; all kinds agree where the design is balanced
    seed: str  # what it is in this model
    notes: list[str]


@dataclass(frozen=True, repr=False)
class Fit:
    """The metrics that have a value for the same runs, and what the model makes of them."""

    metrics: list[str]
    runs: pd.DataFrame  # those that take part
    values: np.ndarray  # (runs, metrics)
    design: Design
    kind: Kind
    sums: np.ndarray  # (terms, metrics), sums of squares
    residuals: np.ndarray  # (runs, metrics)
    left_out: dict[str, int]  # by status: diverged runs, and complete ones without a finite value
    notes: list[str]

    def of(self, metrics: Sequence[str]) -> Fit | None:
        """The fit of these metrics only; None where it has none of them."""
        chosen = np.isin(self.metrics, list(metrics))
        if not chosen.any():
            return None
        names = [name for name, kept in zip(self.metrics, chosen, strict=True) if kept]
        columns = {key: getattr(self, key)[:, chosen] for key in ("values", "sums", "residuals")}
        return replace(self, metrics=names, **columns)

    @cached_property
    def cell_moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Counts (cells,), means and variances (cells, metrics); None if a cell is empty or has one run."""
        cells = self.design.cells()
        counts = np.bincount(cells)
        if len(counts) < math.prod(self.design.cell_shape) or counts.min() < 2:
            return None
        means = np.stack([self.values[cells == cell].mean(axis=0) for cell in range(len(counts))])
        squares = (self.values - means[cells]) ** 2
        sums = [squares[cells == cell].sum(axis=0) / (counts[cell] - 1) for cell in range(len(counts))]
        return counts, means, np.stack(sums)

    @property
    def model(self) -> Model:
        """What was fitted, in words."""
        return Model(
            metrics=self.metrics,
            n=len(self.values),
            left_out=self.left_out,
            terms=[name_of(term) for term in self.design.terms],
            residual_df=self.design.residual_df,
            balanced=self.design.balanced,
            method="closed form" if self.design.balanced else "projection",
            kind=self.kind,
            seed=self.design.role_of_seed,
            notes=self.notes,
        )

    def __repr__(self) -> str:
        terms = " + ".join(map(name_of, self.design.terms))
        return f"<Fit of {len(self.metrics)} metrics to {len(self.values)} runs: {terms}>"


@dataclass(frozen=True, repr=False)
class Fits:
    """The fits of all metrics of a sweep, the one with most metrics first. Iterating gives each `Fit`."""

    sweep: Sweep
    kind: Kind = "II"
    strict: bool = False
    order: int = 2
    models: list[Fit] = field(default_factory=list)
    untested: dict[str, str] = field(default_factory=dict)  # metric → why
    made: dict[Hashable, Any] = field(default_factory=dict, compare=False)  # what has been computed from it

    def __iter__(self) -> Iterator[Fit]:
        return iter(self.models)

    @cached_property
    def residuals(self) -> pd.DataFrame:
        """One row per run, one column per metric; NaN where the run takes no part."""
        parts = [pd.DataFrame(fit.residuals, index=fit.runs.index, columns=fit.metrics) for fit in self.models]
        return pd.concat(parts, axis=1) if parts else pd.DataFrame()

    def __repr__(self) -> str:
        tested = sum(len(fit.metrics) for fit in self.models)
        return f"<Fits of {tested} metrics by {len(self.models)} models; {len(self.untested)} untested>"


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
        axes = {design.axes.index(factor) for factor in term}
        effect = residual.mean(axis=tuple(everywhere - axes), keepdims=True)
        residual = residual - effect
        runs_per_mean = len(values) / math.prod(design.shape[axis] for axis in axes)
        sums[term] = runs_per_mean * (effect**2).sum(axis=tuple(everywhere))
    return np.stack([sums[term] for term in design.terms]), residual.reshape(values.shape)[np.argsort(order)]


def given(term: Term, terms: Sequence[Term], kind: Kind) -> list[Term]:
    """The terms that the sum of squares of `term` is adjusted for."""
    if kind == "I":
        return list(terms[: terms.index(term)])
    return [other for other in terms if other != term and (kind == "III" or not set(term) < set(other))]


def directions(design: Design, term: Term, kind: Kind) -> np.ndarray:
    """An orthonormal basis (rank, df) of what `term` adds to the terms it is adjusted for, in coordinates of Q."""
    before = [column for other in given(term, design.effects, kind) for column in design.columns_of[other]]
    _, r = design.factorised
    return np.linalg.qr(r[:, before + design.columns_of[term]])[0][:, len(before) :]


def projection(values: np.ndarray, design: Design, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """The same for any design whose terms are estimable."""
    x, y = design.matrix, values - values.mean(axis=0)
    inside = design.within(y)
    q, _ = design.factorised
    coordinates = q.T @ inside
    residual = inside - q @ coordinates
    sums = {term: ((directions(design, term, kind).T @ coordinates) ** 2).sum(axis=0) for term in design.effects}
    if design.paired:
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


def fit(sweep: Sweep, *, kind: Kind = "II", strict: bool = False, order: int = 2) -> Fits:
    """Fit each metric that `sweep` wants tested, with interactions of up to `order` factors.

    `kind` is that of the sums of squares where the design is unbalanced. Raises AnalysisError if `strict` and a
    combination of levels has no run.
    """
    runs, factors, metrics = sweep.usable, sweep.factors, sweep.outcomes
    # In an order of their own, so that no digit and no random draw depends on the order given.
    keys = [key for key in (*factors, SEED, "run", *metrics[:1]) if key in runs]
    runs = runs.sort_values(keys, key=lambda column: column.astype(str), kind="stable", ignore_index=True)
    complete = (runs["status"] == "complete").to_numpy()[:, None]  # what a diverged run still shows means nothing
    values = runs[metrics].to_numpy(dtype=float)
    present = np.isfinite(values) & complete  # (runs, metrics)
    groups: dict[bytes, list[int]] = {}
    for index in range(len(metrics)):
        groups.setdefault(present[:, index].tobytes(), []).append(index)

    fits = Fits(sweep, kind, strict, order)
    for members in sorted(groups.values(), key=len, reverse=True):
        mask, names = present[:, members[0]], [metrics[i] for i in members]
        if not mask.any():
            fits.untested.update(dict.fromkeys(names, "no finite value in any finished run"))
            continue
        of_members = values[np.ix_(mask, members)]
        largest = np.abs(of_members).max(axis=0)
        beyond = ((largest < SQUARES[0]) & (largest > 0)) | (largest > SQUARES[1])
        constant = ~beyond & _untestable(np.where(beyond, 0, of_members))
        for reason, which in ((BEYOND, beyond), ("constant", constant)):
            fits.untested.update((name, reason) for name, so in zip(names, which, strict=True) if so)
        testable = ~beyond & ~constant
        if testable.any():
            varying = [name for name, so in zip(names, testable, strict=True) if so]
            _fit_together(fits, runs, mask, varying, of_members[:, testable])
    return fits


def _fit_together(fits: Fits, runs: pd.DataFrame, mask: np.ndarray, names: list[str], values: np.ndarray) -> None:
    """Add to `fits` that of the metrics `names` with `values` (runs in `mask`, metrics), or why there is none."""
    factors = fits.sweep.factors
    design = build(runs[mask], factors, fits.order)
    if design.holes and fits.strict:
        raise AnalysisError(
            f"{names[0]}: no run at {design.holes}. Run what is missing, or leave out --strict for a smaller model."
        )
    if design.reason:
        fits.untested.update(dict.fromkeys(names, design.reason))
        return
    sums, residuals = decompose(values, design, fits.kind)
    exact = _untestable(values, residuals)
    reason = "does not vary within cells: nothing to test against"
    fits.untested.update((name, reason) for name, fitted in zip(names, exact, strict=True) if fitted)
    if exact.all():
        return
    fits.models.append(
        Fit(
            metrics=[name for name, fitted in zip(names, exact, strict=True) if not fitted],
            runs=runs[mask],
            values=values[:, ~exact],
            design=design,
            kind=fits.kind,
            sums=sums[:, ~exact],
            residuals=residuals[:, ~exact],
            left_out=runs.loc[~mask, "status"].value_counts().to_dict(),
            notes=[*_absent(runs, mask, factors), *design.notes],
        )
    )


def _absent(runs: pd.DataFrame, mask: np.ndarray, factors: Sequence[str]) -> list[str]:
    """The levels that no run with a value has."""
    words = labels(runs[list(factors)])
    absent = {f: sorted(set(words[f]) - set(words.loc[mask, f]), key=level_order) for f in factors}
    return [f"without {factor}={', '.join(levels)}: no finite value" for factor, levels in absent.items() if levels]
