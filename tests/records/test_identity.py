"""What the identity of a run depends on."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditlab import records
from tests.records.common import CONFIG, changed


def test_identity_is_frozen():
    """A changed derivation would disown every finished run of every user."""
    assert records.identity(CONFIG) == "92ea5712cd06"


@given(st.randoms())
def test_identity_does_not_depend_on_the_order_of_keys(shuffler: random.Random):
    def shuffled(node):
        if not isinstance(node, dict):
            return node
        items = [(key, shuffled(value)) for key, value in node.items()]
        shuffler.shuffle(items)
        return dict(items)

    assert records.identity(shuffled(CONFIG)) == records.identity(CONFIG)


@pytest.mark.parametrize(
    "path",
    [
        "device",
        "threads",
        "sweep",
        "dataset__root",
        "dataset__download",
        "training__checkpoint_seconds",
        "choices__algorithm",
    ],
)
def test_identity_leaves_out_what_cannot_change_the_result(path):
    assert records.identity(changed(**{path: "other"})) == records.identity(CONFIG)


@pytest.mark.parametrize(
    "path", ["seed", "precision", "optimiser__lr", "architecture__widths", "training__steps", "algorithm___target_"]
)
def test_identity_tells_apart_what_can(path):
    assert records.identity(changed(**{path: 3})) != records.identity(CONFIG)


def test_folder_name_is_readable():
    assert records.folder_name(CONFIG) == f"bp-adamw-digits-mlp-s0-{records.identity(CONFIG)}"
