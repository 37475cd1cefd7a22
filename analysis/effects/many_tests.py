"""Adjusted p of all tests within families of metrics, by Holm and by Benjamini & Hochberg."""

from __future__ import annotations

import pandas as pd
from scipy import stats

from creditlab.analysis.effects.anova import anova
from creditlab.analysis.model.fits import Fits
from creditlab.analysis.model.multiplicity import effective, family, holm
from creditlab.analysis.table import statistic


@statistic(
    "Multiplicity",
    "One row per metric and term.",
    {
        "metric": "name of the metric",
        "term": "factor, interaction or seed",
        "family": "all tests of this term over metrics of one kind: behaviour, weights, activations, …",
        "size": "tests in the family",
        "effective_li_ji": "independent metrics in the family, by Li & Ji",
        "effective_nyholt": "independent metrics in the family, by Nyholt",
        "p": "p of the F test",
        "p_holm": "adjusted by Holm: bounds the chance of any false positive in the family",
        "p_bh": "adjusted by Benjamini & Hochberg: bounds the expected share of false positives among the positives",
    },
    place=120,
)
def multiplicity(fits: Fits) -> pd.DataFrame:
    """Adjusted p of the tests of `anova`, within families. Benjamini & Hochberg's step-up is of 1995."""
    table, residuals = anova(fits).frame, fits.residuals
    tests = table.loc[table["p"].notna(), ["metric", "term", "p"]].copy()
    tests["family"] = [family(metric) for metric in tests["metric"]]
    independent = {
        name: effective(residuals[list(dict.fromkeys(members))].to_numpy())
        for name, members in tests.groupby("family")["metric"]
    }
    tests["effective_li_ji"] = [independent[name][0] for name in tests["family"]]
    tests["effective_nyholt"] = [independent[name][1] for name in tests["family"]]
    groups = tests.groupby(["term", "family"], sort=False)["p"]
    tests["size"] = groups.transform("size")
    tests["p_holm"] = groups.transform(lambda p: holm(p.to_numpy()))
    tests["p_bh"] = groups.transform(lambda p: stats.false_discovery_control(p.to_numpy()))
    return tests.reset_index(drop=True)[list(multiplicity.columns)]
