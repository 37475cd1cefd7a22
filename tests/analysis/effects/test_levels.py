"""Each metric at each level: counts, means and ranges of the complete runs."""

from __future__ import annotations

import numpy as np
import pytest

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.levels import levels
from tests.analysis.frames import crossing


def test_what_the_complete_runs_of_a_level_have():
    runs = crossing([3, 2], 4, True, np.random.default_rng(0))
    runs.loc[0, ["m0", "status"]] = [1e9, "diverged"]
    runs.loc[1, "m1"] = np.nan
    table = levels(Sweep.of(runs, ["algorithm", "optimiser"], ["m1", "m0"])).frame
    assert table["metric"].drop_duplicates().tolist() == ["m1", "m0"]
    rows = table.set_index(["metric", "factor", "level"])
    assert len(rows) == 2 * (3 + 2)
    complete = runs.drop(index=0)
    for (metric, factor, level), row in rows.iterrows():
        values = complete.loc[complete[factor] == level, metric].dropna()
        expected = [len(values), values.mean(), values.std(), values.min(), values.max()]
        assert row[["n_runs", "mean", "sd", "lowest", "highest"]].tolist() == pytest.approx(expected, rel=1e-12)
