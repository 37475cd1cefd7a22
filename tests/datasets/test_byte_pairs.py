"""GPT-2's tokens, held to merges done by hand and to what `transformers` makes of the same files, where installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from creditlab.config import ConfigError
from creditlab.datasets.byte_pairs import END, byte_pairs
from creditlab.training import assemble, train
from tests.common import SMALL

MERGES = ["t h", "th e", "Ġ the", "Ġ c", "a t", "Ġc at", "Ã ©"]
TEXT = "the cat that theé\n"
BY_HAND = ["the", "Ġcat", "Ġ", "th", "at", "Ġthe", "Ã©", "Ċ"]


def letters() -> list[str]:
    """GPT-2's letter for each byte: itself where it is printed, else the next code point from 256 on."""
    characters, spare = [], 256
    for byte in range(256):
        printed = 33 <= byte <= 126 or 161 <= byte <= 172 or byte >= 174
        characters.append(chr(byte if printed else spare))
        spare += not printed
    return characters


def write_vocabulary(folder: Path, kinds: list[str] | None = None) -> Path:
    kinds = kinds or [*letters(), *(merge.replace(" ", "") for merge in MERGES), END]
    (folder / "vocab.json").write_text(json.dumps({kind: i for i, kind in enumerate(kinds)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n", encoding="utf-8")
    return folder


def named(folder: Path, tokens: np.ndarray) -> list[str]:
    kinds = {i: kind for kind, i in json.loads((folder / "vocab.json").read_text()).items()}
    return [kinds[i] for i in tokens.tolist()]


def test_tokens_are_the_merges_done_by_hand(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    tokens, kinds = byte_pairs(TEXT + END + "the", str(write_vocabulary(tmp_path)))
    assert named(tmp_path, tokens) == [*BY_HAND, END, "the"]
    assert (kinds, tokens.dtype) == (264, np.int32)


def test_every_byte_comes_back(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    text = "".join(map(chr, range(0x20, 0x250))) + "the 中文 \U0001f600 \r\n\t  x's 12"
    tokens, _ = byte_pairs(text, str(write_vocabulary(tmp_path)))
    of_letter = {letter: byte for byte, letter in enumerate(letters())}
    assert bytes(of_letter[c] for c in "".join(named(tmp_path, tokens))).decode() == text


def test_tokens_are_those_of_transformers(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers", reason="the `transformers` package is not installed")
    write_vocabulary(tmp_path)
    theirs = transformers.GPT2Tokenizer.from_pretrained(str(tmp_path))
    text = TEXT * 3 + "  the  cat's \n\n" + END
    assert byte_pairs(text, str(tmp_path))[0].tolist() == theirs(text)["input_ids"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "vocab.json").write_text("{"), r"is not GPT-2's vocab.json and merges.txt \("),
        (lambda d: write_vocabulary(d, letters()[1:]), "does not name all 256 bytes"),
        (lambda d: (d / "vocab.json").write_text(json.dumps(dict.fromkeys(letters(), 0))), "its numbers have gaps"),
        (lambda d: (d / "merges.txt").write_text("#version: 0.2\nq z\n"), "is not GPT-2's"),
        (lambda d: (d / "vocab.json").write_text("[1]"), "is not GPT-2's"),
    ],
)
def test_a_vocabulary_that_is_none(tmp_path: Path, spoil: Any, message: str) -> None:
    pytest.importorskip("tokenizers")
    spoil(write_vocabulary(tmp_path))
    with pytest.raises(ValueError, match=message):
        byte_pairs("the", str(tmp_path))


@pytest.fixture
def text(tmp_path: Path) -> list[str]:
    (tmp_path / "a.txt").write_text("the cat that the cat " * 40)
    keys = ["dataset=text", f"dataset.root={tmp_path}", "dataset.path=a.txt", "dataset.context=8", "dataset.level=gpt2"]
    return [*keys, "dataset.test_limit=20", "architecture=transformer", "architecture.width=8", "architecture.heads=2"]


def test_keys_that_cannot_be(plan: Any, text: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    for more, message in (
        ([], "level=gpt2 needs vocabulary=FOLDER, with vocab.json and merges.txt"),
        ([f"dataset.vocabulary={tmp_path}"], "that folder contains no vocab.json"),
        (["dataset.level=byte", f"dataset.vocabulary={tmp_path}"], "is used with level=gpt2 only, but level=byte"),
    ):
        given = {word.partition("=")[0] for word in more}
        with pytest.raises(ConfigError, match=message):
            assemble(plan(*SMALL, *(w for w in text if w.partition("=")[0] not in given), *more).config)
    write_vocabulary(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs tokenizers, .* pip install 'creditlab\[tokenizers\]'"):
        assemble(plan(*SMALL, *text, f"dataset.vocabulary={tmp_path}").config)


def test_a_checkpoint_of_gpt2_goes_on_with_its_own_tokens(plan: Any, text: list[str], tmp_path: Path) -> None:
    """From files as Hugging Face has them to a finished run; with another vocabulary the cure is named."""
    pytest.importorskip("tokenizers")
    write_vocabulary(tmp_path)
    shapes = {"wte.weight": (264, 8), "wpe.weight": (16, 8), "ln_f.weight": (8,), "ln_f.bias": (8,)}
    for layer in ("h.0.", "h.1."):
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"{layer}{norm}.weight": (8,), f"{layer}{norm}.bias": (8,)}
        for name, size in {
            "attn.c_attn": (8, 24),
            "attn.c_proj": (8, 8),
            "mlp.c_fc": (8, 32),
            "mlp.c_proj": (32, 8),
        }.items():
            shapes |= {f"{layer}{name}.weight": size, f"{layer}{name}.bias": size[1:]}
    generator = torch.Generator().manual_seed(0)
    weights = {name: 0.1 * torch.randn(size, generator=generator) for name, size in shapes.items()}
    save_file(weights, tmp_path / "model.safetensors")
    keys = [f"architecture.checkpoint={tmp_path / 'model.safetensors'}", "architecture.tie=true", "dataset.targets=all"]
    run = plan(*SMALL, *text, *keys, f"dataset.vocabulary={tmp_path}", "metrics=none")
    done = train(run.config, run.folder, lambda *_: None, {})
    assert done.status == "complete"
    assert done.metrics["train/loss"] < done.metrics["test/loss@init"]
    start = assemble(run.config).network
    assert torch.equal(start.get_parameter("readout.weight"), weights["wte.weight"])
    with pytest.raises(
        ConfigError, match=r"wte.weight is \(264, 8\) and does not fit .*\(256, 8\).*dataset.level=gpt2"
    ):
        assemble(plan(*SMALL, *(w for w in text if "level" not in w), *keys, "dataset.level=byte").config)
