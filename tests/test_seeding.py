import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from creditlab import seeding

STREAMS = ("init", "order", "augmentation", "feedback", "algorithm")


def test_states_are_frozen():
    """A changed derivation would silently move every run of every user: these numbers must never change."""
    assert seeding.state(0, "init") == 1382811490448980153
    assert seeding.state(7, "order", 3) == 6974356989484710804


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_streams_and_steps_are_apart(seed, step):
    states = {
        seeding.state(s, stream, t) for s, stream, t in itertools.product((seed, seed + 1), STREAMS, (step, step + 1))
    }
    assert len(states) == 4 * len(STREAMS)
    assert all(0 <= s < 2**63 for s in states)


def test_a_stream_does_not_depend_on_what_was_drawn_before():
    first = torch.rand(5, generator=seeding.generator(3, "init", 2))
    torch.manual_seed(99)
    torch.rand(1000)
    seeding.generator(3, "order", 2)
    assert torch.equal(first, torch.rand(5, generator=seeding.generator(3, "init", 2)))


def test_neighbouring_streams_are_uncorrelated():
    draws = torch.stack([torch.randn(4000, generator=seeding.generator(s, "init")) for s in range(20)])
    correlations = torch.corrcoef(draws) - torch.eye(20)
    assert correlations.abs().max() < 5 / 4000**0.5
