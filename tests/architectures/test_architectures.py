"""What every architecture in `conf/architecture` keeps to; a new one is picked up by its YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from creditlab.architectures.block import hidden_blocks, parameter_groups, readout, weights
from creditlab.config import bind_target
from creditlab.task import Task

CONFIGS = sorted((Path(__file__).parents[2] / "conf" / "architecture").glob("*.yaml"))
IMAGES = [(1, 28, 28), (3, 32, 32)]
CONTEXTS = [(6,), (12,)]
TOKENS = 9


def task(config: Path, which: int = 1) -> Task:
    if config.stem == "transformer":
        return Task(CONTEXTS[which], 7, 0.0, TOKENS - 1.0, tokens=TOKENS)
    return Task(IMAGES[which], 7, -1.0, 1.0)


def inputs(config: Path, n: int, which: int = 1) -> Tensor:
    generator, shape = torch.Generator().manual_seed(0), task(config, which).input_shape
    if config.stem == "transformer":
        return torch.randint(TOKENS, (n, *shape), generator=generator)
    return torch.randn(n, *shape, generator=generator)


def build(config: Path, of: Task | None = None, seed: int = 0, **keys: Any) -> nn.Sequential:
    node = yaml.safe_load(config.read_text()) | keys
    return bind_target(node)(of or task(config), torch.Generator().manual_seed(seed))


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def config(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.mark.parametrize("which", [0, 1])
def test_named_blocks_end_in_a_linear_readout(config: Path, which: int) -> None:
    network = build(config, task(config, which))
    blocks = dict(hidden_blocks(network))  # asserts that they are Blocks
    assert [*blocks, "readout"] == [name for name, _ in network.named_children()]
    assert readout(network).out_features == 7
    assert not [p for block in blocks.values() for p in block.tail.parameters()]


@pytest.mark.parametrize("which", [0, 1])
def test_forward_is_body_activation_tail_of_each_block(config: Path, which: int) -> None:
    network = build(config, task(config, which)).eval()
    x = inputs(config, 3, which)
    h = x
    for _, block in hidden_blocks(network):
        a = block.body(h)
        assert block.activation(a).shape == a.shape
        h = block.tail(block.activation(a))
    assert h.ndim == 2
    scores = network(x)
    assert scores.shape == (3, 7)
    assert scores.isfinite().all()
    torch.testing.assert_close(readout(network)(h), scores)


def test_layers_have_names_of_their_own(config: Path) -> None:
    network = build(config)
    layers = weights(network)
    matrices = [p for p in network.parameters() if p.ndim >= 2]
    assert [id(p) for p in layers.values()] == [id(p) for p in matrices]
    roles = {group["role"] for group in parameter_groups(network)}
    assert roles == {"embedding" if config.stem == "transformer" else "first", "hidden", "last", "vector"}


def test_every_parameter_is_used(config: Path) -> None:
    network = build(config)
    nn.functional.cross_entropy(network(inputs(config, 8)), torch.arange(8) % 7).backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    # A bias before a normalisation has no effect; no default config has one.
    assert idle == []


def test_same_generator_same_weights(config: Path) -> None:
    one, same, other = (build(config, seed=seed).state_dict() for seed in (1, 1, 2))
    assert one.keys() == same.keys()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["readout.weight"], other["readout.weight"])


def test_draws_from_the_generator_alone(config: Path) -> None:
    before = torch.get_rng_state()
    one = build(config, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert all(torch.equal(t, one[name]) for name, t in build(config, seed=1).state_dict().items())


def test_float32_on_the_cpu_and_float64_stays(config: Path) -> None:
    network = build(config)
    assert {(p.dtype, p.device.type) for p in network.parameters()} == {(torch.float32, "cpu")}
    x = inputs(config, 2)
    assert network.double()(x.double() if x.is_floating_point() else x).dtype == torch.float64


def test_inputs_that_are_no_images(config: Path) -> None:
    features = Task((16,), 7, -1.0, 1.0)
    if config.stem == "mlp":
        assert build(config, features)(torch.zeros(2, 16)).shape == (2, 7)
    else:
        cure = "tokens: use dataset=text" if config.stem == "transformer" else "images .*architecture=mlp"
        with pytest.raises(ValueError, match=rf"shape \(16,\) are not {cure}"):
            build(config, features)
