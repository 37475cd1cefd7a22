"""Runs in a frame, drawn at random with effects that are known, and short ways from a frame to a statistic's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from creditlab.analysis import fit
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.model.fits import Fits

FACTORS = ["algorithm", "optimiser", "dataset"]


def fitted(runs: pd.DataFrame, factors: Sequence[str], metrics: Sequence[str], **options: Any) -> Fits:
    """The fits of `metrics` to the rows of `runs`; options are those of `fit`."""
    return fit(Sweep.of(runs, factors, metrics), **options)


def rows_of(
    statistic, runs: pd.DataFrame, factors: Sequence[str], metrics: Sequence[str], **options: Any
) -> pd.DataFrame:
    """The frame of a statistic, of fits or of a sweep, with its options as they are by default."""
    return statistic(fitted(runs, factors, metrics, **options)).frame


def crossing(shape: list[int], seeds: int, block: bool, rng: np.random.Generator, metrics: int = 2) -> pd.DataFrame:
    """A complete crossing with a random outcome that has every effect, the seed's too."""
    codes = np.array(list(product(*(range(levels) for levels in shape), range(seeds))))
    factors = FACTORS[: len(shape)]
    values = rng.normal(size=(len(codes), metrics))
    for axes in [*combinations(range(len(shape)), 2), *((axis,) for axis in range(len(shape) + 1))]:
        cell = np.unique(codes[:, axes], axis=0, return_inverse=True)[1].ravel()
        values += rng.normal(size=(cell.max() + 1, metrics))[cell]
    runs = pd.DataFrame({f: [f"{f[0]}{level}" for level in codes[:, axis]] for axis, f in enumerate(factors)})
    runs["seed"] = codes[:, -1] if block else np.arange(len(codes))
    return runs.assign(status="complete", **{f"m{m}": values[:, m] for m in range(metrics)})


def one_way(counts: list[int], spread: list[float], seed: int, metrics: int = 1, shift: float = 1.0) -> pd.DataFrame:
    """Seeds are replicates; level i has `counts[i]` runs of standard deviation `spread[i]`."""
    rng = np.random.default_rng(seed)
    level = np.repeat(np.arange(len(counts)), counts)
    values = shift * level[:, None] + np.array(spread)[level, None] * rng.normal(size=(len(level), metrics))
    runs = pd.DataFrame(values, columns=[f"m{i}" for i in range(metrics)])
    return runs.assign(algorithm=[f"a{i}" for i in level], seed=range(len(level)), status="complete")


def oracle(runs: pd.DataFrame, factors: list[str], metric: str, block: bool, kind: int, pairs: bool = True):
    """statsmodels' table of the analysis of variance, under our names of the terms."""
    terms = [*((f,) for f in factors), *(combinations(factors, 2) if pairs else ()), *([("seed",)] if block else [])]
    terms = sorted(terms, key=lambda term: term != ("seed",)) if kind == 1 else terms  # the block comes first
    names = {":".join(f"C({f}, Sum)" for f in term): ":".join(term) for term in terms}
    table = anova_lm(ols(f"y ~ {' + '.join(names)}", runs.assign(y=runs[metric])).fit(), typ=kind)
    return table.rename(index=names).rename(columns={"PR(>F)": "p"}).drop(index="Intercept", errors="ignore")


class Recorded:
    """A run that has nothing but a history."""

    def __init__(self, points: pd.DataFrame, metrics: Sequence[str]) -> None:
        self.points = points[["step", "epoch", *metrics]].to_dict("records")

    def history(self) -> list[dict[str, Any]]:
        return [
            {"step": point.pop("step"), "epoch": point.pop("epoch"), "metrics": point}
            for point in map(dict, self.points)
        ]


def with_histories(history: pd.DataFrame, factors: Sequence[str]) -> Sweep:
    """A sweep whose runs recorded `history`: one row per run and step, with run, `factors`, seed, step and epoch."""
    keys = ["run", *factors, "seed"]
    metrics = [name for name in history if name not in (*keys, "step", "epoch")]
    sweep = Sweep.of(history[keys].drop_duplicates("run").assign(status="complete"), factors, [])
    sweep = replace(sweep, metrics=metrics, outcomes=metrics)
    sweep.named.update((name, Recorded(points, metrics)) for name, points in history.groupby("run", sort=False))
    return sweep
