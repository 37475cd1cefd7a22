"""What the learning signals of a step look like: their dimensionality, and how far they are from backpropagation's.

The second study (arXiv 2606.11123) explains the failure of feedback alignment by the effective rank of errors,
gradients and their trajectory. What it does not say is a key here: which effective rank, which matrix of the error of a
convolution, how many gradients at which spacing, centred or not.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from creditlab import spectral


def _ranks(matrix: Tensor) -> dict[str, float]:
    s = spectral.singular_values(matrix)
    return {
        "effective_rank": spectral.effective_rank(s).item(),
        "stable_rank": spectral.stable_rank(s).item(),
        "participation_ratio": spectral.participation_ratio(s).item(),
    }


def gradient(gradient: Tensor) -> dict[str, float]:
    """The dimensionality of the gradient that the rule wrote for a weight, seen as (out, rest).

        exp(−Σ p ln p) with p = σ/Σσ;  Σσ²/σ₁²;  (Σσ²)²/Σσ⁴

    Range: 1 to the rank; 0 for a zero gradient.
    Unit: none.
    Cost: one SVD per layer.
    Source: Roy & Vetterli, EUSIPCO 2007; Boeshertz, Pascanu, Clopath, arXiv 2606.11123, Figs 8, 10, 12.
    Parts: effective_rank, of singular values; stable_rank; participation_ratio, of their squares.
    """
    return _ranks(gradient)


def update(update: Tensor) -> dict[str, float]:
    """The dimensionality of what the optimiser added to a weight in the step, seen as (out, rest).

        exp(−Σ p ln p) with p = σ/Σσ;  Σσ²/σ₁²;  (Σσ²)²/Σσ⁴

    Range: 1 to the rank.
    Unit: none.
    Cost: one SVD per layer.
    Source: Roy & Vetterli, EUSIPCO 2007.
    Parts: effective_rank, of singular values; stable_rank; participation_ratio, of their squares.
    """
    return _ranks(update)


def error(error: Tensor, *, rows: Literal["samples", "positions"]) -> dict[str, float]:
    """The dimensionality of the error signal that arrives at a block's pre-activation.

    Rows of the matrix are samples, with units and positions as columns, or samples and positions, with units as
    columns: the study does not say which one it uses. Without a convolution the two are the same.

        exp(−Σ p ln p) with p = σ/Σσ;  Σσ²/σ₁²;  (Σσ²)²/Σσ⁴

    Range: 1 to the rank, at most the batch size.
    Unit: none.
    Cost: one SVD per block.
    Source: Roy & Vetterli, EUSIPCO 2007; Boeshertz, Pascanu, Clopath, arXiv 2606.11123.
    Parts: effective_rank, of singular values; stable_rank; participation_ratio, of their squares.
    """
    return _ranks(error.flatten(1) if rows == "samples" else error.transpose(1, 2).flatten(0, 1))


def alignment(a: Tensor, b: Tensor) -> dict[str, float]:
    """Cosine of two tensors of one shape, seen as vectors, and their angle in degrees; NaN where one is zero."""
    a, b = a.double().flatten(), b.double().flatten()
    norms = (a.norm() * b.norm()).item()
    cosine = (a @ b).item() / norms if norms > 0 else math.nan
    return {"cosine": cosine, "angle": math.degrees(math.acos(min(1.0, max(-1.0, cosine)))) if norms > 0 else math.nan}


def gradient_to_true(gradient: Tensor, true_gradient: Tensor) -> dict[str, float]:
    """How far the rule's gradient of a weight points from backpropagation's on the same batch.

        cos = ⟨g, g_bp⟩ / ‖g‖‖g_bp‖,   angle = arccos cos

    Range: −1 to 1; 0 to 180°. NaN where one of them is zero.
    Unit: none; degrees.
    Cost: one backward pass, shared.
    Source: Lillicrap et al., Nature Communications 2016; Akrout et al., NeurIPS 2019.
    Parts: cosine; angle.
    """
    return alignment(gradient, true_gradient)


def update_to_true(update: Tensor, true_gradient: Tensor) -> dict[str, float]:
    """How far the step's update of a weight points from backpropagation's direction of descent on the same batch.

        cos = ⟨ΔW, −g_bp⟩ / ‖ΔW‖‖g_bp‖,   angle = arccos cos

    Momentum and adaptive steps turn even backpropagation's own update away.

    Range: −1 to 1; 0 to 180°. NaN where one of them is zero.
    Unit: none; degrees.
    Cost: one backward pass, shared.
    Source: as gradient_to_true.
    Parts: cosine; angle.
    """
    return alignment(update, -true_gradient)


def error_to_true(error: Tensor, true_error: Tensor) -> dict[str, float]:
    """How far the error signal at a block's pre-activation points from backpropagation's on the same batch.

        cos = ⟨δ, δ_bp⟩ / ‖δ‖‖δ_bp‖ over the batch,   angle = arccos cos

    Range: −1 to 1; 0 to 180°. NaN where one of them is zero.
    Unit: none; degrees.
    Cost: one backward pass, shared.
    Source: Lillicrap et al., Nature Communications 2016; Akrout et al., NeurIPS 2019.
    Parts: cosine; angle.
    """
    return alignment(error, true_error)


def trajectory(
    trajectory: Tensor, *, centred: bool, normalised: bool, spectrum: Literal["gram", "gradients"]
) -> dict[str, float]:
    """The dimensionality of the path that the gradients of a weight take: the effective rank of the Gram matrix of the
    last T of them.

    `centred` subtracts their mean first. `normalised` scales them to length 1 first. `spectrum`: the entropy of the
    eigenvalues of the Gram matrix, or of their roots, the singular values of the stacked gradients. The study names the
    Gram matrix and says no more. Long gradients are sketched (see `metrics.trajectory`).

        G = R Rᵀ,  R = gradients (T, entries);   exp(−Σ p ln p) with p = λ/Σλ or √λ/Σ√λ;   (Σλ)²/Σλ²

    Range: 1 to T; 0 for zero gradients, NaN for fewer than two.
    Unit: none.
    Cost: T² entries; one eigendecomposition of T × T per layer.
    Source: Boeshertz, Pascanu, Clopath, arXiv 2606.11123, Figs 9, 11, 13.
    Parts: effective_rank; participation_ratio, of λ; length, the number of gradients so far, at most T.
    """
    length = len(trajectory)
    if length < 2:
        return {"effective_rank": math.nan, "participation_ratio": math.nan, "length": length}
    r = trajectory.double()
    if normalised:
        norms = r.norm(dim=1, keepdim=True)
        r = r / torch.where(norms > 0, norms, 1)
    if centred:
        r = r - r.mean(0)
    gram = r @ r.T
    if not gram.isfinite().all():
        return {"effective_rank": math.nan, "participation_ratio": math.nan, "length": length}
    eigenvalues = torch.linalg.eigvalsh(gram).clamp(min=0)
    values = eigenvalues if spectrum == "gram" else eigenvalues.sqrt()
    return {
        "effective_rank": spectral.effective_rank(values).item(),
        "participation_ratio": spectral.participation_ratio(eigenvalues.sqrt()).item(),
        "length": length,
    }
