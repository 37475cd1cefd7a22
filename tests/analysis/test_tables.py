"""All tables of a sweep at once: neither the order of runs nor the global random state is in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from creditlab.analysis import load
from creditlab.analysis.report.publish import further
from creditlab.analysis.tables import NAMES, tables
from creditlab.records import write_arrays


def all_tables(sweep) -> dict[str, pd.DataFrame]:
    made = tables(sweep, sweep.outcomes, NAMES)
    return made.frames | further(sweep, sweep.outcomes, made.anova.table)[0]


def test_neither_the_order_of_runs_nor_the_global_random_state_matters(folder):
    rng = np.random.default_rng(0)
    for algorithm in ("bp", "fa", "es"):
        for width in (1, 2, 4):
            for seed in range(3):
                metrics = {"test/accuracy": rng.random(), "weights/a/rank": float(rng.exponential())}
                run = folder.add(metrics, algorithm=algorithm, keys={"architecture.width": width}, seed=seed)
                arrays = {"test/loss": rng.random(30), "test/label": np.arange(30) % 6}
                arrays |= {"test/predicted": rng.integers(6, size=30), "representation/a": rng.normal(size=(6, 4))}
                write_arrays(run / "arrays.npz", arrays)
    sweep = load(folder.path)
    np.random.seed(0)  # noqa: NPY002
    first = all_tables(sweep)
    assert all(len(table) for name, table in first.items() if name != "robust")
    order = rng.permutation(len(sweep.runs))
    names = list(sweep.named)
    shuffled = replace(
        sweep,
        runs=sweep.runs.iloc[order].reset_index(drop=True),
        named={names[i]: sweep.named[names[i]] for i in rng.permutation(len(names))},
    )
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    second = all_tables(shuffled)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    for name, table in first.items():
        if name != "runs":
            pd.testing.assert_frame_equal(table, second[name], rtol=1e-9, obj=name)
