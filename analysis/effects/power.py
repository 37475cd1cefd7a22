"""What the seeds of a sweep can show, and how many seeds a difference of a given size would need.

The paired comparison of two levels over n seeds has Student's t; with a true difference Δ and the standard deviation σ
of the differences between seeds its noncentrality is √n Δ/σ. σ of a few seeds is uncertain and often too small, so the
upper end of its one-sided 80 % interval stands in for it (Browne 1995, Stat. Med. 14). The level is .05 over all pairs
of the factor (Bonferroni). The power of the observed difference says no more than its p, and is not given.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from creditlab.analysis.effects.posthoc import PAIR, pairs
from creditlab.analysis.model.fits import Fits
from creditlab.analysis.names import ALPHA
from creditlab.analysis.table import statistic

POWER = 0.8
MOST = 100_000  # seeds


def power_of(seeds: np.ndarray, standardised: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """The chance that a two-sided paired t test at `alpha` sees a difference of `standardised` = Δ/σ."""
    seeds, standardised = np.broadcast_arrays(np.asarray(seeds, float), np.abs(standardised))
    df = (seeds - 1)[..., None]
    beyond, shift = stats.t.isf(alpha / 2, df), (np.sqrt(seeds) * standardised)[..., None]
    # ∫ [Φ(shift − s beyond) + Φ(−shift − s beyond)] over s, of which df s² is a χ² (scipy's nct is NaN of large shifts)
    node, weight = np.polynomial.legendre.leggauss(96)
    low, high = (np.sqrt(stats.chi2.ppf(edge, df) / df) for edge in (1e-13, 1 - 1e-13))
    s = low + (high - low) * (node + 1) / 2
    density = 2 * df * s * stats.chi2.pdf(df * s**2, df)
    seen = special.ndtr(shift - s * beyond) + special.ndtr(-shift - s * beyond)
    return ((density * seen * weight).sum(axis=-1) * (high - low)[..., 0] / 2).clip(0, 1)


@cache
def smallest_shown(seeds: int, alpha: float = ALPHA) -> float:
    """The difference, in standard deviations between seeds, that `seeds` seeds show with power POWER at `alpha`."""
    if seeds < 2:
        return float("nan")
    most = 10.0
    while power_of(np.array(seeds), np.array(most), alpha) < POWER:
        most *= 10
    return float(optimize.brentq(lambda d: float(power_of(np.array(seeds), np.array(d), alpha)) - POWER, 0, most))


def seeds_for(standardised: np.ndarray, alpha: float = ALPHA) -> np.ndarray:
    """The least number of seeds with power POWER at `alpha`, elementwise; infinite above MOST."""
    effect = np.abs(np.asarray(standardised, float))
    # The normal approximation is never far below; from there the exact power decides.
    z = stats.norm.isf(alpha / 2) + stats.norm.ppf(POWER)
    with np.errstate(divide="ignore"):
        start = np.ceil((z / effect) ** 2)
    seeds = np.clip(np.where(np.isfinite(start), start, MOST + 1), 2, MOST + 1)
    for _ in range(50):
        short = (seeds <= MOST) & (power_of(seeds, effect, alpha) < POWER)
        if not short.any():
            break
        seeds = seeds + short
    return np.where(np.isnan(effect), np.nan, np.where(seeds > MOST, np.inf, seeds))


@statistic(
    "Power",
    "One row per metric and pair of levels.",
    {
        **{name: PAIR[name] for name in ("metric", "factor", "level_a", "level_b", "seeds", "scale")},
        "sd": ("standard deviation of the difference between seeds", "the scale's"),
        "sd_high": ("upper end of its one-sided interval of 80 %", "the scale's"),
        "smallest": ("smallest difference that these seeds show with a power of 0.8, with sd_high", "the scale's"),
        "effect": ("the difference to be seen, if one is given", "the scale's"),
        "seeds_needed": "seeds that show `effect` with a power of 0.8, with sd_high",
    },
    place=180,
)
def power(fits: Fits, effect: float | None = None) -> pd.DataFrame:
    """The smallest difference that the seeds of each comparison can show; for an `effect`, how many seeds it needs."""
    rows = pairs(fits)
    rows = rows[rows["at"] == ""].reset_index(drop=True)
    if rows.empty:
        return power.empty()
    seeds, df = rows["seeds"].to_numpy(float), rows["df"].to_numpy(float)
    sd = rows["error"].to_numpy(float) * np.sqrt(seeds)
    table = rows[["metric", "factor", "level_a", "level_b", "seeds", "scale"]].assign(sd=sd)
    table["sd_high"] = sd * np.sqrt(df / stats.chi2.ppf(0.2, df))
    alpha = ALPHA / rows.groupby(["metric", "factor"])["p"].transform("size")
    units = [smallest_shown(int(n), float(a)) for n, a in zip(seeds, alpha, strict=True)]
    table["smallest"] = table["sd_high"] * units
    table["effect"] = np.nan if effect is None else float(effect)
    table["seeds_needed"] = np.nan
    if effect is not None:
        for level in np.unique(alpha):
            at = (alpha == level).to_numpy()
            table.loc[at, "seeds_needed"] = seeds_for(effect / table["sd_high"].to_numpy()[at], float(level))
    return table[list(power.columns)]
