"""Evolution strategies: the gradient estimated from the fitness of randomly perturbed copies of the network.

    ∂L/∂θ := −1/(n σ) Σ_i u_i ε_i,   u_i = shaped fitness of θ + σ ε_i,   fitness = −cross-entropy,   ε_i ~ N(0, I)

The n members of a population see the same minibatch. With antithetic sampling they come in pairs ±ε, so half as many
directions are drawn. Centred ranks rank/(n−1) − ½ (ties share their mean rank) make the step independent of the
loss's scale. With raw fitness the estimate is unbiased if the loss is linear over a distance σ. On a linear loss in d
parameters its expected cosine with the true gradient is near √(m/(m+d)) for m directions.

With `rank` r the weights (of two or more dimensions, seen as (out, rest)) are perturbed by E = A Bᵀ/√r instead of ε,
with standard normal A (out, r) and B (rest, r). This is another estimator: E has the first two moments of ε, so it is
unbiased in the same sense, but it is not Gaussian. It saves most of the random numbers and of the memory. Members that
are evaluated at once (`chunk` > 1) share the product with W:  (W + s A B) x = W x + s A (B x).

Source: Salimans, Ho, Chen, Sidor, Sutskever, "Evolution strategies as a scalable alternative to reinforcement
learning", arXiv 1703.03864. Low rank: Sarkar et al., "Evolution strategies at the hyperscale", arXiv 2511.16652.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.functional import conv2d, cross_entropy, embedding, linear
from torch.overrides import TorchFunctionMode

from creditlab.algorithms.base import Algorithm, Batch, Draw, Readings
from creditlab.keys import Positive, PositiveInt
from creditlab.task import Task

Factors = tuple[Tensor, Tensor]  # A (…, out, r) and B (…, r, rest) of the direction A B
Evaluate = Callable[[dict[str, Tensor | Factors], float], Tensor]
"""Takes directions ε by parameter (of one member, or stacked) and a step; gives the losses (members,) at θ + step ε."""


class Directions:
    """`n` random directions for one parameter, full or as the factors of matrices of low rank."""

    def __init__(self, like: Tensor, n: int, rank: int | None, generator: Generator) -> None:
        self.shape = like.shape
        self.factors: tuple[Tensor, ...]
        if rank is None or like.ndim < 2:
            self.factors = (_normal(like, n, like.shape, generator),)
        else:
            out, rest = len(like), like[0].numel()
            a = _normal(like, n, (out, rank), generator) / math.sqrt(rank)
            self.factors = (a, _normal(like, n, (rank, rest), generator))

    def __getitem__(self, which: int | slice) -> Tensor:
        """One direction in the parameter's shape, or a stack of them."""
        first, *second = self.factors
        if not second:
            return first[which]
        matrix = first[which] @ second[0][which]
        return matrix.view(*matrix.shape[:-2], *self.shape)

    def factored(self, which: slice) -> Tensor | Factors:
        """A stack of directions, as factors if their rank is low."""
        first, *second = self.factors
        return (first[which], second[0][which]) if second else first[which]

    def combine(self, coefficients: Tensor) -> Tensor:
        """Σ_i coefficients_i ε_i, in the parameter's shape; `coefficients` (n,)."""
        first, *second = self.factors
        if not second:
            return torch.tensordot(coefficients, first, 1)
        scaled = (coefficients[:, None, None] * first).transpose(0, 1).flatten(1)  # (out, n rank)
        return (scaled @ second[0].flatten(0, 1)).view(self.shape)


def _normal(like: Tensor, n: int, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """(n, *shape) standard normal numbers with the type and device of `like`."""
    noise = torch.empty(n, *shape, dtype=like.dtype, device=generator.device)
    for row in noise:  # row by row, each while it is in the processor's cache
        row.normal_(generator=generator)
    return noise.to(like.device)


class _LowRankMode(TorchFunctionMode):
    """While this is active, linear maps, convolutions and look-ups by a W that has factors (found by its id) use
    W + step A B.
    """

    def __init__(self, factors: Mapping[int, Factors], step: float) -> None:
        super().__init__()
        self.factors, self.step = factors, step

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function not in (linear, conv2d, embedding) or id(args[1]) not in self.factors:
            return result
        x, weight = args[:2]
        a, b = self.factors[id(weight)]
        if function is linear:
            return result + self.step * linear(linear(x, b), a)
        if function is embedding:
            return result + self.step * embedding(x, a) @ b
        _, _, _, stride, padding, dilation, groups = args
        assert groups == 1, "low-rank perturbations of grouped convolutions"
        inner = conv2d(x, b.view(len(b), *weight.shape[1:]), None, stride, padding, dilation)
        return result + self.step * conv2d(inner, a[:, :, None, None])


def shape_fitness(fitness: Tensor, shaping: Literal["ranks", "standardised", "raw"]) -> Tensor:
    """The weights that the estimate gives to `fitness` (any shape; the whole population).

    `ranks`: rank/(n−1) − ½, in [−½, ½]; ties share their mean rank, and NaN ranks last. `standardised`: mean 0 and
    standard deviation 1. `raw`: unchanged.
    """
    if shaping == "raw":
        return fitness
    if shaping == "standardised":
        deviation = fitness - fitness.mean()
        return deviation / deviation.square().mean().sqrt().clamp(min=torch.finfo(fitness.dtype).tiny)
    _, group, size = fitness.nan_to_num(-math.inf, math.inf, -math.inf).unique(return_inverse=True, return_counts=True)
    mean_rank = size.cumsum(0) - (size + 1) / 2  # of each group of ties, from 0
    return mean_rank[group].to(fitness.dtype) / (fitness.numel() - 1) - 0.5


class EvolutionStrategies(Algorithm):
    """The keys are explained in conf/algorithm/es.yaml.

    The noise is stored while a population is evaluated: one number per parameter and direction (population/2 directions
    with antithetic sampling); with low rank, r (out + rest) numbers per weight and direction. It does not depend on
    `chunk`. Running statistics are updated once, by the unperturbed network, whose loss and scores are the readings. A
    member whose loss is not finite ranks last; with the other shapings it makes the gradient, and so the run,
    non-finite. ValueError: fewer than two members; antithetic sampling with an odd population.
    """

    def __init__(
        self,
        network: nn.Sequential,
        task: Task,
        draw: Draw,
        generator: Generator,
        *,
        population: PositiveInt,
        sigma: Positive,
        antithetic: bool,
        shaping: Literal["ranks", "standardised", "raw"],
        rank: Literal["full"] | PositiveInt,
        chunk: PositiveInt,
    ) -> None:
        super().__init__(network, task, draw, generator)
        if population < 2:
            raise ValueError(f"population={population} has no other member to compare with; give at least 2 members")
        if antithetic and population % 2:
            raise ValueError(
                f"population={population} is odd, but antithetic sampling takes pairs; "
                f"give {population + 1} or antithetic=false"
            )
        self.signs = (1.0, -1.0) if antithetic else (1.0,)
        self.population, self.sigma, self.shaping, self.chunk = population, sigma, shaping, chunk
        self.rank = None if rank == "full" else int(rank)

    @torch.no_grad()
    def assign(self, network: nn.Sequential, batch: Batch) -> Readings:
        x, y = batch.x, batch.y
        n = self.population // len(self.signs)
        noise = {name: Directions(p, n, self.rank, batch.generator) for name, p in network.named_parameters()}
        evaluate = self._one_by_one(network, x, y) if self.chunk == 1 else self._at_once(network, x, y)
        losses: list[list[Tensor]] = [[] for _ in self.signs]
        for start in range(0, n, self.chunk):
            which = start if self.chunk == 1 else slice(start, start + self.chunk)
            epsilon: dict[str, Tensor | Factors] = {
                name: d.factored(which) if isinstance(which, slice) else d[which] for name, d in noise.items()
            }
            for sign, row in zip(self.signs, losses, strict=True):
                row.append(evaluate(epsilon, sign * self.sigma))
        with torch.autocast(x.device.type, enabled=False):  # only the networks are evaluated in low precision
            fitness = -torch.stack([torch.cat(row) for row in losses])  # (signs, n)
            utility = shape_fitness(fitness, self.shaping)
            coefficients = utility.new_tensor(self.signs) @ utility / (-self.population * self.sigma)  # (n,)
            for name, p in network.named_parameters():
                p.grad = noise[name].combine(coefficients)
        scores = network(x)
        return Readings(cross_entropy(scores, y), scores)

    def _one_by_one(self, network: nn.Sequential, x: Tensor, y: Tensor) -> Evaluate:
        # Each member overwrites the same copy, so the network and its running statistics do not change. Autocast would
        # cache the casts of parameters that require a gradient.
        member = copy.deepcopy(network).requires_grad_(False)

        def evaluate(epsilon: dict[str, Tensor | Factors], step: float) -> Tensor:
            for (name, p), q in zip(network.named_parameters(), member.parameters(), strict=True):
                e = epsilon[name]
                assert isinstance(e, Tensor)
                torch.add(p, e, alpha=step, out=q)
            return cross_entropy(member(x), y)[None]

        return evaluate

    def _at_once(self, network: nn.Sequential, x: Tensor, y: Tensor) -> Evaluate:
        parameters = dict(network.named_parameters())

        def loss(state: dict[str, Tensor], factors: dict[str, Factors], step: float) -> Tensor:
            with _LowRankMode({id(parameters[name]): ab for name, ab in factors.items()}, step):
                return cross_entropy(functional_call(network, state, (x,)), y)

        def evaluate(epsilon: dict[str, Tensor | Factors], step: float) -> Tensor:
            factors = {name: e for name, e in epsilon.items() if isinstance(e, tuple)}
            full = {name: e for name, e in epsilon.items() if isinstance(e, Tensor)}
            state = {name: torch.add(parameters[name], e, alpha=step) for name, e in full.items()}
            size = len(next(iter([*state.values(), *(a for a, _ in factors.values())])))
            state |= {name: b.expand(size, *b.shape).clone() for name, b in network.named_buffers()}
            return vmap(loss, in_dims=(0, 0, None))(state, factors, step)

        return evaluate
