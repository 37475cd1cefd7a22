"""The landscape of one common loss around the network's weights, whatever the rule that trained it.

    L(θ) = mean over the probe samples of −ln softmax(predict(x))[label]

For forward-forward, which trains on another loss, the scores are the goodness under each label. Networks of ReLUs are
smooth almost everywhere, so H = ∂²L/∂θ² exists almost everywhere and is what double backward gives; kinks, where the
curvature sits in a jump of the gradient, are seen by the finite steps of `flatness` only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby
from typing import Annotated, Literal

import torch
from torch import Generator, Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import cross_entropy

from creditlab.keys import Positive, PositiveInt, Range

Predict = Callable[[nn.Sequential, Tensor], Tensor]
Slope = dict[nn.Parameter, Tensor]
KEPT = 2**25  # entries that a forward pass may keep for its derivatives; with theirs, about 0.7 GB


@torch.no_grad()
def flatness(
    network: nn.Sequential,
    predict: Predict,
    x: Tensor,
    label: Tensor,
    generator: Generator,
    *,
    perturbation: Literal["filter", "plain"],
    sigma: Positive,
    draws: Annotated[int, Range(2)],
    samples: PositiveInt,
) -> dict[str, float]:
    """How much the common loss rises, and accuracy falls, when the weights are perturbed at random: small is flat.

    Every draw is used with both signs, which removes the noise of the slope from the mean. `filter` scales the noise of
    each row of a weight (a filter of a convolution) to sigma times the row's length and leaves biases and normalisation
    alone, so that scaling a ReLU unit up and the next layer down changes nothing; `plain` adds noise of standard
    deviation sigma to every parameter and depends on the scale. The flatness of the first study is one of the two; it
    does not say which, nor sigma and the number of draws. The errors are those of the draws, with fixed samples.

        mean over draws d of ½[L(θ + d) + L(θ − d)] − L(θ),   the same of accuracy
        filter:  dᵢ = σ ‖wᵢ‖ gᵢ/‖gᵢ‖,   plain:  d = σ g,   g ~ N(0, I)

    Range: any; accuracy −1 to 1.
    Unit: loss in nats; accuracy a share.
    Cost: 2 draws + 1 forward passes.
    Source: Li et al., "Visualizing the loss landscape of neural nets", NeurIPS 2018; why scale matters: Dinh et al.,
    "Sharp minima can generalize for deep nets", ICML 2017.
    Parts: loss, its mean change; loss_error, the standard error of that; accuracy and accuracy_error, the same of
    accuracy.
    """
    x, label = x[:samples], label[:samples]
    parameters = list(network.parameters())
    start = [p.clone() for p in parameters]

    def at(directions: list[Tensor], sign: float) -> Tensor:
        for p, origin, d in zip(parameters, start, directions, strict=True):
            p.copy_(origin + sign * d)
        return _loss_and_accuracy(predict(network, x), label)

    before = _loss_and_accuracy(predict(network, x), label)
    changes = []
    for _ in range(draws):
        directions = [_direction(p, generator, perturbation, sigma) for p in start]
        changes.append((at(directions, 1) + at(directions, -1)) / 2 - before)
    for p, origin in zip(parameters, start, strict=True):
        p.copy_(origin)
    error, mean = torch.std_mean(torch.stack(changes), 0)
    names = ("loss", "accuracy")
    return dict(zip(names, mean.tolist(), strict=True)) | {
        f"{n}_error": e / math.sqrt(draws) for n, e in zip(names, error.tolist(), strict=True)
    }


def hessian(
    network: nn.Sequential,
    predict: Predict,
    x: Tensor,
    label: Tensor,
    generator: Generator,
    *,
    iterations: PositiveInt,
    tolerance: Positive,
    draws: Annotated[int, Range(2)],
    samples: PositiveInt,
) -> dict[str, float]:
    """The curvature of the common loss at the network's parameters: the steepest, and the sum over all directions.

    The top eigenvalue is Lanczos's, which never exceeds the true one; it ends after `iterations`, or sooner when its
    residual is below `tolerance` times the largest eigenvalue in size. The trace is Hutchinson's, with probes z of ±1
    for one block of the network at a time: what couples blocks adds nothing to it but noise, the most of it before
    training. The errors are those of the method, the samples being fixed; after training another 256 test samples of
    MNIST move both by a quarter to a half, so compare on the same samples. Neither is free of scale (see `flatness`).
    NaN where a derivative is not finite.

        top = max vᵀHv / vᵀv,   trace = mean over draws of Σ_b z_bᵀ H_bb z_b

    Range: any.
    Unit: nats per squared unit of the parameters.
    Cost: iterations products Hv and draws as many as there are blocks; the memory of `iterations` networks, and of the
    samples' second derivatives up to 1 GB at once.
    Source: Yao et al., "PyHessian", arXiv 1912.07145; Hutchinson, Communications in Statistics 1990.
    Parts: top, the largest eigenvalue; top_error, the residual ‖Hv − top v‖: an eigenvalue lies within it; trace;
    trace_error, its standard error.
    """
    x, label = x[:samples], label[:samples]
    whole = list(network.parameters())
    rows = _rows(network, predict, x, label)
    chunks = list(zip(x.split(rows), label.split(rows), strict=True))
    slope = partial(_slope, whole, network, predict, len(x))
    kept = slope(*chunks[0]) if len(chunks) == 1 else None  # one graph for all products

    def over_samples(product: Callable[[Slope], Tensor]) -> Tensor:
        return torch.stack([product(kept or slope(*chunk)) for chunk in chunks]).sum(0)

    top, residual = _top(
        lambda v: over_samples(lambda s: _second(s, whole, v)), whole, generator, iterations, tolerance
    )
    probes = []
    for _, block in groupby(network.named_parameters(), lambda named: named[0].partition(".")[0]):
        parameters = [p for _, p in block]  # a tied one is in one block only
        z = 2.0 * torch.randint(2, (draws, _size(parameters)), generator=generator) - 1
        probes.append((parameters, z.to(parameters[0])))

    def by_draw(s: Slope) -> Tensor:
        return torch.stack([(z * torch.stack([_second(s, block, v) for v in z])).sum(1) for block, z in probes]).sum(0)

    traces = over_samples(by_draw).double()
    error, mean = torch.std_mean(traces)
    return {
        "top": top,
        "top_error": residual,
        "trace": mean.item(),
        "trace_error": error.item() / math.sqrt(draws),
    }


def _loss_and_accuracy(scores: Tensor, label: Tensor) -> Tensor:
    """(2,) float64, NaN where scores are not finite."""
    scores = torch.where(scores.isfinite(), scores, torch.nan).double()
    loss = cross_entropy(scores, label)
    correct = (scores.argmax(1) == label).double().mean()
    return torch.stack([loss, torch.where(loss.isnan(), loss, correct)])


def _direction(p: Tensor, generator: Generator, perturbation: str, sigma: float) -> Tensor:
    if perturbation == "filter" and p.ndim < 2:
        return torch.zeros_like(p)
    noise = torch.randn(p.shape, generator=generator).to(p)
    if perturbation == "filter":
        dims = tuple(range(1, p.ndim))
        lengths, noise_lengths = (torch.linalg.vector_norm(t, dim=dims, keepdim=True) for t in (p, noise))
        noise = noise / noise_lengths * lengths
    return sigma * noise


def _size(parameters: list[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)


def _rows(network: nn.Sequential, predict: Predict, x: Tensor, label: Tensor) -> int:
    """How many samples are used at once. A pass of two samples shows how much memory one more sample takes."""

    def kept(some: Tensor, labels: Tensor) -> int:
        sizes: list[int] = []

        def note(t: Tensor) -> Tensor:
            sizes.append(t.numel())
            return t

        with saved_tensors_hooks(note, lambda t: t):
            cross_entropy(predict(network, some), labels)
        return sum(sizes)

    return max(1, KEPT // max(1, kept(x[:2], label[:2]) - kept(x[:1], label[:1])))


def _slope(
    parameters: list[nn.Parameter], network: nn.Sequential, predict: Predict, samples: int, x: Tensor, label: Tensor
) -> Slope:
    """The gradient of the part of the common loss that comes from these samples, with its graph."""
    loss = cross_entropy(predict(network, x), label, reduction="sum") / samples
    gradients = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
    return dict(zip(parameters, gradients, strict=True))


def _second(slope: Slope, parameters: list[nn.Parameter], vector: Tensor) -> Tensor:
    """Hv, H the derivative by `parameters` of their `slope`: zero for parameters that the scores do not depend on."""

    def flat(tensors: Iterable[Tensor]) -> Tensor:
        return torch.cat([t.flatten() for t in tensors])

    first = flat(slope[p] for p in parameters)
    if not first.requires_grad:
        return torch.zeros_like(vector)
    return flat(torch.autograd.grad(first, parameters, vector, retain_graph=True, materialize_grads=True))


def _top(
    product: Callable[[Tensor], Tensor],
    parameters: list[nn.Parameter],
    generator: Generator,
    iterations: int,
    tolerance: float,
) -> tuple[float, float]:
    """The largest eigenvalue by Lanczos's method with full orthogonalisation, and its residual."""
    size = _size(parameters)
    steps = min(iterations, size)
    basis = torch.zeros(steps, size).to(parameters[0])  # orthonormal rows
    tridiagonal = torch.zeros(steps, steps, dtype=torch.float64)
    vector = torch.randn(size, generator=generator).to(basis)
    top, residual = math.nan, math.nan
    for i in range(steps):
        basis[i] = vector / vector.norm()
        vector = product(basis[i])
        tridiagonal[i, i] = vector @ basis[i]
        for _ in range(2):  # Gram-Schmidt, once more for what rounding leaves
            vector = vector - (basis[: i + 1] @ vector) @ basis[: i + 1]
        beta = vector.norm().item()
        explored = tridiagonal[: i + 1, : i + 1]
        if not (explored.isfinite().all() and math.isfinite(beta)):
            return math.nan, math.nan
        values, vectors = torch.linalg.eigh(explored)
        top, residual = values[-1].item(), beta * vectors[-1, -1].abs().item()
        if residual <= tolerance * values.abs().max().item():
            break
        if i + 1 < steps:
            tridiagonal[i, i + 1] = tridiagonal[i + 1, i] = beta
    return top, residual
