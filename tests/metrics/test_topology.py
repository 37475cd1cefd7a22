import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import linkage

from creditlab.metrics.topology import correlation_persistence, neural_persistence

KEYS = {"p": 2.0, "shuffles": 3}


def draw(seed):
    return torch.Generator().manual_seed(seed)


def matrix(seed, rows=5, columns=8):
    return torch.randn(rows, columns, generator=draw(seed), dtype=torch.float64)


def persistence(weight, seed=1000, **keys):
    return neural_persistence(weight, draw(seed), **(KEYS | keys))


def correlation(activation, seed=1000, shuffles=3):
    return correlation_persistence(activation, draw(seed), shuffles=shuffles)


def kruskal(vertices, edges):
    """The (weight, i, j) of `edges`, in the order given, that join what was not joined before."""
    component, kept = list(range(vertices)), []
    for weight, i, j in edges:
        if component[i] != component[j]:
            kept.append(weight)
            component = [component[i] if c == component[j] else c for c in component]
    return kept


# --- neural persistence

small = st.lists(st.lists(st.sampled_from([0.0, 0.25, -0.5, 0.5, 1.0, -2.0]), min_size=4, max_size=4), min_size=1)


@given(st.one_of(small, st.integers(0, 1000).map(lambda seed: matrix(seed).tolist())), st.sampled_from([1.0, 2.0]))
@settings(deadline=None)
def test_neural_persistence_is_that_of_kruskals_tree(rows, p):
    """By adding edges from the heaviest on; ties and weights of zero, which are edges like all others, included."""
    weight = torch.tensor(rows, dtype=torch.float64)
    m, n = weight.shape
    value = persistence(weight, p=p)["value"]
    if not weight.any():
        assert math.isnan(value)
        return
    size = (weight.abs() / weight.abs().max()).tolist()
    kept = kruskal(m + n, sorted(((size[i][j], i, m + j) for i in range(m) for j in range(n)), reverse=True))
    assert len(kept) == m + n - 1
    expected = (sum((1 - w) ** p for w in kept) / (m + n - 1)) ** (1 / p)
    assert value == pytest.approx(expected, abs=1e-12)


def test_neural_persistence_of_known_graphs():
    n = 6
    assert persistence(torch.ones(n, n))["value"] == 0
    assert persistence(torch.eye(n))["value"] == pytest.approx(math.sqrt((n - 1) / (2 * n - 1)))
    assert persistence(torch.eye(n), p=1.0)["value"] == pytest.approx((n - 1) / (2 * n - 1))
    star = torch.zeros(n, n)
    star[0], star[:, 0] = 1.0, -1.0  # one row and one column join all
    assert persistence(star)["value"] == 0
    assert persistence(star)["null"] > 0.1
    assert persistence(star)["ratio"] == 0
    assert persistence(0.5 * torch.eye(1, 1))["value"] == 0
    assert math.isnan(persistence(torch.ones(n, n))["ratio"])  # there is nothing to rearrange


@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_scale_signs_and_order_of_weights_do_not_matter(seed, scale):
    weight = matrix(seed)
    sign = matrix(seed + 1).sign()
    other = scale * (sign * weight)[torch.randperm(5, generator=draw(seed))][:, torch.randperm(8, generator=draw(seed))]
    value = persistence(weight)["value"]
    assert 0 <= value <= 1
    assert persistence(other)["value"] == pytest.approx(value)
    assert persistence(weight.T)["value"] == pytest.approx(value)


def test_the_null_of_weights_is_what_their_arrangement_is_held_to():
    at_random = [persistence(matrix(seed, 30, 40), seed=seed + 50, shuffles=4)["ratio"] for seed in range(20)]
    assert np.mean(at_random) == pytest.approx(1, abs=4 * np.std(at_random) / math.sqrt(20))
    assert np.std(at_random) < 0.1
    silent = matrix(0, 30, 40)
    silent[:, 20:] *= 1e-3  # inputs that nothing looks at
    measured = persistence(silent)
    assert measured["ratio"] > 1.15
    assert measured["ratio"] == pytest.approx(measured["value"] / measured["null"])
    assert persistence(silent) == measured
    assert persistence(silent, seed=1)["null"] != measured["null"]
    assert persistence(silent, seed=1)["value"] == measured["value"]


# --- persistence of the correlation graph


def clusters(samples, groups, seed=0, noise=0.0):
    """Units in groups (sizes) that share a source, with signs and offsets of their own."""
    sources = matrix(seed, samples, len(groups))
    units = torch.repeat_interleave(sources, torch.tensor(groups), dim=1)
    return (units + noise * matrix(seed + 1, *units.shape)) * matrix(seed + 2, 1, sum(groups)) + 3


@given(st.integers(0, 1000), st.integers(2, 9))
@settings(deadline=None)
def test_correlation_persistence_is_the_mean_height_of_single_linkage(seed, units):
    activation = clusters(20, [units // 2, units - units // 2], seed, noise=0.7).numpy()
    distance = 1 - np.abs(np.corrcoef(activation.T))
    heights = linkage(distance[np.triu_indices(units, 1)], "single")[:, 2]
    assert correlation(torch.tensor(activation))["value"] == pytest.approx(heights.mean(), abs=1e-9)


def test_correlation_persistence_of_known_graphs():
    assert correlation(clusters(50, [6]))["value"] == pytest.approx(0, abs=1e-12)
    two = clusters(50, [3, 4])
    apart = 1 - abs(np.corrcoef(two[:, 0], two[:, -1])[0, 1])
    assert correlation(two)["value"] == pytest.approx(apart / 6)  # one edge of six has a length
    orthogonal = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    assert correlation(orthogonal)["value"] == pytest.approx(1)


@given(st.integers(0, 1000))
@settings(deadline=None)
def test_scale_offset_sign_and_order_of_units_do_not_matter(seed):
    activation = clusters(30, [2, 3, 2], seed, noise=1.0)
    factor, offset = matrix(seed, 1, 7), matrix(seed + 1, 1, 7)
    other = (activation * factor + offset)[torch.randperm(30, generator=draw(seed))]
    other = other[:, torch.randperm(7, generator=draw(seed))]
    value = correlation(activation)["value"]
    assert 0 <= value <= 1
    assert correlation(other)["value"] == pytest.approx(value, rel=1e-6)


def test_dead_units_are_left_out_and_counted():
    activation = clusters(40, [3, 4], noise=1.0)
    dead = torch.cat([torch.zeros(40, 5), activation, torch.full((40, 1), 0.1)], 1)
    assert correlation(dead) == pytest.approx(correlation(activation))
    assert correlation(dead)["units"] == 7
    lone = correlation(dead[:, :6])  # five dead ones and one that lives
    assert math.isnan(lone["value"])
    assert math.isnan(lone["ratio"])
    assert lone["units"] == 1


def test_the_null_of_units_is_what_chance_gives():
    independent = [correlation(matrix(seed, 100, 30), seed=seed + 50)["ratio"] for seed in range(20)]
    assert np.mean(independent) == pytest.approx(1, abs=4 * np.std(independent) / math.sqrt(20))
    assert np.std(independent) < 0.02
    chance = correlation(matrix(0, 100, 30))["null"]
    skewed = correlation(clusters(100, [30], noise=0.3))
    assert skewed["null"] == pytest.approx(chance, rel=0.05)
    assert skewed["ratio"] < 0.2
    assert skewed["ratio"] == pytest.approx(skewed["value"] / skewed["null"])
    assert correlation(clusters(100, [30], noise=0.3)) == skewed
    # what few samples do to it, the null tells: 5 samples leave units correlated by chance
    assert correlation(matrix(0, 5, 30))["null"] < 0.3 < 0.7 < correlation(matrix(0, 1000, 30))["null"]


# --- both


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_gives_nan(bad):
    x = matrix(0)
    x[1, 2] = bad
    assert all(math.isnan(v) for v in persistence(x).values())
    assert all(math.isnan(v) for v in correlation(x).values())


def test_they_draw_from_the_generator_they_are_handed_alone():
    state = torch.get_rng_state()
    x = matrix(0).float().requires_grad_()
    persistence(x), correlation(x)
    assert torch.equal(state, torch.get_rng_state())
