"""Figures of what each factor does: the shares of variance, and the effect of one factor on each metric."""

from __future__ import annotations

from collections.abc import Iterator

from creditlab.analysis.report.figures import drawing
from creditlab.analysis.report.figures.figure import Figure, View, draws

MANY = 60  # metrics: above this the picture of shares shows means over layers


@draws("anova")
def _shares(view: View) -> Iterator[Figure]:
    anova = view.frames["anova"]
    shares = anova if len(set(anova["metric"])) <= MANY else drawing.over_layers(anova)
    yield Figure(
        "variance_share",
        "What and how: the share of variance by factor",
        "η² of each term of the analysis of variance. Above, metrics of what is learned; below, of how it is encoded.",
        "anova",
        drawing.variance_share(shares),
    )


@draws("anova")
def _effects(view: View) -> Iterator[Figure]:
    anova, factor = view.frames["anova"], view.factor
    rows = anova[anova["term"] == factor].head(MANY)
    if rows.empty:
        return
    columns = {"metric": "label", "eta_sq": "estimate", "eta_sq_low": "low", "eta_sq_high": "high", "omega_sq": "ω²"}
    yield Figure(
        "effects",
        f"How much {factor} explains",
        f"η² of {factor} for each metric, with its interval of 95 %, and ω², corrected for chance.",
        "anova",
        drawing.intervals(rows[list(columns)].rename(columns=columns), "share of variance, η²", (0, 1), None),
    )
