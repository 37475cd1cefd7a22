from pathlib import Path

import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf
from torch import nn

from creditlab.architectures.block import Block

CONF = Path(__file__).parents[2] / "conf" / "optimiser"


def pytest_generate_tests(metafunc):
    """A test that asks for `option` runs for every YAML of the group, `member` for those of the spectral family."""
    options = sorted(path.stem for path in CONF.glob("*.yaml"))
    family = [o for o in options if "creditlab.optimisers" in (CONF / f"{o}.yaml").read_text()]
    for name, values in (("option", options), ("member", family)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values)


@pytest.fixture
def build():
    """`build(option, params, **overrides)`: the optimiser of conf/optimiser/<option>.yaml."""

    def make(option, params, **overrides):
        keys = OmegaConf.to_container(OmegaConf.load(CONF / f"{option}.yaml"))
        target = get_class(keys.pop("_target_"))
        unknown = overrides.keys() - keys.keys()
        assert not unknown, f"{option}.yaml has no {unknown}"
        return target(params, **{**keys, **overrides})

    return make


@pytest.fixture
def network():
    """`network(seed, dtype)`: a convolution, a hidden layer and a read-out, all roles among its parameters."""

    def make(seed=0, dtype=torch.float64):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layers = nn.Sequential()
            layers.add_module("conv1", Block(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten()))
            layers.add_module("fc2", Block(nn.Sequential(nn.Linear(64, 12), nn.LayerNorm(12)), nn.ReLU()))
            layers.add_module("fc3", Block(nn.Linear(12, 12), nn.ReLU()))
            layers.add_module("readout", nn.Linear(12, 3))
        return layers.to(dtype)

    return make
