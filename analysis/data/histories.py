"""What the runs of a sweep were like during training: one row per run and recorded step."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.names import SEED
from creditlab.analysis.table import once
from creditlab.records import RecordError

CHANGE = "weights/relative_change"  # the mean over layers of how far the weights moved, ‖W − W₀‖/‖W₀‖


@once
def histories(sweep: Sweep) -> pd.DataFrame:
    """Columns: run, the factors, seed, step, epoch, then the metrics (NaN where a step has none), of complete runs.

    Where layers record their relative change, CHANGE is their mean.
    """
    runs = sweep.complete.sort_values("run") if sweep.named else sweep.complete[:0].assign(run="")
    rows = []
    for settings in runs[["run", *sweep.factors, SEED]].to_dict("records"):
        try:
            points = sweep.named[settings["run"]].history()
        except RecordError as error:
            sweep.problems.append(f"left out of the curves: {error}")
            continue
        for point in points:
            rows.append({**settings, "step": point["step"], "epoch": point["epoch"], **point["metrics"]})
    frame = pd.DataFrame(rows, columns=None if rows else ["run", *sweep.factors, SEED, "step", "epoch"])
    layers = [name for name in map(str, frame) if name.startswith("weights/") and name.endswith("/relative_change")]
    return frame.assign(**{CHANGE: frame[layers].mean(axis=1)}) if layers else frame


def outcomes(history: pd.DataFrame, factors: Sequence[str]) -> list[str]:
    """The metrics among the columns of `histories`."""
    return [column for column in map(str, history) if column not in {"run", *factors, SEED, "step", "epoch"}]
