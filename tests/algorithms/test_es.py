"""Evolution strategies against scipy's ranks, plain-tensor re-derivation, and the statistics of the estimator."""

import copy
import math
from collections import OrderedDict
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from torch import nn
from torch.nn.functional import cross_entropy

from creditlab.algorithms.base import Batch
from creditlab.algorithms.es import Directions, EvolutionStrategies, shape_fitness
from creditlab.architectures.block import Block

KEYS = dict(population=6, sigma=0.1, antithetic=True, shaping="ranks", rank="full", chunk=1)


def es(**keys):
    return EvolutionStrategies(None, None, None, None, **(KEYS | keys))


def mlp(features=5, hidden=4, classes=3, norm=False, dtype=torch.float64):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(features, hidden), nn.BatchNorm1d(hidden) if norm else nn.Identity())
    network = nn.Sequential(OrderedDict(fc1=Block(body, nn.Tanh()), readout=nn.Linear(hidden, classes)))
    return network.to(dtype)


def convolutional():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    return nn.Sequential(OrderedDict(conv1=Block(body, nn.ReLU(), nn.Flatten()), readout=nn.Linear(12, 3))).double()


def batch(*shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(*shape, generator=generator, dtype=dtype), torch.arange(shape[0]) % 3


def estimate(network, x, y, seed=0, **keys):
    es(**keys).assign(network, Batch(x, y, generator=torch.Generator().manual_seed(seed)))
    return torch.cat([p.grad.flatten() for p in network.parameters()])


def exact(network, x, y):
    gradient = torch.autograd.grad(cross_entropy(network(x), y), tuple(network.parameters()))
    return torch.cat([g.flatten() for g in gradient])


@pytest.mark.parametrize("shaping", ["ranks", "standardised", "raw"])
@pytest.mark.parametrize("antithetic", [True, False])
@pytest.mark.parametrize("rank", ["full", 2])
def test_the_estimate_is_that_of_the_formula(rank, antithetic, shaping):
    """ε drawn again from the same generator, the network written out, scipy's ranks."""
    network, (x, y) = mlp(), batch(8, 5)
    generator = torch.Generator().manual_seed(0)

    def draw(n, *shape):
        return torch.stack([torch.empty(*shape).double().normal_(generator=generator) for _ in range(n)])

    directions, epsilon = (3 if antithetic else 6), []
    for p in network.parameters():
        if rank == "full" or p.ndim == 1:
            epsilon.append(draw(directions, *p.shape))
        else:
            a, b = draw(directions, p.shape[0], rank), draw(directions, rank, p.shape[1])
            epsilon.append(torch.einsum("nor,nri->noi", a, b) / math.sqrt(rank))
    members = [(i, s) for s in ([1, -1] if antithetic else [1]) for i in range(directions)]
    fitness = []
    for i, s in members:
        w1, b1, w2, b2 = (p.detach() + s * 0.1 * e[i] for p, e in zip(network.parameters(), epsilon, strict=True))
        scores = torch.tanh(x @ w1.T + b1) @ w2.T + b2
        fitness.append(scores.log_softmax(1)[torch.arange(8), y].mean().item())
    shaped = {
        "ranks": (rankdata(fitness) - 1) / 5 - 0.5,
        "standardised": (np.array(fitness) - np.mean(fitness)) / np.std(fitness),
        "raw": np.array(fitness),
    }[shaping]
    expected = [
        -sum(u * s * e[i] for u, (i, s) in zip(shaped, members, strict=True)) / (len(members) * 0.1) for e in epsilon
    ]
    actual = estimate(network, x, y, antithetic=antithetic, shaping=shaping, rank=rank)
    torch.testing.assert_close(actual, torch.cat([e.flatten() for e in expected]), rtol=1e-10, atol=1e-12)


@given(st.lists(st.sampled_from([-3.0, -1.0, -0.5, 0.25, 2.0, 7.0]) | st.floats(-9, 9), min_size=2, max_size=40))
def test_ranks_are_scipys_midranks_centred(values):
    actual = shape_fitness(torch.tensor(values, dtype=torch.float64), "ranks")
    expected = (rankdata(values) - 1) / (len(values) - 1) - 0.5
    np.testing.assert_allclose(actual.numpy(), expected, atol=1e-12)


def test_a_member_without_a_finite_fitness_ranks_last():
    fitness = torch.tensor([0.5, math.nan, -math.inf, -7.0])
    assert shape_fitness(fitness, "ranks").tolist() == pytest.approx([0.5, -1 / 3, -1 / 3, 1 / 6])


def test_members_that_overflow_are_survived_by_ranks_and_shown_by_raw_fitness():
    network, (x, y) = mlp(), batch(8, 5)
    assert estimate(network, x, y, sigma=1e308).isfinite().all()
    assert not estimate(network, x, y, sigma=1e308, shaping="raw").isfinite().all()


@pytest.mark.parametrize("rank", ["full", 1, 3])
def test_raw_fitness_is_unbiased_where_the_loss_is_linear(rank):
    """With σ → 0 the loss is linear over the perturbation. 60 estimates; z-scores against their own standard error."""
    network, (x, y) = mlp(), batch(8, 5)
    truth = exact(network, x, y)
    keys = dict(shaping="raw", sigma=1e-5, population=1000, rank=rank, chunk=500)
    estimates = torch.stack([estimate(network, x, y, seed, **keys) for seed in range(60)])
    error = estimates.mean(0) - truth
    z = error / (estimates.std(0) / math.sqrt(60))
    assert z.abs().max() < 4.5
    assert 0.4 < z.square().mean() < 1.9  # 39 coordinates: 1 ± 0.25
    assert error.norm() < 0.06 * truth.norm()  # √(39/30,000) = 0.036, more at low rank: no factor hides in the z-scores


@pytest.mark.parametrize(("directions", "hidden"), [(8, 6), (64, 6), (40, 30), (250, 30)])
def test_cosine_with_the_gradient(directions, hidden):
    """√(m/(m+d)) for m directions on a linear loss in d parameters."""
    network, (x, y) = mlp(hidden=hidden), batch(8, 5)
    truth = exact(network, x, y)
    keys = dict(shaping="raw", sigma=1e-5, population=2 * directions, chunk=directions)
    estimates = torch.stack([estimate(network, x, y, seed, **keys) for seed in range(60)])
    cosines = torch.nn.functional.cosine_similarity(estimates, truth[None])
    expected = math.sqrt(directions / (directions + len(truth)))
    assert abs(cosines.mean() - expected) < 4 * cosines.std() / math.sqrt(60) + 0.02 * expected


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_low_rank_directions_have_that_rank_and_unit_variance(rank):
    directions = Directions(torch.zeros(6, 2, 4, dtype=torch.float64), 4000, rank, torch.Generator().manual_seed(0))
    matrices = directions[:].flatten(2)  # a weight of more than two dimensions is seen as (out, rest)
    assert matrices.shape == (4000, 6, 8)
    assert (torch.linalg.matrix_rank(matrices) == rank).all()
    second = torch.einsum("noi,npj->oipj", matrices, matrices).reshape(48, 48) / 4000
    assert (second - torch.eye(48, dtype=torch.float64)).abs().max() < 0.25
    assert second.diagonal().mean() == pytest.approx(1, abs=0.03)
    torch.testing.assert_close(directions[7].flatten(1), matrices[7])


@pytest.mark.parametrize("rank", ["full", 2])
@pytest.mark.parametrize("network", [mlp(norm=True), convolutional()], ids=["mlp", "convolutional"])
def test_how_many_are_evaluated_at_once_changes_nothing(network, rank):
    x, y = batch(8, 5) if hasattr(network, "fc1") else batch(8, 2, 4, 4)
    keys = dict(shaping="raw", rank=rank, population=20)
    one, some, all_at_once = (estimate(copy.deepcopy(network), x, y, chunk=chunk, **keys) for chunk in (1, 3, 64))
    torch.testing.assert_close(some, one, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(all_at_once, one, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 3])
def test_running_statistics_and_readings_are_those_of_one_ordinary_forward_pass(chunk):
    network, (x, y) = mlp(norm=True), batch(8, 5)
    other = copy.deepcopy(network)
    readings = es(chunk=chunk).assign(network, Batch(x, y, generator=torch.Generator()))
    scores = other(x)
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), other.state_dict().values(), strict=True)
    )
    torch.testing.assert_close(readings.scores, scores)
    torch.testing.assert_close(readings.loss, cross_entropy(scores, y))


class Spy(nn.Linear):
    """Tells which weights it was evaluated with."""

    seen: ClassVar[list] = []  # shared by copies

    def forward(self, x):
        self.seen.append(self.weight.detach().clone())
        return super().forward(x)


def test_members_come_in_pairs_around_the_network_and_sigma_away():
    network = nn.Sequential(Spy(40, 30).double())
    x, y = batch(4, 40)
    Spy.seen.clear()
    estimate(network, x, y, population=8, sigma=0.25)
    *members, last = Spy.seen
    assert len(members) == 8
    assert torch.equal(last, network[0].weight)
    deviations = torch.stack(members) - last
    for with_it, against_it in zip(deviations[::2], deviations[1::2], strict=True):
        torch.testing.assert_close(with_it, -against_it)
    assert deviations.std().item() == pytest.approx(0.25, rel=0.03)
    assert torch.corrcoef(deviations[::2].flatten(1)).fill_diagonal_(0).abs().max() < 0.15


def test_bfloat16_evaluates_every_member():
    """Autocast caches the casts of parameters; a member must not be answered from the cast of another."""
    network, (x, y) = mlp(dtype=torch.float32), batch(16, 5, dtype=torch.float32)
    keys = dict(shaping="standardised", population=200, sigma=0.3)
    exactly = estimate(network, x, y, **keys)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = [estimate(network, x, y, chunk=chunk, **keys) for chunk in (1, 50)]
    assert all(torch.nn.functional.cosine_similarity(exactly, r, dim=0) > 0.99 for r in rounded)


def test_refuses_populations_that_cannot_work():
    with pytest.raises(ValueError, match=r"population=7 is odd.*8 or antithetic=false"):
        es(population=7)
    with pytest.raises(ValueError, match="population=1 has no other member to compare with"):
        es(population=1, antithetic=False)
