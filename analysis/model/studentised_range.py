"""The studentised range, for many pairs of means at once: scipy's takes one at a time and seconds for thousands.

Of k normal means, w their range and s² an independent χ²_ν/ν:
    P(q) = ∫ f_ν(s) W(qs) ds    W(w) = k ∫ φ(z) [Φ(z) − Φ(z − w)]^(k−1) dz
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import special, stats
from scipy.interpolate import CubicSpline

from creditlab.analysis.names import LEVEL


@cache
def _range_of_normals(k: int) -> CubicSpline:
    """1 − W(w) of k normals."""
    z, weight = np.polynomial.legendre.leggauss(200)
    z, weight = 9 * z, 9 * weight
    w = np.linspace(0, 60, 1501)
    # As 1 = k ∫ φ Φ^(k−1), the difference of the integrands keeps the digits that 1 − W would lose.
    below = special.ndtr(z)[None, :] ** (k - 1)
    inside = (special.ndtr(z)[None, :] - special.ndtr(z[None, :] - w[:, None])) ** (k - 1)
    density = k * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    beyond = ((below - inside) * density * weight).sum(axis=1)
    return CubicSpline(w, beyond)


def range_sf(q: np.ndarray, k: int, df: np.ndarray) -> np.ndarray:
    """P(Q > q) of the studentised range of k means, elementwise; absolute error below 1e-8."""
    q, df = np.broadcast_arrays(np.asarray(q, float), np.asarray(df, float))
    node, weight = np.polynomial.legendre.leggauss(96)
    low, high = (np.sqrt(stats.chi2.ppf(edge, df) / df) for edge in (1e-13, 1 - 1e-13))
    s = low[..., None] + (high - low)[..., None] * (node + 1) / 2
    density = 2 * df[..., None] * s * stats.chi2.pdf(df[..., None] * s**2, df[..., None])
    beyond = _range_of_normals(k)((q[..., None] * s).clip(0, 60))
    return ((density * beyond * weight).sum(axis=-1) * (high - low) / 2).clip(0, 1)


def range_quantile(k: int, df: np.ndarray) -> np.ndarray:
    """The q that the studentised range of k means exceeds with probability 1 − LEVEL, by Newton's method on
    log P over log q."""
    df = np.asarray(df, float)
    q = np.sqrt(2) * stats.t.isf((1 - LEVEL) / (2 * k), df)  # not far off
    for _ in range(8):
        here, above = range_sf(q, k, df), range_sf(q * (1 + 1e-5), k, df)
        slope = (np.log(above) - np.log(here)) / np.log(1 + 1e-5)
        q = q * np.exp((np.log(1 - LEVEL) - np.log(here)) / slope)
    return q
