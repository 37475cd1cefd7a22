"""Every test that the report can make a claim from, with its verdict; see `model.questions`."""

from __future__ import annotations

import pandas as pd

from creditlab.analysis.model.fits import Fits
from creditlab.analysis.model.questions import verdicts
from creditlab.analysis.table import statistic


@statistic(
    "All tests",
    "One row per test of the report.",
    {
        "question": "the question that the test belongs to",
        "metric": "name of the metric, or of what else is tested",
        "p": "its p",
        "p_adjusted": "p that accounts for all tests of the report",
        "found": "whether it is shown: p_adjusted is at most .05",
        "level": "level at which pairs below it are decided; empty where it is not shown",
    },
    place=120,
)
def multiplicity(fits: Fits) -> pd.DataFrame:
    """The tests of all questions, with p adjusted over the whole report."""
    return verdicts(fits)
