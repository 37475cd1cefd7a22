"""Accuracy on inputs moved within a box of pixels so that the network errs, and whether its gradient hides how.

    FGSM:    p + ε sign ∇ℓ(p)
    PGD:     p ← project(p + α sign ∇ℓ(p)), from a random point of the box, `steps` times
    Square:  a random rectangle of p set to ±ε, kept where ℓ does not fall; no gradient

The box is |p' − p| ≤ ε in each pixel, within [0, 1]. ℓ = ln(1/p_label − 1), p_label the softmax of what `predict`
gives: the cross-entropy is ln(1 + e^ℓ), so both have the same sign of the gradient and the same order, and ℓ's does
not vanish in rounding where the network is sure. Gradients are exact, through the forward weights, for every rule.

Only samples that the network gets right are attacked; the others count as errors, whatever an attack does to them. The
standard error of an accuracy a is √(a(1 − a)/samples), 3 points at most with 256 samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor, nn

from creditlab.keys import Fraction, Positive, PositiveInt

Predict = Callable[[nn.Sequential, Tensor], Tensor]
Scores = Callable[[Tensor], Tensor]  # pixels (samples, *input_shape) to (samples, classes)
Attack = Callable[[Tensor, Tensor], Tensor]  # pixels and labels to the pixels of examples
ROWS = 128  # samples whose gradient is taken at once
AREA = 0.8  # of the first rectangles of Square, as a share of the image
HALVED = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)  # shares of the queries after which it halves


def adversarial_accuracy(
    network: nn.Sequential,
    predict: Predict,
    pixels: Tensor,
    normalise: Callable[[Tensor], Tensor],
    label: Tensor,
    generator: Generator,
    *,
    epsilon: Fraction,
    step: Positive,
    steps: PositiveInt,
    queries: PositiveInt,
    samples: PositiveInt,
) -> dict[str, float]:
    """Accuracy under attacks that follow the network's gradient, and under one that only asks for its scores.

    Where Square succeeds and the others fail, the gradient hides a way that exists: then `fgsm` and `pgd` say little
    about robustness. A masking of 0 proves nothing, because Square is weak with few queries. A PGD step is `step` times
    epsilon. NaN where the scores of a sample are not finite.

        share of samples right at p' = attack(p), |p' − p| ≤ ε
        masking = share of samples right under FGSM and PGD and not under Square

    Range: 0 to 1.
    Unit: share of samples.
    Cost: steps + 1 gradients with respect to the input and up to `queries` forward passes.
    Source: Goodfellow et al., arXiv 1412.6572 (FGSM); Madry et al., arXiv 1706.06083 (PGD); Andriushchenko et al.,
    arXiv 1912.00049 (Square); Athalye et al., arXiv 1802.00420 (masking).
    Parts: clean, without attack; fgsm; pgd; square; masking.
    """
    pixels, label = pixels[:samples], label[:samples]
    scores = _scores(network, predict, normalise)
    right = _right_under(
        {
            "fgsm": lambda p, y: fgsm(scores, p, y, epsilon),
            "pgd": lambda p, y: pgd(scores, p, y, epsilon, step * epsilon, steps, generator),
            "square": lambda p, y: square(scores, p, y, epsilon, queries, generator),
        },
        scores,
        pixels,
        label,
    )
    right["masking"] = right["fgsm"] * right["pgd"] * (1 - right["square"])
    return {name: held.mean().item() for name, held in right.items()}


def transfer_accuracy(
    network: nn.Sequential,
    predict: Predict,
    pixels: Tensor,
    normalise: Callable[[Tensor], Tensor],
    label: Tensor,
    surrogate: Scores,
    generator: Generator,
    *,
    epsilon: Fraction,
    step: Positive,
    steps: PositiveInt,
    samples: PositiveInt,
) -> dict[str, float]:
    """Accuracy on examples made against another network, the surrogate, which this one's gradient has no part in.

    Samples that hold against PGD on the network's own gradient and fall to the surrogate's examples show that the
    gradient hides a way that exists. A PGD step is `step` times epsilon. NaN where the scores of a sample are not
    finite.

        share of samples right at p' = attack of the surrogate(p), |p' − p| ≤ ε
        masking = share of samples right under PGD on their own network and not under both of these

    Range: 0 to 1.
    Unit: share of samples.
    Cost: 2 steps + 1 gradients with respect to the input.
    Source: Papernot et al., arXiv 1605.07277 (transfer); Athalye et al., arXiv 1802.00420 (masking).
    Parts: clean, without attack; fgsm and pgd, made on the surrogate; masking.
    """
    pixels, label = pixels[:samples], label[:samples]
    scores = _scores(network, predict, normalise)

    def other(p: Tensor) -> Tensor:
        return surrogate(normalise(p))

    right = _right_under(
        {
            "fgsm": lambda p, y: fgsm(other, p, y, epsilon),
            "pgd": lambda p, y: pgd(other, p, y, epsilon, step * epsilon, steps, generator),
            "own": lambda p, y: pgd(scores, p, y, epsilon, step * epsilon, steps, generator),
        },
        scores,
        pixels,
        label,
    )
    right["masking"] = right.pop("own") * (1 - right["fgsm"] * right["pgd"])
    return {name: held.mean().item() for name, held in right.items()}


def doubt(scores: Tensor, label: Tensor) -> Tensor:
    """(samples,) float64: ℓ = ln Σ_{k≠label} e^{s_k} − s_label."""
    scores = scores.double()
    others = scores.scatter(1, label[:, None], -math.inf)
    return others.logsumexp(1) - scores.gather(1, label[:, None])[:, 0]


def fgsm(scores: Scores, pixels: Tensor, label: Tensor, epsilon: float) -> Tensor:
    return (pixels + epsilon * _ascent(scores, pixels, label)).clamp(0, 1)


def pgd(
    scores: Scores, pixels: Tensor, label: Tensor, epsilon: float, step: float, steps: int, generator: Generator
) -> Tensor:
    """The last of the steps; `step` in pixels."""
    low, high = (pixels - epsilon).clamp(min=0), (pixels + epsilon).clamp(max=1)
    noise = 2 * torch.rand(pixels.shape, generator=generator).to(pixels) - 1
    examples = (pixels + epsilon * noise).clamp(low, high)
    for _ in range(steps):
        examples = (examples + step * _ascent(scores, examples, label)).clamp(low, high)
    return examples


@torch.no_grad()
def square(scores: Scores, pixels: Tensor, label: Tensor, epsilon: float, queries: int, generator: Generator) -> Tensor:
    """It starts from vertical stripes. Misclassified samples stay as they are. Other inputs than images are one row."""
    shape = pixels.shape[1:]
    images = pixels if len(shape) == 3 else pixels.flatten(1)[:, None, None]  # (samples, channels, height, width)
    n, channels, height, width = images.shape

    def signs(*size: int) -> Tensor:
        return epsilon * (2.0 * torch.randint(2, size, generator=generator) - 1).to(images)

    def ask(candidates: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        new_scores = scores(candidates.reshape(-1, *shape))
        return doubt(new_scores, labels), new_scores.argmax(1) == labels

    best = (images + signs(n, channels, 1, width)).clamp(0, 1)
    worst, holds = ask(best, label)
    for query in range(1, queries):
        left = holds.nonzero()[:, 0]
        if not len(left):
            break
        area = AREA * 0.5 ** sum(query > share * queries for share in HALVED) * height * width
        h = min(height, max(1, round(math.sqrt(area))))
        w = min(width, max(1, round(area / h)))
        i = int(torch.randint(height - h + 1, (), generator=generator))
        j = int(torch.randint(width - w + 1, (), generator=generator))
        window = (slice(None), slice(None), slice(i, i + h), slice(j, j + w))
        candidates = best[left]
        candidates[window] = (images[left][window] + signs(len(left), channels, 1, 1)).clamp(0, 1)
        doubts, right = ask(candidates, label[left])
        taken = (doubts >= worst[left]) | ~right
        best[left[taken]] = candidates[taken]
        worst[left[taken]] = doubts[taken]
        holds[left] = right
    return best.reshape(pixels.shape)


def _scores(network: nn.Sequential, predict: Predict, normalise: Callable[[Tensor], Tensor]) -> Scores:
    return lambda p: predict(network, normalise(p))


def _ascent(scores: Scores, pixels: Tensor, label: Tensor) -> Tensor:
    """The sign of ∇ℓ in each pixel."""
    signs = []
    for some, labels in zip(pixels.split(ROWS), label.split(ROWS), strict=True):
        p = some.detach().requires_grad_()
        signs.append(torch.autograd.grad(doubt(scores(p), labels).sum(), p)[0].sign())
    return torch.cat(signs)


def _right_under(attacks: Mapping[str, Attack], scores: Scores, pixels: Tensor, label: Tensor) -> dict[str, Tensor]:
    """By attack, (samples,) float64: 1 where the network is right on the sample and its example, else 0; `clean`, on
    the sample alone. All NaN if the scores of a sample are not finite.
    """
    with torch.no_grad():
        seen = scores(pixels)
    right = seen.argmax(1) == label
    clean = right.double() if seen.isfinite().all() else torch.full_like(right, math.nan, dtype=torch.float64)
    result = {"clean": clean}
    for name, attack in attacks.items():
        result[name] = clean.clone()
        if not clean.any() or clean.isnan().any():
            continue
        examples = attack(pixels[right], label[right])
        with torch.no_grad():
            result[name][right] = (scores(examples).argmax(1) == label[right]).double()
    return result
