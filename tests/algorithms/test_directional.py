"""Slopes along random directions: the formula, its limits, what is left of the network, the estimate's statistics."""

import copy
import math

import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy

from creditlab.algorithms.base import Batch
from creditlab.algorithms.directional import SPSA, ForwardGradient, WeightPerturbation
from creditlab.algorithms.es import EvolutionStrategies
from tests.algorithms.test_es import batch, convolutional, exact, mlp
from tests.algorithms.test_feedback import ON, assign, parts

RULES = {
    "spsa": lambda n, eps=1e-4: SPSA(*[None] * 4, directions=n, epsilon=eps, inplace=False, restore="exact"),
    "inplace": lambda n, eps=1e-4: SPSA(*[None] * 4, directions=n, epsilon=eps, inplace=True, restore="exact"),
    "arithmetic": lambda n, eps=1e-4: SPSA(*[None] * 4, directions=n, epsilon=eps, inplace=True, restore="arithmetic"),
    "weight_perturbation": lambda n, eps=1e-6: WeightPerturbation(*[None] * 4, directions=n, sigma=eps),
    "forward_gradient": lambda n: ForwardGradient(*[None] * 4, directions=n),
}
NETWORKS = {
    "mlp": (mlp, (8, 5)),
    "normalised": (lambda: mlp(norm=True), (8, 5)),
    "convolutional": (convolutional, (8, 2, 4, 4)),
}


def estimate(rule, network, x, y, seed=0):
    rule.assign(network, Batch(x, y, generator=torch.Generator().manual_seed(seed)))
    return torch.cat([p.grad.flatten() for p in network.parameters()])


def directions(network, n, seed=0):
    """The n directions that a rule draws from a generator, as (n, parameters)."""
    generator = torch.Generator().manual_seed(seed)
    rows = [
        [torch.empty_like(p).normal_(generator=generator).flatten() for p in network.parameters()] for _ in range(n)
    ]
    return torch.stack([torch.cat(row) for row in rows]).detach()


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("rule", RULES)
def test_the_estimate_is_the_true_slope_along_its_directions(rule, kind):
    """1/n Σ ⟨∇L, v⟩ v with backpropagation's ∇L; exactly where the slope is, else to the order of ε."""
    build, shape = NETWORKS[kind]
    network, (x, y) = build(), batch(*shape)
    v = directions(network, 3)
    truth = exact(copy.deepcopy(network), x, y)
    actual = estimate(RULES[rule](3), network, x, y)
    rtol = 1e-10 if rule == "forward_gradient" else 1e-4
    torch.testing.assert_close(actual, ((v @ truth)[:, None] * v).mean(0), rtol=rtol, atol=rtol * truth.norm().item())


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("rule", ["spsa", "inplace"])
def test_spsa_is_a_population_of_two_with_raw_fitness(rule, kind):
    build, shape = NETWORKS[kind]
    network, (x, y) = build(), batch(*shape)
    keys = dict(population=2, sigma=0.3, antithetic=True, shaping="raw", rank="full", chunk=1)
    expected = estimate(EvolutionStrategies(*[None] * 4, **keys), network, x, y)
    torch.testing.assert_close(estimate(RULES[rule](1, 0.3), network, x, y), expected, rtol=1e-12, atol=1e-14)


def test_differences_are_those_of_the_formulas_at_any_size():
    """ε and σ large, where the slope along a direction is not that of the loss."""
    network, (x, y) = mlp(), batch(8, 5)
    v = directions(network, 2)

    def loss(step, direction):
        moved = copy.deepcopy(network)
        with torch.no_grad():
            torch.nn.utils.vector_to_parameters(
                torch.nn.utils.parameters_to_vector(moved.parameters()) + step * direction, moved.parameters()
            )
            return cross_entropy(moved(x), y)

    central = torch.stack([(loss(0.5, d) - loss(-0.5, d)) / 1.0 for d in v])
    forward = torch.stack([(loss(0.5, d) - loss(0.0, d)) / 0.5 for d in v])
    assert (central - forward).abs().min() > 1e-3
    for rule, slopes in (("spsa", central), ("inplace", central), ("weight_perturbation", forward)):
        torch.testing.assert_close(estimate(RULES[rule](2, 0.5), network, x, y), (slopes[:, None] * v).mean(0))


def test_they_are_unbiased():
    """40 estimates; z-scores against their own standard error. The others differ in the slope alone, as said above."""
    network, (x, y) = mlp(), batch(8, 5)
    truth = exact(network, x, y)
    rule = RULES["forward_gradient"](100)
    estimates = torch.stack([estimate(rule, network, x, y, seed) for seed in range(40)])
    z = (estimates.mean(0) - truth) / (estimates.std(0) / math.sqrt(40))
    assert z.abs().max() < 4.5
    assert 0.4 < z.square().mean() < 1.9  # 39 coordinates: 1 ± 0.25
    assert (estimates.mean(0) @ truth / (truth @ truth)).item() == pytest.approx(1, abs=0.1)  # ± √(2/4000)
    cosine = cosine_similarity(estimates, truth[None]).mean().item()
    assert cosine == pytest.approx(math.sqrt(100 / (100 + len(truth))), rel=0.03)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("rule", RULES)
def test_what_is_left_of_the_network(rule, kind):
    """Its weights to the bit, but for rounding where they are restored by arithmetic; one pass's running statistics."""
    build, shape = NETWORKS[kind]
    network, (x, y) = build().float(), batch(*shape, dtype=torch.float32)
    before, other = [p.clone() for p in network.parameters()], copy.deepcopy(network)
    other(x)
    keys = (5, 0.37) if rule != "forward_gradient" else (5,)
    estimate(RULES[rule](*keys), network, x, y)
    same = [torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True)]
    assert all(same) == (rule != "arithmetic")
    torch.testing.assert_close(list(network.parameters()), before, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(network.buffers(), other.buffers(), strict=True))


def test_bfloat16_evaluates_what_was_moved():
    """Autocast caches the casts of parameters, and the network's own are moved in place."""
    network, (x, y) = mlp(dtype=torch.float32), batch(16, 5, dtype=torch.float32)
    for rule in RULES:
        keys = (20, 0.3) if rule != "forward_gradient" else (20,)
        exactly = estimate(RULES[rule](*keys), network, x, y)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = estimate(RULES[rule](*keys), network, x, y)
        assert cosine_similarity(exactly, rounded, dim=0) > 0.98, rule


@pytest.mark.parametrize("architecture", ON)
def test_forward_differentiation_knows_every_architecture(plan, architecture):
    """⟨g, v⟩ = ⟨∇L, v⟩ ‖v‖² with backpropagation's ∇L."""
    truth = assign(parts(plan, *ON[architecture]), probe=False)[1]
    p = parts(plan, *ON[architecture], "algorithm=forward_gradient")
    actual = assign(p, probe=False)[1]  # draws from a fresh generator
    generator = torch.Generator()
    v = {name: torch.empty_like(q).normal_(generator=generator) for name, q in p.network.named_parameters()}
    slope = sum((truth[name] * v[name]).sum() for name in v)
    for name in v:
        torch.testing.assert_close(actual[name], slope * v[name].detach(), rtol=1e-8, atol=1e-12)
