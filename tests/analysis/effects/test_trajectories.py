"""Metrics during training: mean and band by level and step against scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.effects.trajectories import trajectories
from tests.analysis.frames import with_histories


def test_trajectories_have_students_band_over_seeds():
    rng = np.random.default_rng(2)
    rows = [
        {"run": f"{a}{o}{s}", "algorithm": a, "optimiser": o, "seed": s, "step": t, "epoch": 0.0, "m": rng.normal()}
        for a in ("bp", "fa")
        for o in ("x", "y")
        for s in range(4)
        for t in (0, 10)
    ]
    history = pd.DataFrame(rows)
    table = trajectories(with_histories(history, ["algorithm", "optimiser"])).frame
    assert table["factor"].value_counts().to_dict() == {"algorithm": 4, "optimiser": 4}
    row = table[(table["level"] == "fa") & (table["step"] == 10)].iloc[0]
    means = history[(history["algorithm"] == "fa") & (history["step"] == 10)].groupby("seed")["m"].mean()
    interval = stats.ttest_1samp(means, 0).confidence_interval()
    assert (row["n"], row["mean"], row["low"], row["high"]) == pytest.approx((4, means.mean(), *interval), rel=1e-9)
    alone = trajectories(with_histories(history[history["seed"] == 0], ["algorithm", "optimiser"])).frame
    assert alone["mean"].notna().all()
    assert alone["low"].isna().all()


def test_a_frame_without_folders_has_no_trajectory():
    runs = pd.DataFrame({"algorithm": ["bp", "fa"], "seed": 0, "status": "complete", "m": [0.0, 1.0]})
    assert trajectories(Sweep.of(runs, ["algorithm"], ["m"])).frame.empty
