"""The shares of variance side by side: by term for each metric, and summed up over what is learned and how."""

from __future__ import annotations

import numpy as np
import pandas as pd

from creditlab.analysis.effects.anova import anova
from creditlab.analysis.model.fits import Fits
from creditlab.analysis.names import ALPHA, BEHAVIOUR, RESIDUAL
from creditlab.analysis.table import statistic

OVERLAP = "Overlap"
WHAT, HOW = "what is learned", "how it is encoded"


@statistic(
    "Share of variance",
    "One row per metric and term.",
    {
        "metric": "name of the metric",
        "side": "behaviour (what is learned) or encoding (how it is encoded)",
        "term": "factor, interaction, seed or residual; Overlap is what unbalanced terms do not add up to",
        "share": "η²; that of Overlap is negative where several terms claim the same variance twice",
        "low": "lower end of its interval",
        "high": "upper end of its interval",
    },
    place=130,
)
def shares(fits: Fits) -> pd.DataFrame:
    """The share of each metric's variance by term (η², in [0, 1] where balanced) with its interval.

    Where the design is unbalanced, *Overlap* is what the terms do not add up to: positive where several could claim it,
    negative where they claim it twice.
    """
    rows = anova(fits).frame[["metric", "term", "eta_sq", "eta_sq_low", "eta_sq_high"]]
    rows = rows.rename(columns={"eta_sq": "share", "eta_sq_low": "low", "eta_sq_high": "high"})
    rest = 1 - rows.groupby("metric", sort=False)["share"].sum()
    rest = rest[rest.abs() > 1e-9]
    overlap = pd.DataFrame({"metric": rest.index, "term": OVERLAP, "share": rest.to_numpy()})
    order = {metric: i for i, metric in enumerate(dict.fromkeys(rows["metric"]))}
    rows = pd.concat([rows, overlap], ignore_index=True)
    rows["side"] = np.where(rows["metric"].str.startswith(BEHAVIOUR), "behaviour", "encoding")
    rows = rows.sort_values("metric", key=lambda m: m.map(order), kind="stable", ignore_index=True)
    return rows[list(shares.columns)]


@statistic(
    "Share of variance, summed up",
    "One row per term, over the metrics of what is learned and over those of how it is encoded.",
    {
        "of": "what is learned (behaviour) or how it is encoded (all other metrics)",
        "term": "factor, interaction or seed",
        "n_metrics": "metrics",
        "n_found": "metrics for which Holm's p of the term is below .05",
        "median_eta_sq": "median of η² over the metrics",
        "lowest": "lowest η²",
        "highest": "highest η²",
        "highest_metric": "the metric that has it",
    },
    place=10,
)
def what_how(fits: Fits) -> pd.DataFrame:
    """η² of each term over the metrics of behaviour, and of encoding."""
    table = anova(fits).frame
    tests = table[table["term"] != RESIDUAL]
    behaviour = tests["metric"].str.startswith(BEHAVIOUR)
    rows = []
    for side, part in ((WHAT, tests[behaviour]), (HOW, tests[~behaviour])):
        for term, of_term in part.groupby("term", sort=False):
            top = of_term.iloc[int(of_term["eta_sq"].argmax())]
            shown = int((of_term["p_adjusted"] < ALPHA).sum())
            middle, low = of_term["eta_sq"].median(), of_term["eta_sq"].min()
            rows.append((side, term, len(of_term), shown, middle, low, top["eta_sq"], top["metric"]))
    return pd.DataFrame(rows, columns=list(what_how.columns))
