"""Where the variation of a metric comes from: components of variance, and what is learned beside how it is encoded.

A fixed effect's component is the mean square of its effects over the combinations of levels; a random one (seed, seed ×
factor, residual) is its variance in the model. All are corrected for chance, so an estimate may lie below 0; it is then
"not shown" and counts as 0 in the shares. Intervals are those of generalised pivots (Weerahandi 1993): each mean square
is drawn as its χ² would have it, and each effect's sum of squares with the noise along it and across it. They need a
complete design.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from creditlab.analysis.effects.anova import anova
from creditlab.analysis.model.design import Term, name_of
from creditlab.analysis.model.fits import Fit, Fits
from creditlab.analysis.model.strata import Strata
from creditlab.analysis.names import BEHAVIOUR, LEVEL
from creditlab.analysis.table import stacked, statistic

DRAWS = 1000
WHAT, HOW = "what is learned", "how it is encoded"


@statistic(
    "Components of variance",
    "One row per metric and term.",
    {
        "metric": "name of the metric",
        "side": "behaviour (what is learned) or encoding (how it is encoded)",
        "term": "factor, combination of factors, seed, seed:factor (what varies from seed to seed) or residual",
        "variance": ("its component; below 0 where chance explains more", "the scale's unit squared"),
        "share": "share of the sum of all components, those below 0 counted as 0",
        "low": "lower end of its interval of 95 %; empty for a mixed model",
        "high": "upper end of its interval of 95 %; empty for a mixed model",
    },
    place=130,
)
def shares(fits: Fits) -> pd.DataFrame:
    """The share of each metric's variance by term, which sum to 1, with its interval."""
    table = stacked([_of_fit(fit) for fit in fits], list(shares.columns))
    position = {metric: i for i, metric in enumerate(fits.sweep.outcomes)}
    return table.sort_values("metric", key=lambda m: m.map(position), kind="stable", ignore_index=True)


def _of_fit(fit: Fit) -> pd.DataFrame:
    solved, terms = fit.solved, fit.design.terms
    parts = {name_of(term): solved.effect_variance(term) for term in terms} | solved.components()
    variances = np.stack(list(parts.values()))  # (terms, metrics)
    whole = variances.clip(min=0).sum(axis=0)
    low, high = _intervals(solved, terms) if isinstance(solved, Strata) else (np.full_like(variances, np.nan),) * 2
    table = pd.DataFrame(
        {
            "metric": np.repeat(np.array(fit.metrics, dtype=object), len(parts)),
            "term": np.tile(np.array(list(parts), dtype=object), len(fit.metrics)),
            "variance": variances.T.ravel(),
            "share": (variances.clip(min=0) / whole).T.ravel(),
            "low": low.T.ravel(),
            "high": high.T.ravel(),
        }
    )
    table["side"] = np.where(table["metric"].str.startswith(BEHAVIOUR), "behaviour", "encoding")
    return table[list(shares.columns)]


def _intervals(strata: Strata, terms: list[Term]) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the shares' intervals, each (terms, metrics), in the order of effects and components."""
    generator = np.random.default_rng(0)
    squares = {
        term: square * df / generator.chisquare(df, size=(DRAWS, 1))
        for term, (square, df) in strata.mean_squares.items()
    }
    parts = []
    for term in terms:
        test = strata.test(term)
        of_stratum = tuple(name for name in term if name in strata.design.within)
        noise = squares.get(of_stratum, squares[tuple(strata.design.within)])
        left = test.sum_sq / strata.replicates - noise * (
            generator.chisquare(test.df - 1, size=(DRAWS, 1)) if test.df > 1 else 0.0
        )
        along = np.sqrt(left.clip(min=0)) - np.sqrt(noise) * generator.normal(size=(DRAWS, 1))
        effect = np.where(left > 0, along.clip(min=0) ** 2, 0.0)
        parts.append(effect / (strata.design.n_seeds * strata.cells_within))
    parts += [part.clip(min=0) for part in strata.components(squares).values()]
    whole = sum(parts)
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.stack([np.quantile(part / whole, ends, axis=0) for part in parts], axis=1)
    return low, high


@statistic(
    "What and how",
    "One row per term, over the metrics of what is learned and over those of how it is encoded.",
    {
        "of": "what is learned (behaviour) or how it is encoded (all other metrics)",
        "term": "factor, or combination of factors",
        "n_metrics": "metrics",
        "n_found": "metrics for which the effect is shown",
        "median_omega_sq": "median of partial ω² over the metrics",
        "lowest": "lowest partial ω²",
        "highest": "highest partial ω²",
        "highest_metric": "the metric that has it",
    },
    place=10,
)
def what_how(fits: Fits) -> pd.DataFrame:
    """How many metrics of behaviour, and of encoding, each effect is shown to change, and how large it is."""
    tests = anova(fits).frame
    behaviour = tests["metric"].str.startswith(BEHAVIOUR)
    rows = []
    for side, part in ((WHAT, tests[behaviour]), (HOW, tests[~behaviour])):
        for term, of_term in part.groupby("term", sort=False):
            omega = of_term["omega_sq"]
            if omega.notna().any():
                top = of_term["metric"].iloc[int(np.nanargmax(omega.to_numpy()))]
                shown = int(of_term["found"].sum())
                rows.append((side, term, len(of_term), shown, omega.median(), omega.min(), omega.max(), top))
    return pd.DataFrame(rows, columns=list(what_how.columns))
