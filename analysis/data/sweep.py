"""A sweep as the analysis sees it: a frame with one row per run, its factors and its metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from creditlab import records
from creditlab.analysis.data.nested import set_aside
from creditlab.analysis.names import SEED, SQUARES, AnalysisError, outcome_of, some
from creditlab.analysis.table import FURTHER, statistic
from creditlab.hints import did_you_mean

INDEX = ["run", "identity", "status"]


@dataclass(frozen=True, repr=False)
class Sweep:
    """`runs` has one row per run: run, identity, status, the settings, seed, then the metrics."""

    runs: pd.DataFrame
    factors: list[str]
    metrics: list[str]  # in the frame, those at initialisation (`…@init`) included
    outcomes: list[str]  # the metrics to test: of those chosen all but the ones at initialisation
    folders: list[Path] = field(default_factory=list)  # or the file of a table from elsewhere
    named: dict[str, records.Run] = field(default_factory=dict)  # by the name in `runs`
    aliased: dict[str, str] = field(default_factory=dict)  # key → the factors that determine its value
    nested: dict[str, str] = field(default_factory=dict)  # key → the factor that each of its values determines
    not_numeric: list[str] = field(default_factory=list)
    repeats: list[str] = field(default_factory=list)  # runs of one experiment that other instruments watched
    missing: list[str] = field(default_factory=list)  # planned, and without a folder
    planned: int | None = None
    problems: list[str] = field(default_factory=list)
    margins: dict[str, float] = field(default_factory=dict)  # pattern of metrics → the difference that does not matter
    random: str = ""  # the factor whose levels are a random sample (the data sets); empty where all are fixed
    made: dict[Hashable, Any] = field(default_factory=dict, compare=False)  # what has been computed from it

    @classmethod
    def of(cls, runs: pd.DataFrame, factors: Sequence[str], metrics: Sequence[str], seed: str = SEED) -> Sweep:
        """A sweep from a frame of your own: one row per run, with columns for its `factors`, `metrics` and `seed`, and
        for its status if not all are complete. Raises AnalysisError for a column that is not there.

        Whatever needs the folders of runs (concordance, similarity, histories) finds nothing in it.
        """
        if len(runs):
            check_columns(runs, [*factors, *metrics, seed])
        if seed != SEED:
            if SEED in (*factors, *metrics):
                raise AnalysisError(f"{SEED!r} is the name of the seed in every table: rename that column.")
            runs = runs.drop(columns=SEED, errors="ignore").rename(columns={seed: SEED})
        if "status" not in runs:
            runs = runs.assign(status="complete")
        outcomes = [metric for metric in metrics if not metric.endswith("@init")]
        return cls(runs, list(factors), list(metrics), outcomes)

    @property
    def sweep(self) -> Sweep:
        return self

    @property
    def folder(self) -> Path:
        return self.folders[0]

    @property
    def name(self) -> str:
        return " + ".join(folder.resolve().name for folder in self.folders) or "of a frame"

    @property
    def records(self) -> list[records.Run]:
        return list(self.named.values())

    @cached_property
    def finished(self) -> pd.DataFrame:
        """The rows of finished runs, one per experiment."""
        unique = ~self.runs["run"].isin(self.repeats) if self.repeats else True
        return self.runs[self.runs["status"].isin(records.FINISHED) & unique]

    @cached_property
    def _tuned(self) -> tuple[pd.Series, list[str]]:
        return set_aside(self.finished, self.factors, self.nested, self.metrics)

    @property
    def tuned(self) -> list[str]:
        """At which value of its own keys each option is compared, and how that was chosen, one line each."""
        return self._tuned[1]

    @cached_property
    def usable(self) -> pd.DataFrame:
        """The rows that statistics use: those of `finished`, of an option with keys of its own at their best value."""
        return self.finished[~self._tuned[0]] if self.nested else self.finished

    @property
    def complete(self) -> pd.DataFrame:
        """Of these, the runs that did not diverge."""
        return self.usable[self.usable["status"] == "complete"]

    @cached_property
    def comparable(self) -> list[str]:
        """The outcomes whose values have squares that can be summed."""
        if self.runs.empty or not self.outcomes:
            return []
        largest = self.complete[self.outcomes].astype(float).replace([np.inf, -np.inf], np.nan).abs().max()
        beyond = (largest > SQUARES[1]) | ((largest > 0) & (largest < SQUARES[0]))
        return [metric for metric in self.outcomes if not beyond[metric]]

    @property
    def outcome(self) -> str | None:
        """The metric that says how well a run learned: test accuracy; else an accuracy, or the first metric of
        behaviour; in a table from elsewhere at last the first metric.
        """
        named = outcome_of(self.outcomes)
        return named if named or self.named else next(iter(self.outcomes), None)

    @property
    def counts(self) -> Counter[str]:
        return Counter(self.runs["status"])

    def __repr__(self) -> str:
        statuses = ", ".join(f"{number} {status}" for status, number in self.counts.items())
        factors = " × ".join(f"{factor} ({self.runs[factor].nunique()})" for factor in self.factors) or "no factor"
        seeds = self.runs[SEED].nunique()
        return f"<Sweep {self.name}: {statuses}; {factors}; {seeds} seeds; {len(self.outcomes)} metrics>"


def check_columns(frame: pd.DataFrame, names: Iterable[str]) -> None:
    """Raise AnalysisError for the first of `names` that is no column of `frame`."""
    for name in names:
        if name not in frame:
            columns = list(map(str, frame))
            raise AnalysisError(
                f"there is no column {name!r}.{did_you_mean(name, columns)} There are: {some(columns, 20)}."
            )


@statistic(
    "Runs",
    "One row per run.",
    {
        "run": "name of the run's folder; behind the name of its sweep where there are several",
        "identity": "hash of the settings that can change the result",
        "status": "complete, diverged, failed, corrupt or unfinished",
        FURTHER: "the chosen options, the factors and the seed, then the metrics at the end and at initialisation",
    },
    place=1000,
)
def runs(sweep: Sweep) -> pd.DataFrame:
    """The frame that every other table is computed from."""
    return sweep.runs
