"""Data sets with the numbers that R gives for them; see oracle_data/README.md."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

METRICS = ["accuracy", "loss", "stable_rank", "change_rank"]  # of sweep_complete
FOLDER = Path(__file__).with_name("oracle_data")


@cache
def numbers(name: str = "small") -> dict[str, Any]:
    """What R says of the data set `name`; by default numbers for single formulas."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def data(name: str, seed: str = "seed") -> pd.DataFrame:
    """The data set `name`; its column `seed` is named so."""
    return pd.read_csv(FOLDER / f"{name}.csv").rename(columns={seed: "seed"})


def sweep_complete() -> pd.DataFrame:
    """One row per run of a real sweep on digits: bp, fa, dfa × adamw, sgd, muon × 5 seeds; METRICS."""
    return data("sweep_complete").assign(status="complete").astype({"seed": str})


def sleepstudy() -> pd.DataFrame:
    """One row per subject (as the seed) and day: days, Reaction, seed, status."""
    return (
        data("sleepstudy", "Subject").assign(status="complete").astype({"seed": str}).rename(columns={"Days": "days"})
    )
