"""Text: predict the token that follows `context` others, from any local file, by characters, bytes or GPT-2's tokens.

    x = t_i … t_{i+context−1},   y = t_{i+context},   for every i          (`targets: all`: y = t_{i+1} … t_{i+context})

The file lies in memory once, as the smallest integers that hold its tokens; windows are strided views of it, so a batch
of them is one indexing operation. Parts are told apart by what is to be predicted and lie one after the other:
training, validation, test. A window at the start of a part looks back into the one before; no target is in two.

With `targets: last` a training window has one target, with `all` one at every position, as GPTs are trained: the loss
is the mean over all of them, those with a short past among them. A window is tested by what follows it, whatever the
targets: so a test sample has one label and one difficulty, all with the same past, and the two are comparable.

Tiny Shakespeare (Karpathy 2015) is 1,115,394 characters of 65 kinds.
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
    """`path` is the file, relative to `root` or absolute. `level: character` takes the characters of the training part
    as the vocabulary, `byte` all 256 bytes, `gpt2` the byte pairs of the folder `vocabulary`. The last `test_fraction`
    of the windows is the test part. `limit` keeps the first windows of the training part, of whose end the share
    `validation` is held out; `test_limit` keeps as many windows, evenly spaced, of validation and test.
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
        for key, asked, there in (("limit", limit, train), ("test_limit", test_limit, windows - train)):
            if asked is not None and asked > there:
                raise ValueError(f"{key}={asked}: there are {there} samples. Give at most that many, or null for all")
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
        """See that the file is there, and the vocabulary. Raises ValueError otherwise."""
        file = _file(keys["root"], keys["path"])
        if not file.is_file():
            raise ValueError(
                f"there is no text {file}. Give dataset.path=FILE for one of your own, or get Tiny Shakespeare: "
                f"curl --create-dirs -o DATA/tinyshakespeare/input.txt {SOURCE} and dataset.root=DATA"
            )
        require_vocabulary(keys["level"], keys["vocabulary"])

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move everything to `device`. Inputs are given out as int64 whatever `dtype`."""
        self._tokens = self._tokens.to(device)  # a view, moved, would be written out
        for name in self._parts:
            x, y = self._part(name)
            setattr(self, f"{name}_x", x)
            setattr(self, f"{name}_y", y)

    def split(self, seed: int) -> None:
        """Hold out the end of the training part, whatever the seed: windows at random would share their text."""
        assert not len(self.validation_y), "already split"
        whole = self._parts["train"]
        kept = len(whole) - self._held_out
        self._parts |= {"train": whole[:kept], "validation": whole[kept:]}
        self.to(self._tokens.device, torch.float32)

    def batch(self, indices: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """As any data set's, but for the labels of `targets: all`: (batch · context,), a window's after another's."""
        x, y = super().batch(indices, generator)
        return x, y.flatten()

    def normalise(self, raw: Tensor) -> Tensor:
        """Tokens as int64."""
        return raw.long()

    def _part(self, name: str) -> tuple[Tensor, Tensor]:
        """Windows (samples, context) of a part, and the token after each (samples,) or, of the training part with
        `targets: all`, the one after each of its tokens (samples, context); in training both are views.
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
    """The tokens (n,), how many kinds there are, and the number of windows before the test part."""
    kinds = 256
    if level == "gpt2":
        assert vocabulary is not None
        symbols, kinds = byte_pairs(_text(file), vocabulary)
    else:
        symbols = np.fromfile(file, dtype=np.uint8) if level == "byte" else _characters(file)
    needed = context + math.ceil(1 / min(test_fraction, 1 - test_fraction) - 1e-9)  # a window for each of two parts
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
    known, later = np.zeros((2, CODE_POINTS), dtype=bool)
    known[symbols[: train + context]] = True
    later[symbols[train + context :]] = True
    if len(unknown := np.flatnonzero(later & ~known)):
        shown = ", ".join(repr(chr(c)) for c in unknown[:5])
        raise ValueError(
            f"{file}: its test part has {len(unknown)} characters that its training part lacks ({shown}), so "
            "they are not in the vocabulary: give dataset.level=byte, or another dataset.test_fraction"
        )
    if (kinds := int(known.sum())) < 2:
        raise ValueError(f"{file} has one kind of character only: there is nothing to predict")
    token = np.zeros(CODE_POINTS, dtype=np.uint8 if kinds <= 256 else np.int32)  # of each character
    token[known] = np.arange(kinds)
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
