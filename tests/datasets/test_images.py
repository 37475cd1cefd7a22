from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from image_files import write_idx, write_mnist
from torchvision import datasets

from creditlab.datasets import images
from creditlab.datasets.images import CIFAR10, CIFAR100, KMNIST, MNIST, FashionMNIST, Images

KEYS: dict[str, Any] = {
    "download": False,
    "pad": 0,
    "normalise": "standard",
    "limit": None,
    "test_limit": None,
    "validation": 0.0,
    "crop": 0,
    "flip": False,
}
FAMILY = [MNIST, FashionMNIST, KMNIST, CIFAR10, CIFAR100]


def build(cls: type[Images], root: Path, **keys: Any) -> Images:
    return cls(root=str(root), **(KEYS | keys))


@pytest.mark.parametrize("cls", FAMILY)
def test_images_are_those_of_torchvision(cls: type[Images], small_root: Path) -> None:
    data = build(cls, small_root)
    for train, x, y in ((True, data.train_x, data.train_y), (False, data.test_x, data.test_y)):
        reference = getattr(datasets, cls.name)(small_root, train=train)
        assert len(reference) == len(y)
        for i in (0, 7, len(y) - 1):
            picture, label = reference[i]
            pixels = np.asarray(picture)  # (h, w) or (h, w, c)
            assert np.array_equal(x[i].numpy(), pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))
            assert y[i] == label
    assert data.task.classes == cls.classes


@pytest.mark.parametrize("cls", FAMILY)
def test_absent(cls: type[Images], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = rf"{cls.name} is not on this machine: there is no {tmp_path}/nowhere/{cls.files[0]}\. Give "
    with pytest.raises(ValueError, match=message) as refusal:
        build(cls, Path("nowhere"))
    assert "dataset.download=true" in str(refusal.value)
    assert "dataset.root=FOLDER" in str(refusal.value)
    with pytest.raises(ValueError, match=message):
        cls.require(root="nowhere", **KEYS)
    assert list(tmp_path.iterdir()) == []


def test_require_of_data_that_are_there(small_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_torchvision", lambda cls: pytest.fail("nothing is to be read or fetched"))
    for cls in FAMILY:
        cls.require(root=str(small_root), **KEYS)
        cls.require(root=str(small_root), **(KEYS | {"download": True}))


def test_a_file_is_missing(small_root: Path, tmp_path: Path) -> None:
    shutil.copytree(small_root / "KMNIST", tmp_path / "KMNIST")
    (tmp_path / "KMNIST/raw/t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match=r"there is no .*/KMNIST/raw/t10k-labels-idx1-ubyte\."):
        build(KMNIST, tmp_path)


class Remote:
    """Stands for the network: what torchvision's `download` does, file by file, failing at the one numbered `fails`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.calls = 0

        def download(source: datasets.MNIST) -> None:
            self.calls += 1
            write_mnist(Path(source.root), "MNIST")
            if error:
                half = Path(source.raw_folder, "t10k-images-idx3-ubyte")
                half.write_bytes(half.read_bytes()[:1000])
                raise error

        monkeypatch.setattr(datasets.MNIST, "download", download)


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = Remote(monkeypatch)
    data = build(MNIST, tmp_path / "new", download=True)
    assert len(data.train_y) == 60
    build(MNIST, tmp_path / "new", download=True)
    assert remote.calls == 1
    downloaded = sorted(str(p.relative_to(tmp_path / "new")) for p in (tmp_path / "new").rglob("*") if p.is_file())
    assert downloaded == sorted(MNIST.files)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["MNIST"]


@pytest.mark.parametrize(
    "error",
    [
        URLError("Name or service not known"),
        RuntimeError("Error downloading:\nTried mirror, got:\n Name or service not known"),
        ConnectionResetError("Name or service not known"),
    ],
)
def test_offline(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Remote(monkeypatch, error)
    with pytest.raises(ValueError, match="Name or service not known") as refusal:
        build(MNIST, tmp_path, download=True)
    message = str(refusal.value)
    assert message.startswith(f"MNIST could not be downloaded to {tmp_path} (")
    assert "\n" not in message
    assert "dataset.root=FOLDER" in message
    assert list(tmp_path.iterdir()) == []  # nothing that a later run would take for the data
    with pytest.raises(ValueError, match="is not on this machine"):
        build(MNIST, tmp_path)


def test_root_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"MNIST could not be downloaded to .*/file/data"):
        build(MNIST, tmp_path / "file" / "data", download=True)


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "labels"])
def test_damaged_idx_file(damage: str, small_root: Path, tmp_path: Path) -> None:
    shutil.copytree(small_root / "MNIST", tmp_path / "MNIST")
    file = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    if damage == "labels":
        write_idx(tmp_path / "MNIST/raw/train-labels-idx1-ubyte", np.zeros(59))
    else:
        content = {"cut": file.read_bytes()[:5000], "empty": b"", "foreign": b"<html>Not found</html>"}
        file.write_bytes(content[damage])
    with pytest.raises(
        ValueError, match=rf"MNIST in {tmp_path}/MNIST/raw cannot be read \(.+\).*dataset.download=true"
    ):
        build(MNIST, tmp_path)


def test_damaged_cifar(small_root: Path, tmp_path: Path) -> None:
    shutil.copytree(small_root / "cifar-10-batches-py", tmp_path / "cifar-10-batches-py")
    with open(tmp_path / "cifar-10-batches-py/data_batch_3", "ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"CIFAR10 in .*cifar-10-batches-py cannot be read \(.*corrupted.*\)"):
        build(CIFAR10, tmp_path)


# Published mean and standard deviation of the training images in [0, 1].
PUBLISHED = {
    MNIST: ((0.1307,), (0.3081,)),
    FashionMNIST: ((0.2860,), (0.3530,)),
    CIFAR10: ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    CIFAR100: ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


@pytest.mark.data
@pytest.mark.parametrize("cls", PUBLISHED)
def test_real_data(cls: type[Images], real_root: Path) -> None:
    data = build(cls, real_root)
    assert len(data.train_y) == (50_000 if cls.name.startswith("CIFAR") else 60_000)
    assert len(data.test_y) == 10_000
    assert torch.equal(data.test_y.bincount() > 0, torch.ones(cls.classes, dtype=torch.bool))
    means, stds = PUBLISHED[cls]
    assert data.task.low == pytest.approx(min(-m / s for m, s in zip(means, stds, strict=True)), abs=1e-3)
    assert data.task.high == pytest.approx(max((1 - m) / s for m, s in zip(means, stds, strict=True)), abs=1e-3)
    if cls is MNIST:
        assert data.train_y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
