"""From the seeds there are: how many a difference would need.

A paired comparison of two levels over n seeds with a true difference Δ and the standard deviation σ of the differences
between seeds has Student's t with noncentrality √n Δ/σ. σ of a few pilot seeds is uncertain, and often too small:
beside the number for σ as estimated stands that for the upper end of its one-sided 80 % interval (Browne 1995, Stat.
Med. 14).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special, stats

from creditlab.analysis.effects.posthoc import PAIR, posthoc
from creditlab.analysis.model.fits import Fits
from creditlab.analysis.names import ALPHA
from creditlab.analysis.table import statistic

POWER = 0.8
MOST = 100_000  # seeds


def power_of(seeds: np.ndarray, standardised: np.ndarray) -> np.ndarray:
    """The chance that a two-sided paired t test at ALPHA sees a difference of `standardised` = Δ/σ."""
    seeds, standardised = np.broadcast_arrays(np.asarray(seeds, float), np.abs(standardised))
    df = (seeds - 1)[..., None]
    beyond, shift = stats.t.isf(ALPHA / 2, df), (np.sqrt(seeds) * standardised)[..., None]
    # ∫ [Φ(shift − s beyond) + Φ(−shift − s beyond)] over s, of which df s² is a χ² (scipy's nct is NaN of large shifts)
    node, weight = np.polynomial.legendre.leggauss(96)
    low, high = (np.sqrt(stats.chi2.ppf(edge, df) / df) for edge in (1e-13, 1 - 1e-13))
    s = low + (high - low) * (node + 1) / 2
    density = 2 * df * s * stats.chi2.pdf(df * s**2, df)
    seen = special.ndtr(shift - s * beyond) + special.ndtr(-shift - s * beyond)
    return ((density * seen * weight).sum(axis=-1) * (high - low)[..., 0] / 2).clip(0, 1)


def seeds_for(standardised: np.ndarray) -> np.ndarray:
    """The least number of seeds with power POWER, elementwise; infinite above MOST."""
    effect = np.abs(np.asarray(standardised, float))
    # The normal approximation is never far below; from there the exact power decides.
    z = stats.norm.isf(ALPHA / 2) + stats.norm.ppf(POWER)
    with np.errstate(divide="ignore"):
        start = np.ceil((z / effect) ** 2)
    seeds = np.clip(np.where(np.isfinite(start), start, MOST + 1), 2, MOST + 1)
    for _ in range(20):
        short = (seeds <= MOST) & (power_of(seeds, effect) < POWER)
        if not short.any():
            break
        seeds = seeds + short
    return np.where(np.isnan(effect), np.nan, np.where(seeds > MOST, np.inf, seeds))


@statistic(
    "Power",
    "One row per metric and pair of levels that share seeds.",
    {
        **{name: PAIR[name] for name in ("metric", "factor", "level_a", "level_b")},
        "seeds": "seeds that both levels have",
        "effect": ("the difference to be seen; by default the one observed", "the metric's"),
        "sd": ("standard deviation of the difference between seeds", "the metric's"),
        "sd_high": ("upper end of its one-sided interval of 80 %", "the metric's"),
        "power_now": "chance that the seeds at hand show the difference",
        "seeds_needed": "seeds for a power of 0.8, with sd",
        "seeds_needed_safe": "seeds for a power of 0.8, with sd_high",
    },
    place=180,
)
def power(fits: Fits, effect: float | None = None) -> pd.DataFrame:
    """How many seeds each paired comparison needs; `effect` is the difference to be seen, in the metric's unit (None:
    the one observed)."""
    comparisons = posthoc(fits).frame
    rows = comparisons[comparisons["method"] == "paired"].reset_index(drop=True)
    seeds = rows["n_a"].to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):  # seeds that do not differ: NaN
        sd = np.abs(rows["difference"].to_numpy(float) / rows["t"].to_numpy(float)) * np.sqrt(seeds)
    sd_high = sd * np.sqrt((seeds - 1) / stats.chi2.ppf(0.2, seeds - 1))
    wanted = rows["difference"].to_numpy(float) if effect is None else np.full(len(rows), float(effect))
    table = rows[["metric", "factor", "level_a", "level_b"]].assign(seeds=rows["n_a"], effect=wanted, sd=sd)
    table["sd_high"] = sd_high
    with np.errstate(divide="ignore", invalid="ignore"):  # seeds that do not differ: NaN
        table["power_now"] = power_of(seeds, wanted / sd)
        table["seeds_needed"] = seeds_for(wanted / sd)
        table["seeds_needed_safe"] = seeds_for(wanted / sd_high)
    return table[list(power.columns)]
