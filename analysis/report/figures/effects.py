"""Figures of what each factor does: the shares of variance, and the effect of one factor on each metric."""

from __future__ import annotations

from collections.abc import Iterator

from creditlab.analysis.report.figures import drawing
from creditlab.analysis.report.figures.figure import Figure, View, draws

MANY = 60  # metrics: above this the picture of shares shows means over layers


@draws("shares")
def _shares(view: View) -> Iterator[Figure]:
    table = view.frames["shares"]
    if table.empty:
        return
    shares = table if len(set(table["metric"])) <= MANY else drawing.over_layers(table)
    yield Figure(
        "variance_share",
        "Where the variation comes from",
        "Components of variance as shares of their sum. Hatched: interactions. Grey: seeds, what varies from seed to "
        "seed, and the rest. Above, metrics of what is learned; below, of how it is encoded.",
        "shares",
        drawing.variance_share(shares),
    )


@draws("anova")
def _effects(view: View) -> Iterator[Figure]:
    anova, factor = view.frames["anova"], view.factor
    rows = anova[anova["term"] == factor].head(MANY)
    if rows.empty:
        return
    columns = {"metric": "label", "omega_sq": "estimate", "omega_sq_low": "low", "omega_sq_high": "high"}
    rows = rows[list(columns)].rename(columns=columns)
    yield Figure(
        "effects",
        f"How much {factor} explains",
        f"Partial ω² of {factor} for each metric: its share beside what varies from seed to seed, corrected for "
        "chance, with its interval of 95 %.",
        "anova",
        drawing.intervals(rows.assign(estimate=rows["estimate"].clip(lower=0)), "partial ω²", (0, 1), None),
    )
