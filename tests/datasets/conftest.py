"""Folders with image sets: small ones written for the tests, and the real ones where there are any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from image_files import write_cifar, write_mnist
from text_files import write_text


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, str]]]:
    """A folder of small sets and, for CIFAR, the MD5 of each file."""
    root = tmp_path_factory.mktemp("data")
    for name in ("MNIST", "FashionMNIST", "KMNIST"):
        write_mnist(root, name)
    write_text(root)
    return root, {"CIFAR10": write_cifar(root, 10), "CIFAR100": write_cifar(root, 100)}


@pytest.fixture
def small_root(written: tuple[Path, dict[str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of `written`, whose CIFAR files torchvision is made to accept."""
    from torchvision import datasets

    root, digests = written
    for name, md5 in digests.items():
        cls = getattr(datasets, name)
        for parts in ("train_list", "test_list"):
            monkeypatch.setattr(cls, parts, [[file, md5[file]] for file, _ in getattr(cls, parts)])
        monkeypatch.setattr(cls, "meta", cls.meta | {"md5": md5[cls.meta["filename"]]})
    return root


@pytest.fixture(scope="session")
def real_root() -> Path:
    """The folder of the real data sets."""
    if "CREDITLAB_DATA" not in os.environ:
        pytest.skip("set CREDITLAB_DATA to the folder that holds MNIST, FashionMNIST and CIFAR in torchvision's layout")
    return Path(os.environ["CREDITLAB_DATA"])
