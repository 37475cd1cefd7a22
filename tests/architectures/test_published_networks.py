"""lenet, cnn3 and resnet18 against the networks that they stand for, written out anew or taken from torchvision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from creditlab.architectures.block import weights
from creditlab.architectures.cnn3 import cnn3
from creditlab.architectures.lenet import lenet
from creditlab.architectures.resnet18 import resnet18
from creditlab.task import Task

CIFAR = Task((3, 32, 32), 10, -1.0, 1.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def through(x: Tensor, network: nn.Sequential, padding: int, last: Callable[[Tensor], Tensor]) -> Tensor:
    """Three convolutions, the first two pooled, then `last` and two linear layers."""
    p = list(network.parameters())
    for i in range(3):
        x = F.conv2d(x, p[2 * i], p[2 * i + 1], padding=padding).clamp(min=0)
        x = F.max_pool2d(x, 2) if i < 2 else last(x)
    return (x @ p[6].T + p[7]).clamp(min=0) @ p[8].T + p[9]


def test_resnet18_for_100_classes() -> None:
    network = resnet18(Task((3, 32, 32), 100, -1.0, 1.0), generator(), width=64, norm="batch", groups=1, init="default")
    assert size(network) == 11_173_962 + 90 * 513  # of the one for ten classes
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 100)


def test_lenet() -> None:
    network = lenet(CIFAR, generator(), activation="relu", init="default")
    assert size(network) == 128_842
    assert list(weights(network)) == ["conv1", "conv2", "conv3", "fc1", "readout"]
    x = torch.randn(4, 3, 32, 32, generator=generator(1))
    torch.testing.assert_close(network(x), through(x, network, 0, lambda h: h.mean((2, 3))))


def test_cnn3() -> None:
    network = cnn3(CIFAR, generator(), activation="relu", init="default")
    assert size(network) == 321_290
    x = torch.randn(4, 3, 32, 32, generator=generator(1))
    torch.testing.assert_close(network(x), through(x, network, 1, lambda h: F.max_pool2d(h, 2).flatten(1)))


@pytest.mark.parametrize(("network", "least"), [(lenet, 18), (cnn3, 8)])
def test_least_size(network: Callable[..., nn.Sequential], least: int) -> None:
    shape = (1, least, least)
    built = network(Task(shape, 10, 0.0, 1.0), generator(), activation="relu", init="default")
    assert built(torch.zeros(2, *shape)).shape == (2, 10)
    with pytest.raises(ValueError, match=f"needs {least} × {least} or more"):
        network(Task((1, least, least - 1), 10, 0.0, 1.0), generator(), activation="relu", init="default")


def test_resnet18_against_torchvision() -> None:
    from torchvision.models import resnet18 as reference_resnet18

    network = resnet18(CIFAR, generator(), width=64, norm="batch", groups=32, init="kaiming_normal")
    assert size(network) == 11_173_962
    reference = reference_resnet18(num_classes=10)
    reference.conv1, reference.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    tensors = network.state_dict().values()
    reference.load_state_dict(dict(zip(reference.state_dict(), tensors, strict=True)))
    x = torch.randn(3, 3, 32, 32, generator=generator(1))
    torch.testing.assert_close(network(x), reference(x), rtol=1e-4, atol=1e-4)
    names = list(weights(network))
    assert [n for n in names if n.startswith("stage2")] == [
        "stage2_0.conv1",
        "stage2_0.conv2",
        "stage2_0.shortcut",
        "stage2_1.conv1",
        "stage2_1.conv2",
    ]
    assert len(names) == 21


@pytest.mark.parametrize("norm", ["none", "batch", "group"])
def test_resnet18_norms(norm: str) -> None:
    network = resnet18(Task((1, 8, 8), 10, 0.0, 1.0), generator(), width=8, norm=norm, groups=4, init="kaiming_normal")
    kinds = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | nn.GroupNorm)]
    assert len(kinds) == (0 if norm == "none" else 20)
    biases = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    assert len(biases) == (20 if norm == "none" else 0)
    assert network(torch.zeros(2, 1, 8, 8)).isfinite().all()
    with pytest.raises(ValueError, match="groups=3 does not divide 8 channels"):
        resnet18(Task((1, 8, 8), 10, 0.0, 1.0), generator(), width=8, norm="group", groups=3, init="default")
