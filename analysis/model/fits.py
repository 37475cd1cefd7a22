"""One model behind every number: all metrics of a sweep, fitted to the design that its runs have.

    sweep = load("multirun/demo"); fits = fit(sweep); anova(fits); posthoc(fits)

Where every seed has every combination of levels, each effect is tested in its own error stratum (`strata`); everywhere
else by a mixed model (`mixed`), which says the same of a complete design. F tests, marginal means, differences, their
intervals and the components of variance all come from it.

A run takes part in a metric if it is complete and the value is finite; nothing is imputed. Metrics with a value for the
same runs share a fit. The fits are computed once, and every statistic of effects takes them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from creditlab.analysis.data.nested import options_with
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.model.design import Design, Term, build, name_of
from creditlab.analysis.model.mixed import Mixed
from creditlab.analysis.model.scales import Kind, Scale, scale_of
from creditlab.analysis.model.strata import Strata
from creditlab.analysis.model.tests import Test
from creditlab.analysis.names import SEED, SQUARES, AnalysisError, labels, level_order
from creditlab.analysis.table import once

ROUNDING = 1e-12  # of the largest value: what varies less than this does not vary

BEYOND = f"its values are not between {SQUARES[0]:g} and {SQUARES[1]:g}, so that their squares cannot be summed"
EXACT = "does not vary within cells: nothing to test against"


@dataclass(frozen=True)
class Model:
    """What was fitted to the metrics that have a value for the same runs, for a reader and for analysis.json."""

    metrics: list[str]
    n: int
    left_out: dict[str, int]  # by status: diverged runs, and complete ones without a finite value
    terms: list[str]
    seeds: int
    tested: str  # against what, in words
    random: list[str]  # terms of the mixed model; empty where the design is complete
    scales: dict[str, str]  # by metric, where it is not compared as it is
    notes: list[str]


@dataclass(frozen=True, repr=False)
class Fit:
    """The metrics that have a value for the same runs, and the model of them."""

    metrics: list[str]
    runs: pd.DataFrame  # those that take part
    values: np.ndarray  # (runs, metrics), on their scales
    scales: list[Scale]
    design: Design
    left_out: dict[str, int]  # by status: diverged runs, and complete ones without a finite value
    notes: list[str]

    @cached_property
    def solved(self) -> Strata | Mixed:
        """The model with its tests, estimates and components."""
        return (Strata if self.design.complete else Mixed)(self.design, self.values)

    @cached_property
    def tests(self) -> dict[Term, Test]:
        """The F test of each effect."""
        return {term: self.solved.test(term) for term in self.design.terms}

    @cached_property
    def residuals(self) -> np.ndarray:
        """What the combinations of levels and, within seeds, the seeds leave of the values, (runs, metrics)."""
        seeds = self.design.seeds if self.design.within else np.zeros(len(self.values), int)
        return leave_out(self.values, self.design.cells(), seeds)

    @property
    def residual_df(self) -> int:
        """Degrees of freedom of `residuals`: runs less the combinations of levels and, within seeds, the seeds."""
        seeds = self.design.n_seeds - 1 if self.design.within else 0
        return len(self.values) - len(np.unique(self.design.cells())) - seeds

    @property
    def model(self) -> Model:
        """What was fitted, in words."""
        solved = self.solved
        random = [":".join((SEED, *term)) for term in solved.random] if isinstance(solved, Mixed) else []
        return Model(
            metrics=self.metrics,
            n=len(self.values),
            left_out=self.left_out,
            terms=[name_of(term) for term in self.design.terms],
            seeds=self.design.n_seeds,
            tested=self.design.in_words,
            random=random,
            scales={m: s.kind for m, s in zip(self.metrics, self.scales, strict=True) if s.kind != "identity"},
            notes=[*self.notes, *self._pooled, *(scale.note for scale in self.scales if scale.note)],
        )

    @property
    def _pooled(self) -> list[str]:
        pooled = self.solved.pooled if isinstance(self.solved, Mixed) else []
        names = ", ".join(":".join((SEED, *term)) for term in pooled)
        why = "the design is too large to estimate it apart, so tests of these interactions may find too much"
        return [f"{names} joins the residual: {why}"] if pooled else []

    def __repr__(self) -> str:
        terms = " + ".join(map(name_of, self.design.terms))
        return f"<Fit of {len(self.metrics)} metrics to {len(self.values)} runs: {terms}>"


@dataclass(frozen=True, repr=False)
class Fits:
    """The fits of all metrics of a sweep, the one with most metrics first. Iterating gives each `Fit`."""

    sweep: Sweep
    strict: bool = False
    order: int = 2
    scales: Mapping[str, Kind] = field(default_factory=dict)  # chosen by the user, by pattern of the metric's name
    models: list[Fit] = field(default_factory=list)
    untested: dict[str, str] = field(default_factory=dict)  # metric → why
    made: dict[Hashable, Any] = field(default_factory=dict, compare=False)  # what has been computed from it

    def __iter__(self) -> Iterator[Fit]:
        return iter(self.models)

    @property
    def scale_of(self) -> dict[str, Scale]:
        """The scale of each metric that was fitted."""
        return {metric: scale for fit in self for metric, scale in zip(fit.metrics, fit.scales, strict=True)}

    @cached_property
    def residuals(self) -> pd.DataFrame:
        """One row per run, one column per metric; NaN where the run takes no part."""
        parts = [pd.DataFrame(fit.residuals, index=fit.runs.index, columns=fit.metrics) for fit in self.models]
        return pd.concat(parts, axis=1) if parts else pd.DataFrame()

    def __repr__(self) -> str:
        tested = sum(len(fit.metrics) for fit in self.models)
        return f"<Fits of {tested} metrics by {len(self.models)} models; {len(self.untested)} untested>"


@once
def within_options(fits: Fits) -> list[tuple[str, str, str, Fits]]:
    """The fits of each option that has a key of its own with several values: key, factor, option, and fits of its runs
    by that key and the other factors.
    """
    sweep, parts = fits.sweep, []
    for key, host in sweep.nested.items():
        for option in options_with(sweep.finished, key, host):
            runs = sweep.finished[sweep.finished[host].astype(str) == option]
            others = [factor for factor in sweep.factors if factor != host]
            within = Sweep.of(runs, [*others, key], sweep.outcomes)
            parts.append((key, host, option, fit(within, order=fits.order, scales=fits.scales)))
    return parts


def leave_out(values: np.ndarray, cells: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """What is left of `values` (runs, metrics) by least squares if each cell and each seed has an effect."""
    cell = np.unique(cells, return_inverse=True)[1]
    shared = np.zeros((int(cell.max()) + 1, int(seeds.max()) + 1))
    np.add.at(shared, (cell, seeds), 1)
    sizes = shared.sum(axis=1)

    def within(columns: np.ndarray) -> np.ndarray:
        means = np.zeros((len(sizes), columns.shape[1]))
        np.add.at(means, cell, columns)
        return columns - (means / sizes[:, None])[cell]

    centred = within(values)
    by_seed = np.zeros((shared.shape[1], values.shape[1]))
    np.add.at(by_seed, seeds, centred)
    gram = np.diag(shared.sum(axis=0)) - shared.T @ (shared / sizes[:, None])  # singular: effects up to a constant
    effects = np.linalg.pinv(gram, hermitian=True) @ by_seed
    return within(values - effects[seeds])


def _constant(values: np.ndarray, residuals: np.ndarray | None = None) -> np.ndarray:
    """Whether each metric of `values` (runs, metrics) varies by rounding only: as a whole, or in `residuals`."""
    spread = np.ptp(values, axis=0) if residuals is None else np.abs(residuals).max(axis=0)
    return spread <= ROUNDING * np.abs(values).max(axis=0)


def fit(sweep: Sweep, *, strict: bool = False, order: int = 2, scales: Mapping[str, Kind] | None = None) -> Fits:
    """Fit each metric that `sweep` wants tested, with interactions of up to `order` factors.

    `scales` chooses the scale of metrics by pattern of their names (`{"weights/*": "log"}`). Raises AnalysisError if
    `strict` and a combination of levels has no run.
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

    fits = Fits(sweep, strict, order, dict(scales or {}))
    for members in sorted(groups.values(), key=len, reverse=True):
        mask, names = present[:, members[0]], [metrics[i] for i in members]
        if not mask.any():
            fits.untested.update(dict.fromkeys(names, "no finite value in any finished run"))
            continue
        of_members = values[np.ix_(mask, members)]
        largest = np.abs(of_members).max(axis=0)
        beyond = ((largest < SQUARES[0]) & (largest > 0)) | (largest > SQUARES[1])
        constant = ~beyond & _constant(np.where(beyond, 0, of_members))
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
    scales = [scale_of(name, column, dict(fits.scales)) for name, column in zip(names, values.T, strict=True)]
    scaled = np.stack([scale.of(column) for scale, column in zip(scales, values.T, strict=True)], axis=1)
    whole = Fit(names, runs[mask], scaled, scales, design, {}, [])
    exact = _constant(scaled, whole.residuals)
    fits.untested.update((name, EXACT) for name, fitted in zip(names, exact, strict=True) if fitted)
    if exact.all():
        return
    fits.models.append(
        Fit(
            metrics=[name for name, fitted in zip(names, exact, strict=True) if not fitted],
            runs=runs[mask],
            values=scaled[:, ~exact],
            scales=[scale for scale, fitted in zip(scales, exact, strict=True) if not fitted],
            design=design,
            left_out=runs.loc[~mask, "status"].value_counts().to_dict(),
            notes=[*_absent(runs, mask, factors), *design.notes],
        )
    )


def _absent(runs: pd.DataFrame, mask: np.ndarray, factors: Sequence[str]) -> list[str]:
    """The levels that no run with a value has."""
    words = labels(runs[list(factors)])
    absent = {f: sorted(set(words[f]) - set(words.loc[mask, f]), key=level_order) for f in factors}
    return [f"without {factor}={', '.join(levels)}: no finite value" for factor, levels in absent.items() if levels]
