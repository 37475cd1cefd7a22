"""Restricted maximum likelihood (REML) of many metrics on one design, with degrees of freedom for tests.

    y = X β + Σ_k Z_k u_k + e        V = σ² (I + Σ_k θ_k Z_k Z_k')

The variances θ_k σ² may be negative (SAS calls it NOBOUND); only V must be positive definite. Where the deviance is
least at a V that is singular, as it can be where few seeds tell two variances apart, none may be negative. The runs are
read once, for X'X, X'Z, Z'Z, X'y, Z'y and y'y. With G = Z'PZ, b = Z'Py and c = y'Py, where P takes X out, and
D = diag(θ_k):

    T = (I + GD)⁻¹G    t = (I + GD)⁻¹b    q = c − b'Dt    deviance(θ) = log|I + GD| + ν log q    σ² = q/ν

whose first and second derivatives are known in closed form, so that Newton's method takes few steps. Degrees of
freedom: Kenward & Roger (1997, Biometrics 53), and where ν = n − p exceeds 1,000, Satterthwaite's, which then agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy import linalg

KENWARD_ROGER_UP_TO = 1000  # residual degrees of freedom
STEPS = 100
HALVINGS = 40
EDGE = 1e-3  # of σ²: V with a smaller eigenvalue is as good as singular
CLOSE = 1e-10  # of a step or a slope, relative: converged


class Reml:
    """The model with fixed columns `x` (runs, p) of full rank and random columns `z` [(runs, q_k), …], fitted to each
    metric of `values` (runs, metrics).
    """

    def __init__(self, x: np.ndarray, z: Sequence[np.ndarray], values: np.ndarray) -> None:
        self.average, spread = values.mean(axis=0), values.std(axis=0)
        self.spread = np.where(spread > 0, spread, 1.0)
        y = (values - self.average) / self.spread
        self.n, self.p = x.shape
        self.nu = self.n - self.p
        ends = np.cumsum([0, *(block.shape[1] for block in z)])
        self.blocks = [slice(int(a), int(b)) for a, b in pairwise(ends)]
        self.of_block = np.repeat(np.arange(len(z)), np.diff(ends))
        side = np.hstack([np.zeros((self.n, 0)), *z])
        self.xx, self.xz, self.zz = x.T @ x, x.T @ side, side.T @ side
        self.xy, self.zy = x.T @ y, side.T @ y
        factor = linalg.cho_factor(self.xx)
        coefficients = linalg.cho_solve(factor, self.xy)
        g = self.zz - self.xz.T @ linalg.cho_solve(factor, self.xz)
        self.g = (g + g.T) / 2
        self.b = self.zy - self.xz.T @ coefficients
        self.c = (y**2).sum(axis=0) - (self.xy * coefficients).sum(axis=0)
        self.solutions = [_solve(self, metric) for metric in range(values.shape[1])]

    def positive(self, theta: np.ndarray) -> bool:
        """Whether V is positive definite: by Sylvester's law, D⁻¹ + Z'Z then has as many negative eigenvalues as D."""
        if (theta >= 0).all():
            return True
        d = theta[self.of_block]
        d = np.where(np.abs(d) < 1e-12, 1e-12, d)
        values = np.linalg.eigvalsh(np.diag(1 / d) + self.zz)
        return int((values < 0).sum()) == int((d < 0).sum())

    def slopes(self, theta: np.ndarray, metric: int) -> Slopes | None:
        """The deviance at θ with its derivatives; None where it has none."""
        b, d = self.b[:, metric], theta[self.of_block]
        inner = np.eye(len(d)) + self.g * d
        lower_upper, pivots = linalg.lu_factor(inner, check_finite=False)
        diagonal = lower_upper.diagonal()
        swaps = int((pivots != np.arange(len(pivots))).sum())
        if np.prod(np.sign(diagonal)) * (-1) ** swaps <= 0:
            return None
        log_det = float(np.log(np.abs(diagonal)).sum())
        solved = linalg.lu_solve((lower_upper, pivots), np.column_stack([self.g, b]), check_finite=False)
        big, small = solved[:, :-1], solved[:, -1]
        q = float(self.c[metric] - b @ (d * small))
        if q <= 0:
            return None
        blocks = self.blocks
        traces = np.array([np.trace(big[a, a]) for a in blocks])
        norms = np.array([small[a] @ small[a] for a in blocks])
        squares = np.array([[(big[a, b] * big[b, a].T).sum() for b in blocks] for a in blocks]).reshape(len(blocks), -1)
        crossed = np.array([[small[a] @ big[a, b] @ small[b] for b in blocks] for a in blocks]).reshape(len(blocks), -1)
        return Slopes(log_det + self.nu * np.log(q), q, traces, norms, squares, crossed)

    @property
    def deviance(self) -> np.ndarray:
        """−2 log restricted likelihood, (metrics,), as lme4 gives it."""
        log_x = np.linalg.slogdet(self.xx)[1]
        of_metrics = np.array([s.slopes.deviance for s in self.solutions])
        return of_metrics + log_x + self.nu * (1 + np.log(2 * np.pi / self.nu)) + 2 * self.nu * np.log(self.spread)


@dataclass(frozen=True)
class Slopes:
    """The deviance at a θ, and the traces and norms that its derivatives are made of."""

    deviance: float
    q: float
    traces: np.ndarray  # tr T_kk
    norms: np.ndarray  # |t_k|²
    squares: np.ndarray  # |T_kl|²
    crossed: np.ndarray  # t_k' T_kl t_l

    def gradient(self, nu: int) -> np.ndarray:
        return self.traces - nu * self.norms / self.q

    def hessian(self, nu: int) -> np.ndarray:
        return -self.squares + nu * (2 * self.crossed / self.q - np.outer(self.norms, self.norms) / self.q**2)


def _solve(model: Reml, metric: int) -> Solution:
    """The θ of least deviance; of θ ≥ 0 where the least lies where V is singular, so that it says nothing of errors."""
    theta, at = _descend(model, metric, least=-np.inf)
    if not model.positive(theta / (1 - EDGE)):  # V less EDGE σ² is not positive definite
        theta, at = _descend(model, metric, least=0.0)
    return Solution(model, metric, theta, at)


def _descend(model: Reml, metric: int, least: float) -> tuple[np.ndarray, Slopes]:
    """The θ ≥ `least` of least deviance, by Newton's method with halved steps."""
    nu = model.nu
    theta = np.full(len(model.blocks), 0.2)
    at = model.slopes(theta, metric)
    assert at is not None  # V is positive definite where no θ is negative, and no metric is fitted exactly
    for _ in range(STEPS if len(theta) else 0):
        gradient = at.gradient(nu)
        free = ~((theta <= least) & (gradient >= 0))
        slope = np.abs(gradient * np.maximum(np.abs(theta), 1e-3))[free]
        if slope.size == 0 or slope.max() < CLOSE * nu:
            break
        scale = np.sqrt(np.maximum(at.squares.diagonal(), 1e-300))[free]
        values, vectors = np.linalg.eigh(at.hessian(nu)[np.ix_(free, free)] / np.outer(scale, scale))
        values = np.maximum(np.abs(values), 1e-3 * np.abs(values).max())
        step = np.zeros(len(theta))
        step[free] = -(vectors @ ((vectors.T @ (gradient[free] / scale)) / values)) / scale
        for _ in range(HALVINGS):
            new = np.maximum(theta + step, least)
            better = model.slopes(new, metric) if model.positive(new) else None
            if better is not None and better.deviance <= at.deviance + 1e-12 * abs(at.deviance) + 1e-13:
                break
            step = step / 2
        else:
            break
        moved = np.abs(new - theta).max() > 1e-13 * (1 + np.abs(theta).max())
        theta, at = new, better
        if not moved:
            break
    return theta, at


class Solution:
    """The model of one metric, in units of the metric's spread: estimates, errors, degrees of freedom."""

    def __init__(self, model: Reml, metric: int, theta: np.ndarray, at: Slopes) -> None:
        self.model, self.metric, self.theta, self.slopes = model, metric, theta, at
        self.sigma_sq = at.q / model.nu
        d = theta[model.of_block]
        inner = np.eye(len(d)) + model.zz * d
        self.s = np.linalg.solve(inner, model.zz)  # Z'V⁻¹Z, with σ² = 1
        self.r = np.linalg.solve(inner, model.xz.T).T  # X'V⁻¹Z
        precision = model.xx - self.r @ (d[:, None] * model.xz.T)
        self.precision = (precision + precision.T) / 2  # X'V⁻¹X
        self.inverse = np.linalg.inv(self.precision)
        self.beta = self.inverse @ (model.xy[:, metric] - self.r @ (d * model.zy[:, metric]))

    @property
    def _kenward_roger(self) -> bool:
        return self.model.nu <= KENWARD_ROGER_UP_TO

    def f_test(self, rows: np.ndarray) -> tuple[float, float]:
        """F and its denominator's degrees of freedom for the hypothesis `rows` (hypotheses, columns) · β = 0; NaN where
        the variances lie so near the edge of what is possible that they have none."""
        return self._f_kenward_roger(rows) if self._kenward_roger else self._f_satterthwaite(rows)

    def estimate(self, row: np.ndarray) -> tuple[float, float, float]:
        """`row` · β with its standard error and degrees of freedom."""
        if self._kenward_roger:
            variance = float(row @ self._adjusted @ row)
            error = math.sqrt(variance) if variance > 0 else math.nan  # below 0 at the edge of what is possible
            df = self._f_kenward_roger(row[None])[1]
        else:
            error = float(np.sqrt(row @ self.inverse @ row * self.sigma_sq))
            df = self._f_satterthwaite(row[None])[1]
        return float(row @ self.beta), error, df

    # Satterthwaite

    @cached_property
    def _variance_of_variances(self) -> np.ndarray:
        """Covariance of the estimates of (σ² of V, σ² θ_k): twice the inverse of the deviance's second derivatives."""
        at, nu = self.slopes, self.model.nu
        k = len(self.theta)
        second = np.empty((k + 1, k + 1))
        second[0, 0] = nu
        second[0, 1:] = second[1:, 0] = -at.traces + 2 * at.norms / self.sigma_sq
        second[1:, 1:] = -at.squares + 2 * at.crossed / self.sigma_sq
        return 2 * np.linalg.pinv(second)

    def _f_satterthwaite(self, rows: np.ndarray) -> tuple[float, float]:
        value, covariance = rows @ self.beta, rows @ self.inverse @ rows.T * self.sigma_sq
        variances, vectors = np.linalg.eigh(covariance)
        turned = vectors.T @ rows
        ahead = turned @ self.inverse
        slopes = [np.einsum("ij,ij->i", ahead, turned)]
        slopes += [((ahead @ self.r[:, block]) ** 2).sum(axis=1) for block in self.model.blocks]
        gradient = np.stack(slopes, axis=1)  # of each variance, in units of σ²
        dfs = 2 * gradient[:, 0] ** 2 / np.einsum("ij,jk,ik->i", gradient, self._variance_of_variances, gradient)
        f = float(((vectors.T @ value) ** 2 / variances).mean())
        if len(dfs) == 1 or np.ptp(dfs) < 1e-8:
            return f, float(dfs.mean())
        if (dfs <= 2).any():
            return f, 2.0
        total = float((dfs / (dfs - 2)).sum())
        return f, 2 * total / (total - len(dfs))

    # Kenward & Roger

    @cached_property
    def _pieces(self) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """P_k of Kenward & Roger for (σ², σ² θ_k), W = covariance of the variances, and Φ."""
        model, blocks, phi = self.model, self.model.blocks, self.inverse * self.sigma_sq
        r = [self.r[:, block] for block in blocks]
        p = [-self.precision / self.sigma_sq, *(-each @ each.T / self.sigma_sq for each in r)]
        k = len(p)
        traces = np.empty((k, k))
        for a in range(k):
            for b in range(a, k):
                if b == 0:
                    trace = float(model.n)
                elif a == 0:
                    trace = float(np.trace(self.s[blocks[b - 1], blocks[b - 1]]))
                else:
                    trace = float((self.s[blocks[a - 1], blocks[b - 1]] * self.s[blocks[b - 1], blocks[a - 1]].T).sum())
                product = float((phi * self._q(a, b, p, r).T).sum())
                chained = float(np.trace(phi @ p[a] @ phi @ p[b]))
                traces[a, b] = traces[b, a] = trace - 2 * product + chained
        return p, 2 * np.linalg.pinv(traces), phi

    def _q(self, a: int, b: int, p: list[np.ndarray], r: list[np.ndarray]) -> np.ndarray:
        if a == 0:
            return -p[b]
        if b == 0:
            return -p[a]
        blocks = self.model.blocks
        return r[a - 1] @ self.s[blocks[a - 1], blocks[b - 1]] @ r[b - 1].T / self.sigma_sq

    @cached_property
    def _adjusted(self) -> np.ndarray:
        """The covariance of β with Kenward & Roger's correction for variances that are estimated."""
        p, w, phi = self._pieces
        r = [self.r[:, block] for block in self.model.blocks]
        k = range(len(p))
        correction = sum(w[a, b] * (self._q(a, b, p, r) - p[a] @ phi @ p[b]) for a in k for b in k)
        adjusted = phi + 2 * phi @ correction @ phi
        return (adjusted + adjusted.T) / 2

    def _f_kenward_roger(self, rows: np.ndarray) -> tuple[float, float]:
        p, w, phi = self._pieces
        size, k = len(rows), range(len(p))
        theta = rows.T @ np.linalg.solve(rows @ phi @ rows.T, rows)
        turned = [theta @ phi @ each @ phi for each in p]
        traces = np.array([np.trace(each) for each in turned])
        a1 = float(traces @ w @ traces)
        a2 = sum(float(w[a, b]) * float((turned[a] * turned[b].T).sum()) for a in k for b in k)
        bracket = (a1 + 6 * a2) / (2 * size)
        g = ((size + 1) * a1 - (size + 4) * a2) / ((size + 2) * a2)
        shared = 3 * size + 2 * (1 - g)
        c1, c2, c3 = g / shared, (size - g) / shared, (size + 2 - g) / shared
        v0, v1, v2 = 1 + c1 * bracket, 1 - c2 * bracket, 1 - c3 * bracket
        v0 = 0.0 if abs(v0) < 1e-10 else v0
        rho = v0 / (v1**2 * v2) / size * (1 - a2 / size) ** 2
        if abs(size * rho - 1) < 1e-12:  # variances at the edge of what is possible have no degrees of freedom
            return float("nan"), float("nan")
        df = 4 + (size + 2) / (size * rho - 1)
        scale = df * (1 - a2 / size) / (df - 2) if abs(df - 2) > 1e-2 else 1 - a2 / size
        value = rows @ self.beta
        f = scale * float(value @ np.linalg.solve(rows @ self._adjusted @ rows.T, value)) / size
        return f, df
