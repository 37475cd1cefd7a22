"""GPT-2's tokens: byte-level byte pairs, from the vocab.json and merges.txt that come with its weights.

There are 50,257 tokens. If the vocabulary contains `<|endoftext|>`, this string is one token in the text too. The
tokeniser is Hugging Face's `tokenizers`, an optional dependency. Nothing is downloaded.

Source: Radford et al., "Language models are unsupervised multitask learners", 2019, and its code.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np

END = "<|endoftext|>"
FILES = ("vocab.json", "merges.txt")
SOURCE = "https://huggingface.co/openai-community/gpt2"


def require_vocabulary(level: str, vocabulary: str | None) -> None:
    """Raise ValueError if `level` needs something that is missing, or if `vocabulary` is given and not needed."""
    if level != "gpt2":
        if vocabulary is not None:
            raise ValueError(f"vocabulary={vocabulary} is used with level=gpt2 only, but level={level}: give null")
        return
    if vocabulary is None:
        raise ValueError(f"level=gpt2 needs vocabulary=FOLDER, with {' and '.join(FILES)} of GPT-2 (from {SOURCE})")
    folder = Path(vocabulary).expanduser()
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise ValueError(f"vocabulary={vocabulary}: that folder contains no {missing[0]}. GPT-2's is at {SOURCE}")
    if importlib.util.find_spec("tokenizers") is None:
        raise ValueError("level=gpt2 needs tokenizers, which is not installed: pip install 'creditlab[tokenizers]'")


def byte_pairs(text: str, vocabulary: str) -> tuple[np.ndarray, int]:
    """The tokens (n,) of `text`, and the size of the vocabulary. Raises ValueError if it is not a vocabulary."""
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.pre_tokenizers import ByteLevel

    names, merges = (Path(vocabulary).expanduser() / name for name in FILES)
    try:
        tokens = json.loads(names.read_text(encoding="utf-8"))
        is_complete = sorted(tokens.values()) == list(range(len(tokens))) and tokens.keys() >= set(ByteLevel.alphabet())
        if not is_complete:
            raise ValueError("it does not name all 256 bytes, or its numbers have gaps")
        tokeniser = ByteLevelBPETokenizer(str(names), str(merges))
    except Exception as error:  # the library raises a bare Exception
        raise ValueError(f"vocabulary={vocabulary} is not GPT-2's {' and '.join(FILES)} ({error})") from error
    if END in tokens:
        tokeniser.add_special_tokens([END])
    return np.array(tokeniser.encode(text).ids, dtype=np.uint8 if len(tokens) <= 256 else np.int32), len(tokens)
