"""Text: predict the token that follows `context` others. The text is any local file. Tokens are characters, bytes or
GPT-2's tokens.

    x = t_i … t_{i+context−1},   y = t_{i+context},   for every i          (`targets: all`: y = t_{i+1} … t_{i+context})

The file lies in memory once, as the smallest integers that can represent its tokens. Windows are strided views of it,
so a batch of windows is one indexing operation. The parts follow one another: training, validation, test. A window
belongs to the part that its target lies in, so no target is in two parts. The first windows of a part start in the part
before it.

With `targets: last` a training window has one target. With `all` it has one at every position, as in the training of
GPTs; the loss is the mean over all of them, including those with a short past. A test window has one target, the token
that follows it, for both settings. So every test sample has one label, one difficulty and a past of the same length,
and the two settings are comparable.

Tiny Shakespeare (Karpathy 2015) has 1,115,394 characters of 65 kinds.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Generator, Tensor

from creditlab.datasets.base import Arrays, Dataset
from creditlab.datasets.byte_pairs import byte_pairs, require_vocabulary
from creditlab.keys import PositiveInt, Range

CODE_POINTS = 0x110000  # of Unicode
SOURCE = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"


class Text(Dataset):
    """`path` is the file, relative to `root` or absolute. The vocabulary depends on `level`: for `character` it is the
    characters of the training part, for `byte` all 256 bytes, for `gpt2` the byte pairs in the folder `vocabulary`.
    The test part is the last share `test_fraction` of the windows. `limit` keeps the first windows of the training
    part; the last share `validation` of these is held out. `test_limit` keeps that many windows, evenly spaced, of the
    validation part and of the test part.
    """

    def __init__(
        self,
        *,
        root: str,
        path: str,
        level: Literal["character", "byte", "gpt2"],
        vocabulary: str | None,
        context: PositiveInt,
        targets: Literal["last", "all"],
        test_fraction: Annotated[float, Range(0, 1, open_low=True, open_high=True)],
        limit: PositiveInt | None,
        test_limit: PositiveInt | None,
        validation: Annotated[float, Range(0, 1, open_high=True)],
    ) -> None:
        self.require(root=root, path=path, level=level, vocabulary=vocabulary)
        self._tokens, kinds, train = _load(_file(root, path), level, vocabulary, context, test_fraction)
        self._context, self._targets = context, targets
        windows = len(self._tokens) - context
        for key, wanted, available in (("limit", limit, train), ("test_limit", test_limit, windows - train)):
            if wanted is not None and wanted > available:
                raise ValueError(
                    f"{key}={wanted}: there are {available} samples. Give at most that many, or null for all"
                )
        self._test_limit = test_limit
        self._parts = {"train": range(limit or train), "validation": range(0), "test": range(train, windows)}
        zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        super().__init__(
            Arrays(*self._part("train"), *self._part("test"), kinds, 0.0, kinds - 1.0, zero, one, tokens=kinds),
            normalise="standard",
            limit=None,
            test_limit=None,
            validation=validation,
            crop=0,
            flip=False,
        )
        self.task = replace(self.task, targets=targets)

    @classmethod
    def require(cls, **keys: Any) -> None:
        """Raise ValueError if the file or the vocabulary is missing."""
        file = _file(keys["root"], keys["path"])
        if not file.is_file():
            raise ValueError(
                f"there is no text {file}. Give dataset.path=FILE for a text of yours, or get Tiny Shakespeare: "
                f"curl --create-dirs -o DATA/tinyshakespeare/input.txt {SOURCE} and dataset.root=DATA"
            )
        require_vocabulary(keys["level"], keys["vocabulary"])

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move everything to `device`. Inputs are always returned as int64; `dtype` is not used."""
        self._tokens = self._tokens.to(device)  # moving the views would copy every window
        for name in self._parts:
            x, y = self._part(name)
            setattr(self, f"{name}_x", x)
            setattr(self, f"{name}_y", y)

    def split(self, seed: int) -> None:
        """Hold out the end of the training part, for every seed: random windows would overlap with training windows."""
        assert not len(self.validation_y), "already split"
        whole = self._parts["train"]
        kept = len(whole) - self._held_out
        self._parts |= {"train": whole[:kept], "validation": whole[kept:]}
        self.to(self._tokens.device, torch.float32)

    def batch(self, indices: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """As for any data set. With `targets: all` the labels are (batch · context,), window after window."""
        x, y = super().batch(indices, generator)
        return x, y.flatten()

    def normalise(self, raw: Tensor) -> Tensor:
        """Tokens as int64."""
        return raw.long()

    def _part(self, name: str) -> tuple[Tensor, Tensor]:
        """The windows (samples, context) of a part and their targets: the token after each window (samples,), or, for
        the training part with `targets: all`, the token after each token (samples, context). For the training part both
        are views.
        """
        part = self._parts[name]
        if name != "train" and self._test_limit is not None and len(part) > self._test_limit:
            part = part[:: len(part) // self._test_limit][: self._test_limit]
        windows = self._tokens.unfold(0, self._context + 1, 1)[part.start : part.stop : part.step]
        if name != "train":
            return windows[:, :-1], windows[:, -1].long()
        return windows[:, :-1], windows[:, -1] if self._targets == "last" else windows[:, 1:]


def _file(root: str, path: str) -> Path:
    return Path(root).expanduser().absolute() / Path(path).expanduser()


@lru_cache(maxsize=2)
def _load(
    file: Path, level: str, vocabulary: str | None, context: int, test_fraction: float
) -> tuple[Tensor, int, int]:
    """The tokens (n,), the size of the vocabulary, and the number of windows before the test part."""
    kinds = 256
    if level == "gpt2":
        assert vocabulary is not None
        symbols, kinds = byte_pairs(_text(file), vocabulary)
    else:
        symbols = np.fromfile(file, dtype=np.uint8) if level == "byte" else _characters(file)
    needed = context + math.ceil(
        1 / min(test_fraction, 1 - test_fraction) - 1e-9
    )  # one window for each of the two parts
    if len(symbols) < needed:
        kind = "token" if level == "gpt2" else level
        raise ValueError(
            f"{file} is too short: it has {len(symbols)} {kind}s, and context={context} with "
            f"test_fraction={test_fraction} needs at least {needed}"
        )
    windows = len(symbols) - context
    train = windows - round(test_fraction * windows)
    if level != "character":
        return torch.from_numpy(symbols), kinds, train
    in_training, in_test = np.zeros((2, CODE_POINTS), dtype=bool)
    in_training[symbols[: train + context]] = True
    in_test[symbols[train + context :]] = True
    if len(unknown := np.flatnonzero(in_test & ~in_training)):
        examples = ", ".join(repr(chr(c)) for c in unknown[:5])
        raise ValueError(
            f"{file}: its test part has {len(unknown)} characters that its training part lacks ({examples}), so "
            "they are not in the vocabulary: give dataset.level=byte, or another dataset.test_fraction"
        )
    if (kinds := int(in_training.sum())) < 2:
        raise ValueError(f"{file} has only one kind of character: there is nothing to predict")
    token = np.zeros(CODE_POINTS, dtype=np.uint8 if kinds <= 256 else np.int32)  # of each character
    token[in_training] = np.arange(kinds)
    return torch.from_numpy(token[symbols]), kinds, train


def _characters(file: Path) -> np.ndarray:
    """The code points (n,) of a text in UTF-8."""
    return np.frombuffer(_text(file).encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not text in UTF-8 (byte {error.object[error.start]:#x} at {error.start}): "
            "give dataset.level=byte"
        ) from error
