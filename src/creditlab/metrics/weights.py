"""What a weight matrix W (out, rest) looks like: a row is a unit's weights, a convolution's filters are flattened.

σ are the singular values, in falling order, k = min(out, rest) of them. What is not defined, as for a zero matrix, is
NaN, and so is all that is asked of a matrix with an entry that is not finite. Computed in float64 by default.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from creditlab import spectral
from creditlab.keys import PositiveInt

RESOLUTION = 1e-6  # σ/σ₁ below which singular values of float32 weights are rounding, with room to spare


# --- the spectrum


def stable_rank(singular_values: Tensor) -> float:
    """How many directions the weight spreads its energy over, judged by the first; free of scale. 0 for a zero matrix.

        Σσ² / σ₁²

    Range: 1 to the rank.
    Unit: none.
    Cost: one set of singular values, shared.
    Source: Rudelson & Vershynin, "Sampling from large matrices", J. ACM 2007.
    """
    return spectral.stable_rank(singular_values).item()


def direction_stable_rank(weight: Tensor) -> float:
    """The stable rank with every row scaled to length 1: how far the units' directions alone are spread. A stable rank
    that is low while this one is not comes from rows of unequal length. Rows of zeros are left out; 0 if none is left.

        n / σ₁²,   σ₁ of the matrix of the n rows wᵢ/‖wᵢ‖

    Range: 1 to the rank.
    Unit: none.
    Cost: one set of singular values of its own (rows rounded to float32, which keeps 1e-7).
    Source: creditlab, as a control for `stable_rank`.
    """
    rows = weight.double()
    norms = rows.norm(dim=1, keepdim=True)
    return stable_rank(spectral.singular_values((rows / torch.where(norms == 0, 1, norms)).float()))


def effective_rank(singular_values: Tensor) -> float:
    """How many directions the weight uses, by the entropy of its singular values (not their squares); free of scale.
    0 for a zero matrix.

        exp(−Σ p ln p),   p = σ/Σσ

    Range: 1 to the rank.
    Unit: none.
    Cost: one set of singular values, shared.
    Source: Roy & Vetterli, "The effective rank", EUSIPCO 2007.
    """
    return spectral.effective_rank(singular_values).item()


def participation_ratio(singular_values: Tensor) -> float:
    """How many directions share the weight's energy about equally; free of scale. 0 for a zero matrix.

        (Σσ²)² / Σσ⁴

    Range: 1 to the rank.
    Unit: none.
    Cost: one set of singular values, shared.
    Source: Gao et al., "A theory of multineuronal dimensionality", bioRxiv 214262, 2017.
    """
    return spectral.participation_ratio(singular_values).item()


def spectral_norm(singular_values: Tensor) -> float:
    """The most by which the weight can stretch an input.

        σ₁

    Range: 0 or more.
    Unit: weight.
    Cost: one set of singular values, shared.
    Source: Golub & Van Loan, "Matrix Computations", 4th edition, 2.3.
    """
    return singular_values.max().item()


def frobenius_norm(singular_values: Tensor) -> float:
    """The size of the weight, over all of its entries.

        √Σσ² = √Σ wᵢⱼ²

    Range: 0 or more.
    Unit: weight.
    Cost: one set of singular values, shared.
    Source: Golub & Van Loan, "Matrix Computations", 4th edition, 2.3.
    """
    return singular_values.norm().item()


def spectral_entropy(singular_values: Tensor) -> float:
    """How evenly the weight's energy is spread over its directions: the entropy of the squared singular values,
    normalised by its greatest value. Not the log of `effective_rank`, which takes them unsquared. NaN for a zero matrix
    and for k = 1.

        −Σ p ln p / ln k,   p = σ²/Σσ²

    Range: 0 (one direction) to 1 (all equal).
    Unit: none.
    Cost: one set of singular values, shared.
    Source: Alter, Brown & Botstein, PNAS 2000; "matrix entropy" in WeightWatcher.
    """
    p = (singular_values / singular_values.max()).square()
    return (torch.special.entr(p / p.sum()).sum() / math.log(len(p))).item() if len(p) > 1 else math.nan


def tail(singular_values: Tensor) -> dict[str, float]:
    """The power law λ^−α fitted to the upper tail of the eigenvalues of WᵀW. Maximum likelihood above each eigenvalue
    in turn; the fit that is nearest to its own tail counts. Look at the distance: weights at initialisation follow no
    power law, and still get an exponent, from 3 to 11 and so often unflagged, but at distances beyond 0.1. σ below
    1e-6 σ₁ are left out; NaN where fewer than two different ones are left.

        α = 1 + n / Σ ln(λ/λ_min) over the n eigenvalues λ = σ² ≥ λ_min;
        λ_min minimises max |S(λ) − 1 + (λ/λ_min)^(1−α)|, S the share of the tail below λ

    Range: exponent 1 or more, 2 to 6 in trained networks; distance 0 to 1; spurious 0 or 1.
    Unit: none.
    Cost: one set of singular values, shared; k² powers.
    Source: Clauset, Shalizi & Newman, SIAM Review 2009; Martin & Mahoney, JMLR 2021 (WeightWatcher).
    Parts: exponent, α; distance, the Kolmogorov-Smirnov distance of the fit; spurious, 1 if α > 8 or there are fewer
    than 50 eigenvalues, else 0.
    """
    s = singular_values[singular_values > RESOLUTION * singular_values.max()]
    logs = 2 * s.log().flip(0)  # of the eigenvalues, rising
    k = len(logs)
    if k < 2 or logs[-1] - logs[0] < RESOLUTION:
        return {"exponent": math.nan, "distance": math.nan, "spurious": math.nan}
    rank = torch.arange(k, dtype=logs.dtype, device=logs.device)
    n = (k - rank)[:-1, None]  # (k − 1, 1): the size of each tail
    above = logs - logs[:-1, None]  # (k − 1, k): ln(λ/λ_min), meant at and above the diagonal
    slope = n / above.triu().sum(1, keepdim=True).clamp_min(RESOLUTION**2)  # α − 1
    fitted, seen = -torch.expm1(-slope * above), (rank - rank[:-1, None]) / n
    distance, best = (fitted - seen).triu().abs().amax(1).min(0)
    exponent = 1 + slope[best].item()
    return {"exponent": exponent, "distance": distance.item(), "spurious": float(exponent > 8 or k < 50)}


# --- angles


def neuron_angle(weight: Tensor) -> float:
    """How far apart the units' weights point: the mean angle over all pairs of rows. 90° is what random directions
    give, not a result of training: their mean scatters about it by √(2/n(n−1)) of `neuron_angle_null_spread`. Rows of
    zeros have no direction and are left out; NaN where fewer than two are left.

        mean over i < j of arccos(wᵢ·wⱼ / ‖wᵢ‖‖wⱼ‖)

    Range: 0 to 180.
    Unit: degrees.
    Cost: W Wᵀ.
    Source: the first study's "neuron angle".
    """
    return _angles(weight)[0].mean().item()


def neuron_angle_spread(weight: Tensor) -> float:
    """How much the angles between rows differ from pair to pair; compare it with `neuron_angle_null_spread`. NaN
    where `neuron_angle` is.

        standard deviation over i < j of arccos(wᵢ·wⱼ / ‖wᵢ‖‖wⱼ‖)

    Range: 0 to 90.
    Unit: degrees.
    Cost: W Wᵀ.
    Source: creditlab.
    """
    angles = _angles(weight)[0]
    return (angles - angles.mean()).square().mean().sqrt().item()


def neuron_angle_null_spread(weight: Tensor) -> float:
    """The spread of the angle between random directions in as many dimensions as a row has; their mean angle is 90°.
    Exact; about 57.3°/√rest.

        √(ψ₁(rest/2) / 2),   ψ₁ the trigamma function

    Range: 90 (one dimension) down to 0.
    Unit: degrees.
    Cost: none.
    Source: creditlab, from the density sin^(rest−2) θ, whose characteristic function is a ratio of Gammas.
    """
    half = torch.tensor(weight.shape[1] / 2, dtype=torch.float64)
    return math.degrees(math.sqrt(torch.special.polygamma(1, half).item() / 2))


def neuron_angle_pairs(weight: Tensor, dead: Tensor) -> dict[str, float]:
    """The mean angle of `neuron_angle` apart for pairs of living and of dead units, which it is the mean of in
    proportion to their numbers: if most units are dead, it describes those. NaN for a kind of pair that there is not.

        mean over i < j of each kind of arccos(wᵢ·wⱼ / ‖wᵢ‖‖wⱼ‖)

    Range: angles 0 to 180; share 0 to 1.
    Unit: degrees; the share none.
    Cost: W Wᵀ, and the activations, shared.
    Source: creditlab, as a control for the first study's "neuron angle".
    Parts: alive_alive, alive_dead and dead_dead, the mean angle of such pairs; dead_share, the share of dead-dead ones.
    """
    angles, pairs = _angles(weight)
    count = dead[pairs].sum(0)
    number = torch.bincount(count, minlength=3)
    means = angles.new_zeros(3).index_add_(0, count, angles) / number
    kinds = ("alive_alive", "alive_dead", "dead_dead")
    return dict(zip(kinds, means.tolist(), strict=True)) | {"dead_share": (number[2] / len(count)).item()}


def filter_angle(kernel: Tensor, generator: Generator, *, pairs: PositiveInt) -> float:
    """How differently a convolution's spatial filters point: the mean angle over pairs of all its kh × kw slices,
    whatever input and output they join. What the first study means by the angle of convolution filters is unknown;
    `neuron_angle` is that of whole filters. In so few dimensions random directions scatter widely about 90°, by 20° in
    3 × 3. Slices of zeros are left out; NaN where fewer than two are left. If there are more than `pairs` pairs,
    that many are sampled at random, which is exact to the spread over √pairs.

        mean over f ≠ g of arccos(f·g / ‖f‖‖g‖), f and g among kernel[o, i]

    Range: 0 to 180.
    Unit: degrees.
    Cost: at most `pairs` products of kh·kw numbers.
    Source: creditlab.
    """
    directions = _unit_rows(kernel.flatten(2).flatten(0, 1))[0]
    n = len(directions)
    if n * (n - 1) // 2 <= pairs:
        return neuron_angle(directions)
    first = torch.randint(n, (pairs,), generator=generator)
    second = (first + torch.randint(1, n, (pairs,), generator=generator)) % n
    cosines = (directions[first.to(kernel.device)] * directions[second.to(kernel.device)]).sum(1)
    return torch.rad2deg(torch.arccos(cosines.clamp(-1, 1))).mean().item()


def _unit_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """The rows (n, rest) at length 1, those of zeros left out, and which (n',) are left."""
    rows = rows.double()
    norms = rows.norm(dim=1)
    norms = torch.where(norms.isfinite().all(), norms, torch.nan)
    kept = norms.nonzero()[:, 0]
    return rows[kept] / norms[kept, None], kept


def _angles(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The angles (pairs,) in degrees between all rows that are not zero, and which rows (2, pairs) they are between."""
    directions, kept = _unit_rows(weight)
    pairs = torch.triu_indices(len(kept), len(kept), offset=1, device=weight.device)
    cosines = (directions @ directions.T)[pairs[0], pairs[1]].clamp(-1, 1)
    return torch.rad2deg(torch.arccos(cosines)), kept[pairs]


# --- the entries


def row_norm_inequality(weight: Tensor) -> float:
    """How unequal the lengths of the units' weights are: their Gini coefficient; free of scale. NaN for a zero matrix.

        Σᵢⱼ |‖wᵢ‖ − ‖wⱼ‖| / 2n Σᵢ ‖wᵢ‖

    Range: 0 (all equal) to 1 − 1/n (all in one of n rows).
    Unit: none.
    Cost: one pass over the weight.
    Source: Gini, "Variabilità e mutabilità", 1912.
    """
    norms = weight.double().norm(dim=1).sort()[0]
    n = len(norms)
    rank = torch.arange(1, n + 1, dtype=norms.dtype, device=norms.device)
    return (((2 * rank - n - 1) * norms).sum() / (n * norms.sum())).item()


def kurtosis(weight: Tensor) -> float:
    """How heavy the tails of the distribution of all entries are: the excess kurtosis, 0 for a Gaussian, −1.2 for the
    uniform distribution of the default initialisation; free of scale. NaN where all entries are equal.

        mean (w − w̄)⁴ / (mean (w − w̄)²)² − 3

    Range: −2 or more.
    Unit: none.
    Cost: one pass over the weight.
    Source: Pearson 1905; Fisher's form.
    """
    w = weight.double()
    if w.max() == w.min():
        return math.nan
    square = (w - w.mean()).square()
    return (square.square().mean() / square.mean().square()).item() - 3


def weight_hoyer(weight: Tensor) -> float:
    """How much of the weight sits in few entries: Hoyer's sparsity of all n of them; free of scale. 0.20 for Gaussian
    entries, 0.13 for uniform ones. NaN for a zero matrix and for n = 1.

        (√n − Σ|w| / √Σw²) / (√n − 1)

    Range: 0 (all of one size) to 1 (one entry).
    Unit: none.
    Cost: one pass over the weight.
    Source: Hoyer, "Non-negative matrix factorization with sparseness constraints", JMLR 2004.
    """
    w, root = weight.double(), math.sqrt(weight.numel())
    return ((root - w.abs().sum() / w.norm()) / (root - 1)).item()


# --- against another matrix


def relative_change(weight: Tensor, initial_weight: Tensor) -> float:
    """How far the weight has moved since initialisation, against its size then. Infinite where it was zero and is not.

        ‖W − W₀‖ / ‖W₀‖, in the Frobenius norm

    Range: 0 or more.
    Unit: none.
    Cost: one pass over both.
    Source: Nagarajan & Kolter, NeurIPS workshop 2017, "distance from initialisation".
    """
    start = initial_weight.double()
    change, size = (weight.double() - start).norm().item(), start.norm().item()
    if not math.isfinite(change):
        return math.nan
    return change / size if size else math.inf if change else 0.0


def feedback_alignment(weight: Tensor, feedback: Tensor) -> dict[str, float]:
    """How far the weight points the way of the feedback that stands for it in the backward pass. Random matrices have a
    cosine of 0 ± 1/√n, n their number of entries: 90°. NaN where either is zero.

        cos = Σ wᵢⱼ bᵢⱼ / ‖W‖‖B‖

    Range: cosine −1 to 1; angle 0 to 180.
    Unit: none; the angle degrees.
    Cost: one pass over both.
    Source: Lillicrap et al., "Random synaptic feedback weights support error backpropagation", Nat. Commun. 2016.
    Parts: cosine; angle, its arccos.
    """
    w, b = weight.double(), feedback.double()
    cosine = ((w * b).sum() / (w.norm() * b.norm())).clamp(-1, 1)
    return {"cosine": cosine.item(), "angle": torch.rad2deg(torch.arccos(cosine)).item()}
