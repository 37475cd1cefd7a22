from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from creditlab.datasets.digits import Digits, stratified

KEYS: dict[str, Any] = {"test_fraction": 0.2, "pad": 0, "normalise": "standard", "limit": None, "validation": 0.0}


def build(**keys: Any) -> Digits:
    return Digits(**(KEYS | keys))


def test_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    data, bunch = build(), load_digits()
    assert data.task.input_shape == (1, 8, 8)
    x, y = torch.cat([data.train_x, data.test_x]).flatten(1), torch.cat([data.train_y, data.test_y])
    loaded = torch.cat([x, y[:, None]], 1)  # (1797, pixels and label), in another order
    reference = np.column_stack([bunch.data, bunch.target]).astype(int)
    assert sorted(loaded.tolist()) == sorted(reference.tolist())


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_test_set_is_a_share_of_each_class(fraction: float) -> None:
    data = build(test_fraction=fraction)
    sizes = torch.cat([data.train_y, data.test_y]).bincount()
    assert sizes.sum() == 1797
    assert torch.equal(data.test_y.bincount(), (fraction * sizes).round().long())


def test_stratified_draws_at_random_within_a_class() -> None:
    labels = torch.tensor([0, 1, 2] * 1000)
    mask = stratified(labels, 0.3)
    assert torch.equal(mask, stratified(labels, 0.3))
    assert torch.equal(labels[mask].bincount(), torch.tensor([300, 300, 300]))
    early = mask[:1500].sum().item()  # hypergeometric: 450 ± 17.7
    assert abs(early - 450) < 80
    assert early != 450


@pytest.mark.parametrize("fraction", [0.0001, 0.9999])
def test_a_share_that_leaves_nothing(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"leaves no training samples or no test samples: try 0.2"):
        build(test_fraction=fraction)


def test_are_read_without_scikit_learn_or_pandas() -> None:
    """A training process pays for neither import."""
    code = f"""
import sys
from creditlab.datasets.digits import Digits
assert len(Digits(**{KEYS!r}).test_y) == 359
print([m for m in ("sklearn", "pandas", "scipy", "torchvision", "matplotlib") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
