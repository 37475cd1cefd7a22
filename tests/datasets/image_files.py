"""Small image sets in torchvision's layout, so that its readers are exercised without the real data."""

from __future__ import annotations

import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np

TRAIN, TEST = 60, 20


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_mnist(root: Path, name: str) -> None:
    """A set in MNIST's format: 60 training and 20 test samples of ten classes, all values from 0 to 255."""
    draw = np.random.default_rng(len(name))
    for part, n in (("train", TRAIN), ("t10k", TEST)):
        write_idx(root / name / "raw" / f"{part}-images-idx3-ubyte", draw.integers(0, 256, (n, 28, 28)))
        write_idx(root / name / "raw" / f"{part}-labels-idx1-ubyte", np.arange(n) % 10)


def write_cifar(root: Path, classes: int) -> dict[str, str]:
    """A set in CIFAR's format; the MD5 of each of its files."""
    draw = np.random.default_rng(classes)
    folder = root / ("cifar-10-batches-py" if classes == 10 else "cifar-100-python")
    folder.mkdir(parents=True)
    parts = [f"data_batch_{i}" for i in range(1, 6)] if classes == 10 else ["train"]
    contents: dict[str, dict] = {}
    for name, n in [
        *((part, TRAIN // len(parts)) for part in parts),
        ("test_batch" if classes == 10 else "test", TEST),
    ]:
        labels = draw.integers(0, classes, n).tolist()
        data = draw.integers(0, 256, (n, 3 * 32 * 32)).astype(np.uint8)
        contents[name] = {"data": data, "labels" if classes == 10 else "fine_labels": labels}
    if classes == 10:
        contents["batches.meta"] = {"label_names": [str(i) for i in range(10)]}
    else:
        contents["meta"] = {"fine_label_names": [str(i) for i in range(100)]}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
    return {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in contents}
