"""Data sets with the numbers that R gives for them; see oracle_data/README.md."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

FOLDER = Path(__file__).with_name("oracle_data")


@cache
def numbers(name: str) -> dict[str, Any]:
    """What R says of the data set `name`."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def data(name: str, seed: str = "seed") -> pd.DataFrame:
    """The data set `name`; its column `seed` is named so."""
    return pd.read_csv(FOLDER / f"{name}.csv").rename(columns={seed: "seed"})
