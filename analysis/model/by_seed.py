"""Means by seed and cell: what each comparison over seeds starts from.

A cell is a combination of the levels of the factors. Runs that share seed and cell (a key that only some options have
was swept) are averaged. Whether an effect is real is then a question of how it varies from seed to seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.names import SEED, coded, labels


@dataclass(frozen=True)
class BySeed:
    """`values` (seeds, levels of each factor …, metrics); NaN where a run is missing or a value is not finite."""

    factors: list[str]  # those that vary
    levels: list[list[str]]  # of each factor
    seeds: list[str]  # those that have at least two cells
    metrics: list[str]
    values: np.ndarray

    @classmethod
    def of(cls, runs: pd.DataFrame, factors: Sequence[str], metrics: Sequence[str]) -> BySeed:
        """The means of `runs`, one row per run with its factors, seed and metrics. All runs take part."""
        words = labels(runs[[*factors, SEED]])
        varying = [factor for factor in factors if len(set(words[factor])) > 1]
        codes, levels = [], []
        for factor in [*varying, SEED]:
            numbers, names = coded(words[factor])
            codes.append(numbers)
            levels.append(names)
        shape = tuple(map(len, levels))
        cell = np.ravel_multi_index(codes, shape) if len(runs) else np.zeros(0, np.intp)
        cells, place = np.unique(cell, return_inverse=True)
        count = np.bincount(cells % shape[-1], minlength=shape[-1])
        kept = count > 1 if varying else count > 0
        values = np.full((*shape[:-1], int(kept.sum()), len(metrics)), np.nan)
        seed = np.cumsum(kept) - 1  # where each seed that is kept stands
        where = list(np.unravel_index(cells, shape))
        shared = kept[where[-1]]
        where[-1] = seed[where[-1]]
        values[tuple(axis[shared] for axis in where)] = _means(runs[list(metrics)].to_numpy(float), place)[shared]
        names = [name for name, keep in zip(levels[-1], kept, strict=True) if keep]
        return cls(varying, levels[:-1], names, list(metrics), np.moveaxis(values, -2, 0))

    def means(self, *names: str) -> np.ndarray:
        """The means over the factors that are not in `names`, (seeds, levels of each of `names` …, metrics).

        NaN where a seed lacks one of the cells that are averaged. A cell that no seed has is left out of all means.
        """
        kept = [self.factors.index(name) for name in names]
        rest = [axis for axis in range(len(self.factors)) if axis not in kept]
        values = np.moveaxis(self.values, [1 + axis for axis in kept], range(1, 1 + len(kept)))
        shape = values.shape[: 1 + len(kept)]
        values = values.reshape(*shape, math.prod(values.shape[len(shape) : -1]), len(self.metrics))
        if not rest:
            return values[..., 0, :]
        filled = np.isfinite(values).any(axis=(0, -1))  # (levels …, cells of the other factors)
        everywhere = filled.all(axis=tuple(range(len(kept))))
        return values[..., everywhere, :].mean(axis=-2) if everywhere.any() else np.full_like(values[..., 0, :], np.nan)

    def differences(self, factor: str) -> Iterator[tuple[str, str, np.ndarray]]:
        """Each pair of levels of `factor`, and their difference for each seed, (seeds, metrics): the mean over the
        cells of the other factors. NaN where a seed lacks one of the cells that both levels have.
        """
        axis = self.factors.index(factor)
        values = np.moveaxis(self.values, 1 + axis, 0)
        cells = math.prod(values.shape[2:-1])
        values = values.reshape(*values.shape[:2], cells, len(self.metrics))  # (levels, seeds, cells, metrics)
        filled = np.isfinite(values).any(axis=(1, 3))  # (levels, cells)
        for a, b in combinations(range(len(values)), 2):
            both = filled[a] & filled[b]
            if both.any():
                difference = (values[a][:, both] - values[b][:, both]).mean(axis=1)
                yield self.levels[axis][a], self.levels[axis][b], difference


def of_sweep(sweep: Sweep, metrics: Sequence[str] | None = None) -> BySeed:
    """The means of the runs of a sweep that did not diverge; of all outcomes unless `metrics` are given."""
    names = list(sweep.comparable if metrics is None else metrics)
    return BySeed.of(sweep.complete, sweep.factors, names)


def _means(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The mean of the rows of `values` (rows, metrics) in each `group` (rows,), numbered from 0; NaN where one is not
    finite."""
    sums = np.zeros((group.max() + 1 if len(group) else 0, values.shape[1]))
    np.add.at(sums, group, np.where(np.isfinite(values), values, np.nan))
    return sums / np.bincount(group)[:, None]
