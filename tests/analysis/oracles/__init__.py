"""Data sets with the numbers that R gives for them.

sweep_complete.csv    bp, fa, dfa × adamw, sgd, muon × 5 seeds on digits: accuracy, loss, two ranks
sleepstudy.csv        lme4's sleepstudy (Belenky et al. 2003): reaction time over ten days, 18 subjects
small.json            single numbers: R 4.2.2 with vegan 2.6.4, exactci, TOSTER's formulas
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

FOLDER = Path(__file__).parent
METRICS = ["accuracy", "loss", "stable_rank", "change_rank"]  # of sweep_complete


def sweep_complete() -> pd.DataFrame:
    """One row per run of the sweep: algorithm, optimiser, seed, status, METRICS."""
    return pd.read_csv(FOLDER / "sweep_complete.csv", dtype={"seed": str}).assign(status="complete")


def sleepstudy() -> pd.DataFrame:
    """One row per subject (as the seed) and day: days, Reaction, seed, status."""
    table = pd.read_csv(FOLDER / "sleepstudy.csv", dtype={"Subject": str}).assign(status="complete")
    return table.rename(columns={"Subject": "seed", "Days": "days"})


def numbers() -> dict[str, Any]:
    """The single numbers."""
    return json.loads((FOLDER / "small.json").read_text())
