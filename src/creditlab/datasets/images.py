"""Image data sets of the literature, read by torchvision's classes from torchvision's layout on disk.

    <root>/MNIST/raw/train-images-idx3-ubyte …        (MNIST, FashionMNIST, KMNIST)
    <root>/cifar-10-batches-py/data_batch_1 …         (CIFAR10; CIFAR100 in cifar-100-python)

torchvision is imported only for reading or downloading, because its import takes a second. A process reads each data
set once.

Sources: LeCun, Bottou, Bengio, Haffner 1998 (MNIST); Xiao, Rasul, Vollgraf 2017 (Fashion-MNIST); Clanuwat et al. 2018
(Kuzushiji-MNIST); Krizhevsky 2009 (CIFAR).
"""

from __future__ import annotations

import http.client
import os
import pickle
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from creditlab.datasets.base import Arrays, Dataset, image_arrays
from creditlab.keys import Count, PositiveInt, Range

_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class Images(Dataset):
    """The data set that torchvision calls `name`. `root` is the folder that contains it. `download` fetches it if it is
    missing. `pad` adds a border of that many zeros. For the other keys see `base.Dataset`.

    Raises ValueError if the data are missing, cannot be downloaded, or are damaged.
    """

    name: ClassVar[str]
    classes: ClassVar[int] = 10
    files: ClassVar[tuple[str, ...]]  # relative to root

    def __init__(
        self,
        *,
        root: str,
        download: bool,
        pad: Count,
        normalise: Literal["standard", "unit"],
        limit: PositiveInt | None,
        test_limit: PositiveInt | None,
        validation: Annotated[float, Range(0, 1, open_high=True)],
        crop: Count,
        flip: bool,
    ) -> None:
        self.require(root=root, download=download)
        super().__init__(
            _load(type(self), _folder(root), pad),  # type: ignore[arg-type]  # a class is hashable
            normalise=normalise,
            limit=limit,
            test_limit=test_limit,
            validation=validation,
            crop=crop,
            flip=flip,
        )

    @classmethod
    def require(cls, **keys: Any) -> None:
        """Check that the data are in `root`. If not, download them if `download` is set, else raise ValueError."""
        folder = _folder(keys["root"])
        missing = [file for file in cls.files if not (folder / file).is_file()]
        if missing and keys["download"]:
            _fetch(cls, folder)
        elif missing:
            raise ValueError(
                f"{cls.name} is not on this machine: there is no {folder / missing[0]}. "
                f"Give dataset.download=true to download it, or dataset.root=FOLDER if it is in another folder"
            )


class MNIST(Images):
    name, files = "MNIST", tuple(f"MNIST/raw/{file}" for file in _IDX)


class FashionMNIST(Images):
    name, files = "FashionMNIST", tuple(f"FashionMNIST/raw/{file}" for file in _IDX)


class KMNIST(Images):
    name, files = "KMNIST", tuple(f"KMNIST/raw/{file}" for file in _IDX)


class CIFAR10(Images):
    name = "CIFAR10"
    files = (*(f"cifar-10-batches-py/data_batch_{i}" for i in range(1, 6)), "cifar-10-batches-py/test_batch",
             "cifar-10-batches-py/batches.meta")  # fmt: skip


class CIFAR100(Images):
    name, classes = "CIFAR100", 100
    files = ("cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta")


def _folder(root: str) -> Path:
    return Path(root).expanduser().absolute()


def _torchvision(cls: type[Images]) -> Any:
    import torchvision.datasets

    return getattr(torchvision.datasets, cls.name)


@lru_cache(maxsize=2)
def _load(cls: type[Images], folder: Path, pad: int) -> Arrays:
    try:
        train, test = (_read(_torchvision(cls)(folder, train=part)) for part in (True, False))
    except (OSError, RuntimeError, ValueError, TypeError, AssertionError, EOFError, pickle.UnpicklingError) as error:
        data_folder = folder / Path(cls.files[0]).parent
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{cls.name} in {data_folder} cannot be read ({cause}). If it is damaged, delete that folder and give "
            f"dataset.download=true"
        ) from error
    return image_arrays(train, test, cls.classes, high=255, pad=pad)


def _read(source: Any) -> tuple[Tensor, Tensor]:
    """Images (samples, channels, height, width) and labels of a torchvision set."""
    x, y = torch.as_tensor(source.data), torch.as_tensor(source.targets)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} images and {len(y)} labels")
    return (x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)).contiguous(), y


def _fetch(cls: type[Images], folder: Path) -> None:
    """Download to a temporary folder, then move file by file, so that no incomplete file is ever in place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
            _torchvision(cls)(temporary, download=True)
            for file in cls.files:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(temporary, file), folder / file)
    except (OSError, RuntimeError, http.client.HTTPException) as error:  # what torchvision may raise without a network
        cause = " ".join(str(error).split())
        raise ValueError(
            f"{cls.name} could not be downloaded to {folder} ({cause}). Go online, or copy {cls.files[0]} and the "
            f"other files of torchvision's layout there, or give dataset.root=FOLDER if they are in another folder"
        ) from error
