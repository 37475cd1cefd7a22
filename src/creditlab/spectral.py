"""Maps on the singular values of matrices G = U Σ Vᵀ, and numbers that summarise a spectrum.

    polar     U Vᵀ                 `newton_schulz`, `polar_express`: five matrix polynomials; `polar`: exact
    top-K     U Σ_K Vᵀ             `keep_top`
    Freon     U Σ^(1−2c) Vᵀ · μ    `freon`: from SGD (c = 0) through Muon (c = ½) to inverted spectra
    Kaon      U κ(Σ) Vᵀ            `kaon`: where κ is a chaotic polynomial

All maps take (..., m, n), tall or wide, treat each matrix of a batch separately, and return the same shape and dtype.
A zero matrix gives zeros. A matrix with an entry that is not finite gives NaN. Functions that end in `_svd` are the
slow, exact forms; the tests compare the fast forms with them.

Sources: Jordan et al., "Muon" (kellerjordan.github.io/posts/muon, 2024); Amsel et al., "The Polar Express" (arXiv
2505.16932); Shumaylov et al., "Muon is Not That Special" (arXiv 2605.11181).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Triple = tuple[float, float, float]  # (a, b, c) of s ← a s + b s³ + c s⁵

JORDAN: Triple = (3.4445, -4.7750, 2.0315)
POLAR_EXPRESS: tuple[Triple, ...] = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
)
POLAR_EXPRESS_LAST: Triple = (1.875, -1.25, 0.375)
SAFETY = 1.01  # room for rounding: Polar Express was fitted to [0, 1] and maps [0, 1.01]
KAON: Triple = (4.1, -8.2, 4.1)  # 4.1 s (1 − s²)²
KAON_SUPPORT = 1.175  # just above the largest value of that map on [0, 1], 1.1735


def as_matrix(weight: Tensor) -> Tensor:
    """A weight of two or more dimensions as (out, rest); a convolution's as (out, in · height · width)."""
    return weight.flatten(1)


def singular_values(x: Tensor) -> Tensor:
    """(..., m, n) → (..., min(m, n)), in falling order, float64; NaN for a matrix with an entry that is not finite.

    For float64 input they come from an SVD, exact to about 1e-15 σ₁. For any other dtype they are the square roots of
    the eigenvalues of the smaller Gram matrix, computed in float64, exact to 6e-8 σ₁. That is how far float32 rounds
    the entries, so σ far below it are rounding errors in any case.
    """
    finite = x.isfinite().all(dim=(-2, -1), keepdim=True)
    y = torch.where(finite, x, 0).double()
    if x.dtype == torch.float64:
        s = torch.linalg.svdvals(y)
    else:
        y = y.mT if x.shape[-2] > x.shape[-1] else y
        s = torch.linalg.eigvalsh(y @ y.mT).clamp_min(0).sqrt().flip(-1)
    return torch.where(finite[..., 0], s, torch.nan)


def effective_rank(s: Tensor) -> Tensor:
    """exp(−Σ p ln p), p = σ/Σσ, of singular values (..., k): in [1, k], 0 for a zero spectrum.

    Source: Roy & Vetterli, "The effective rank", EUSIPCO 2007.
    """
    p = s / s.sum(-1, keepdim=True)
    return torch.where((s == 0).all(-1), 0, torch.special.entr(p).sum(-1).exp())


def stable_rank(s: Tensor) -> Tensor:
    """Σσ²/σ₁² of singular values (..., k): in [1, k], 0 for a zero spectrum.

    Source: Rudelson & Vershynin, "Sampling from large matrices", J. ACM 2007.
    """
    relative = s / s.amax(-1, keepdim=True)
    return torch.where((s == 0).all(-1), 0, relative.square().sum(-1))


def participation_ratio(s: Tensor) -> Tensor:
    """(Σλ)²/Σλ², λ = σ², of singular values (..., k): in [1, k], 0 for a zero spectrum.

    Source: Gao et al., "A theory of multineuronal dimensionality", bioRxiv 214262, 2017.
    """
    eigenvalues = (s / s.amax(-1, keepdim=True)).square()
    return torch.where((s == 0).all(-1), 0, eigenvalues.sum(-1).square() / eigenvalues.square().sum(-1))


def newton_schulz(x: Tensor, *, steps: int, dtype: torch.dtype | None) -> Tensor:
    """An approximate polar factor by Jordan's quintic, iterated in `dtype` (None: that of `x`).

    Five steps take σ/‖x‖_F in [0.005, 1] to [0.68, 1.15]. More steps do not narrow this, because the
    map has no fixed point at 1.
    """
    return _lift(lambda y: _iterate(y, [JORDAN] * steps), x, dtype)


def polar_express(x: Tensor, *, steps: int, dtype: torch.dtype | None) -> Tensor:
    """An approximate polar factor by the minimax quintics of Polar Express, iterated in `dtype` (None: that of `x`).

    Five steps take σ/‖x‖_F in [0.005, 1] to [0.87, 1.12]; eight and more converge to 1.
    """
    return _lift(lambda y: _iterate(y / SAFETY, polar_express_triples(steps)), x, dtype)


def kaon(x: Tensor, *, steps: int, dtype: torch.dtype | None) -> Tensor:
    """σ ← 4.1 σ (1 − σ²)², applied `steps` times to σ/‖x‖_F, then divided by 1.175. The map is deterministic, but the
    singular values look as if drawn at random from [0, 1]. Rounding errors grow up to fourfold per step, so two dtypes
    give different values.
    """
    return _lift(lambda y: _iterate(y, [KAON] * steps) / KAON_SUPPORT, x, dtype)


def polar(x: Tensor) -> Tensor:
    """The exact U Vᵀ, by SVD in float64. Directions beyond the numerical rank of `x` are left out: they are not
    defined, and they would be noise at full size.
    """
    return by_svd(x, lambda s: (s > _rank_tolerance(x)).to(s.dtype))


def keep_top(x: Tensor, *, k: int, flatten: bool, restore_norm: bool) -> Tensor:
    """The `k` leading singular directions of `x`, with their singular values or, if `flatten`, with 1 for each. If
    `restore_norm`, the result is scaled to the Frobenius norm of `x`. By eigendecomposition of the smaller Gram matrix
    in float64.
    """

    def top(y: Tensor) -> Tensor:
        u = torch.linalg.eigh(y @ y.mT)[1][..., -k:]  # (..., m, k), eigenvalues rise
        rows = u.mT @ y  # (..., k, n): σᵢ vᵢᵀ
        if flatten:
            s = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
            rows = torch.where(s > _rank_tolerance(x), rows / s, 0)
        return _unit(u @ rows) if restore_norm else u @ rows

    kept = _lift_exact(top, x)
    return kept if flatten and not restore_norm else kept * _frobenius(x)


def freon(x: Tensor, *, c: float, floor: float) -> Tensor:
    """D = μ (x xᵀ)^(−c) x = μ U Σ^(1−2c) Vᵀ, by eigendecomposition of the smaller Gram matrix in float64.

    μ = (mean σ^q)^((1−q)/q), q = 2(1 − c) (q → 0: the geometric mean of σ), so that ⟨D, x⟩/k is the mean Schatten-q
    norm of x, k = min(m, n). c = 0: x over its RMS singular value; ½: polar factor; 1: inverted spectrum. A
    singular value below `floor` · ‖x‖_F is raised to that in both powers, so the step along its direction falls to zero
    with it. Accurate to about 1e-15 k/floor², relative.
    """

    def power(y: Tensor) -> Tensor:
        eigenvalues, u = torch.linalg.eigh(y @ y.mT)
        s = eigenvalues.clamp_min(floor**2).sqrt()
        factors = _freon_scale(s, c) * s ** (-2 * c)
        return (u * factors.unsqueeze(-2)) @ (u.mT @ y)

    return _lift_exact(power, x)


def _freon_scale(s: Tensor, c: float) -> Tensor:
    """μ of `freon`: (..., k) → (..., 1)."""
    q = 2 * (1 - c)
    if q == 0:
        return s.log().mean(-1, keepdim=True).exp()
    return (s**q).mean(-1, keepdim=True) ** ((1 - q) / q)


def by_svd(x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    """U f(Σ/‖x‖_F) Vᵀ in float64, where f acts on (..., min(m, n)). The reference for every map here."""

    def mapped(y: Tensor) -> Tensor:
        u, s, vh = torch.linalg.svd(y, full_matrices=False)
        return (u * f(s).unsqueeze(-2)) @ vh

    return _lift_exact(mapped, x)


def iterate_svd(x: Tensor, triples: list[Triple], before: float, after: float) -> Tensor:
    """Reference for `newton_schulz`, `polar_express` and `kaon`: s ← a s + b s³ + c s⁵, starting from
    σ/(‖x‖_F `before`) and divided by `after` at the end.
    """

    def mapped(s: Tensor) -> Tensor:
        s = s / before
        for a, b, c in triples:
            s = a * s + b * s**3 + c * s**5
        return s / after

    return by_svd(x, mapped)


def keep_top_svd(x: Tensor, *, k: int, flatten: bool, restore_norm: bool) -> Tensor:
    """Reference for `keep_top`."""

    def mapped(s: Tensor) -> Tensor:
        kept = torch.where(torch.arange(s.shape[-1], device=s.device) < k, s, 0)
        kept = (kept > _rank_tolerance(x)).to(s.dtype) if flatten else kept
        norm = torch.linalg.vector_norm(kept, dim=-1, keepdim=True)
        return kept / norm.clamp_min(torch.finfo(s.dtype).tiny) if restore_norm else kept

    return by_svd(x, mapped) * (1 if flatten and not restore_norm else _frobenius(x))


def freon_svd(x: Tensor, *, c: float, floor: float) -> Tensor:
    """Reference for `freon`."""

    def mapped(s: Tensor) -> Tensor:
        floored = s.clamp_min(floor)
        return _freon_scale(floored, c) * s * floored ** (-2 * c)

    return by_svd(x, mapped)


def polar_express_triples(steps: int) -> list[Triple]:
    """The polynomials of `steps` steps. All but the last one contain the safety factor."""
    safe = [(a / SAFETY, b / SAFETY**3, c / SAFETY**5) for a, b, c in POLAR_EXPRESS[:steps]]
    return safe + [POLAR_EXPRESS_LAST] * (steps - len(safe))


def _iterate(y: Tensor, triples: list[Triple]) -> Tensor:
    """Y ← a Y + (b A + c A²) Y, A = Y Yᵀ, for (..., m, n)."""
    add = torch.addmm if y.ndim == 2 else torch.baddbmm
    shape, y = y.shape, y if y.ndim == 2 else y.reshape(-1, *y.shape[-2:])
    for a, b, c in triples:
        gram = y @ y.mT
        y = add(y, add(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    return y.reshape(shape)


def _lift(f: Callable[[Tensor], Tensor], x: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Apply `f` to any `x`. `f` itself takes wide matrices (rows ≤ columns) of norm 1 or 0 in `dtype`."""
    dtype = dtype or x.dtype
    tall = x.shape[-2] > x.shape[-1]
    precise = torch.promote_types(torch.promote_types(x.dtype, torch.float32), dtype)
    y = _unit(x.to(precise)).to(dtype)
    y = f(y.mT if tall else y)
    return (y.mT if tall else y).to(x.dtype)


def _lift_exact(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`_lift` in float64 for an `f` that raises on entries that are not finite: such a matrix gives NaN."""
    finite = x.isfinite().all(dim=(-2, -1), keepdim=True)
    return torch.where(finite, _lift(f, torch.where(finite, x, 0), torch.float64), torch.nan)


def _unit(x: Tensor) -> Tensor:
    """x/‖x‖_F, safe from underflow and overflow. Zeros stay zeros. Entries that are not finite give NaN."""
    tiny = torch.finfo(x.dtype).tiny
    x = x / x.abs().amax(dim=(-2, -1), keepdim=True).clamp_min(tiny)
    return x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(tiny)


def _frobenius(x: Tensor) -> Tensor:
    """‖x‖_F as (..., 1, 1)."""
    return torch.linalg.matrix_norm(x.double(), keepdim=True).to(x.dtype)


def _rank_tolerance(x: Tensor) -> float:
    """The σ/‖x‖_F below which a direction of `x` is a rounding error."""
    return max(x.shape[-2:]) * torch.finfo(torch.promote_types(x.dtype, torch.float32)).eps
