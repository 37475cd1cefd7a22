"""All tables of a sweep at once: neither the order of runs nor the global random state is in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from creditlab.analysis import fit, load
from creditlab.analysis.catalogue import statistics

# They need a margin, a run that diverged, or data sets that are a random sample.
EMPTY = {"equivalence", "same_geometry", "divergence", "divergence_pairs", "datasets"}


def all_tables(sweep) -> dict[str, pd.DataFrame]:
    fits = fit(sweep)
    return {name: statistic(fits).frame for name, statistic in statistics().items()}


def test_neither_the_order_of_runs_nor_the_global_random_state_matters(small_sweep):
    sweep, rng = load(small_sweep), np.random.default_rng(0)
    np.random.seed(0)  # noqa: NPY002
    first = all_tables(sweep)
    assert {name for name, table in first.items() if table.empty} <= EMPTY
    order = rng.permutation(len(sweep.runs))
    names = list(sweep.named)
    shuffled = replace(
        sweep,
        runs=sweep.runs.iloc[order].reset_index(drop=True),
        named={names[i]: sweep.named[names[i]] for i in rng.permutation(len(names))},
        made={},
    )
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    second = all_tables(shuffled)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    for name, table in first.items():
        if name != "runs":
            pd.testing.assert_frame_equal(table, second[name], rtol=1e-9, obj=name)
