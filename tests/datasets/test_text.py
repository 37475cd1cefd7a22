"""Text: windows and what follows them, held to slices of the file; what cannot be is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from text_files import KINDS, LENGTH, write_text

from creditlab.datasets.text import Text

KEYS: dict[str, Any] = {
    "path": "tinyshakespeare/input.txt",
    "level": "character",
    "vocabulary": None,
    "targets": "last",
    "context": 10,
    "test_fraction": 0.1,
    "limit": None,
    "test_limit": None,
    "validation": 0.0,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_text(tmp_path)
    return tmp_path


def build(root: Path, **keys: Any) -> Text:
    return Text(root=str(root), **(KEYS | keys))


def pairs(data: Text, part: str) -> list[tuple[list[int], int]]:
    x, y = getattr(data, f"{part}_x"), getattr(data, f"{part}_y")
    return list(zip(x.tolist(), y.tolist(), strict=True))


@pytest.mark.parametrize("level", ["character", "byte"])
@pytest.mark.parametrize("context", [1, 10])
def test_every_window_with_what_follows_it(root: Path, level: str, context: int) -> None:
    text = (root / KEYS["path"]).read_text()
    names = [kind.encode()[0] if level == "byte" else sorted(KINDS).index(kind) for kind in text]
    expected = [(names[i : i + context], names[i + context]) for i in range(LENGTH - context)]
    data = build(root, level=level, context=context, validation=0.2)
    data.split(3)
    parts = [pairs(data, part) for part in ("train", "validation", "test")]
    assert [pair for part in parts for pair in part] == expected
    windows = LENGTH - context
    test = round(0.1 * windows)
    held_out = round(0.2 * (windows - test))
    assert [len(part) for part in parts] == [windows - test - held_out, held_out, test]
    kinds = 256 if level == "byte" else len(KINDS)
    assert (data.task.input_shape, data.task.classes, data.task.tokens) == ((context,), kinds, kinds)


def test_targets_at_every_token(root: Path) -> None:
    last, every = build(root, validation=0.2), build(root, validation=0.2, targets="all")
    for data in (last, every):
        data.split(0)
        data.to(torch.device("cpu"), torch.float32)
    (x, y), (seen, targets) = (data.batch(torch.tensor([7, 3])) for data in (last, every))
    assert torch.equal(seen, x)
    assert targets.view(2, 10)[:, :-1].tolist() == x[:, 1:].tolist()
    assert torch.equal(targets.view(2, 10)[:, -1], y)
    assert pairs(every, "validation") == pairs(last, "validation")
    assert pairs(every, "test") == pairs(last, "test")
    assert (every.task.targets, last.task.targets) == ("all", "last")


def test_limits(root: Path) -> None:
    whole, data = build(root, validation=0.2), build(root, limit=100, test_limit=30, validation=0.5)
    assert pairs(data, "train") == pairs(whole, "train")[:100]
    step = len(whole.test_y) // 30
    assert pairs(data, "test") == pairs(whole, "test")[::step][:30]
    data.split(0)
    assert pairs(data, "train") == pairs(whole, "train")[:50]
    assert pairs(data, "validation") == pairs(whole, "train")[50:80]  # 30 of the 50 held out, one step apart


def test_windows_are_views_of_one_text(root: Path) -> None:
    data = build(root, validation=0.2, test_limit=30)
    data.split(0)
    data.to(torch.device("cpu"), torch.float64)
    parts = [data.train_x, data.train_y, data.validation_x, data.test_x]
    assert {x.untyped_storage().data_ptr() for x in parts} == {parts[0].untyped_storage().data_ptr()}
    assert parts[0].untyped_storage().nbytes() == LENGTH


def test_more_kinds_than_a_byte_holds(tmp_path: Path) -> None:
    text = "".join(chr(0x4E00 + i % 300) for i in range(2000))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    data = build(tmp_path, path="a.txt")
    assert data.task.tokens == 300
    assert data.train_x.dtype == torch.int32
    assert pairs(data, "train")[295] == ([295, 296, 297, 298, 299, 0, 1, 2, 3, 4], 5)
    assert build(tmp_path, path="a.txt", level="byte").task.tokens == 256


def test_newlines_are_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"ab\r\n" * 100)
    assert build(tmp_path, path="a.txt").task.tokens == 4


@pytest.mark.parametrize(
    ("content", "keys", "message"),
    [
        (
            b"too short",
            {},
            r"is too short: it has 9 characters, and context=10 with test_fraction=0.1 needs at least 20",
        ),
        (b"", {"level": "byte"}, r"is too short: it has 0 bytes"),
        (b"a" * 18 + b"b", {"test_fraction": 0.9}, r"it has 19 characters.* needs at least 20"),
        (
            b"ab" * 500 + b"?!?",
            {},
            r"test part has 2 characters that its training part lacks \('!', '\?'\).*level=byte",
        ),
        (b"ab\xff" * 50, {}, r"is not text in UTF-8 \(byte 0xff at 2\): give dataset.level=byte"),
        (b"a" * 500, {}, r"has only one kind of character: there is nothing to predict"),
    ],
)
def test_a_text_that_cannot_be(tmp_path: Path, content: bytes, keys: dict, message: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        build(tmp_path, path="a.txt", **keys)


def test_the_least_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"ab" * 10)
    data = build(tmp_path, path="a.txt")
    assert (len(data.train_y), len(data.test_y)) == (9, 1)


def test_a_file_that_is_not_there_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"there is no text .*input.txt\. Give dataset.path=FILE .* curl .*tinyshakespeare"
    ):
        build(tmp_path)
    with pytest.raises(ValueError, match=r"there is no text /nowhere/b\.txt"):
        Text.require(root=str(tmp_path), path="/nowhere/b.txt", level="byte", vocabulary=None)


@pytest.mark.data
def test_tiny_shakespeare(real_root: Path) -> None:
    if not (real_root / KEYS["path"]).is_file():
        pytest.skip("CREDITLAB_DATA has no tinyshakespeare/input.txt")
    data = build(real_root, context=64)
    assert data.task.tokens == 65
    assert len(data.train_y) + len(data.test_y) == 1_115_394 - 64
    assert data.train_x.untyped_storage().nbytes() == 1_115_394
    unigram = data.train_y.int().bincount(minlength=65).double() / len(data.train_y)
    assert -unigram[data.test_y].log().mean().item() == pytest.approx(3.347, abs=1e-3)  # nats
