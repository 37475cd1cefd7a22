"""Checkpoints of GPT-2: what is computed from them, also by Hugging Face where it is installed; which do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from creditlab.task import Task
from tests.architectures.transformer_by_hand import build, by_hand, checkpoint, shaken, tokens


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_a_checkpoint_gives_the_logits_of_hugging_faces_gpt2(tmp_path: Path, prefix: str) -> None:
    transformers = pytest.importorskip("transformers", reason="the `transformers` package is not installed")
    config = transformers.GPT2Config(vocab_size=7, n_positions=20, n_embd=16, n_layer=2, n_head=4)
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.3 * torch.randn_like(p))
    named = {name.removeprefix("transformer."): t for name, t in theirs.state_dict().items()}
    named.pop("lm_head.weight")  # tied
    save_file({prefix + name: t.contiguous() for name, t in named.items()}, tmp_path / "model.safetensors")
    network = build(checkpoint=str(tmp_path / "model.safetensors"))
    x = tokens()
    with torch.no_grad():
        expected = theirs(x, output_hidden_states=True)
        torch.testing.assert_close(network(x), expected.logits[:, -1], rtol=0, atol=1e-5)
        h = x
        for i, block in enumerate(list(network)[:-1]):
            h = block.body(h)
            if i % 2 == 0:  # the embedding and each layer's end
                torch.testing.assert_close(h.mT, expected.hidden_states[i // 2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_a_checkpoint_is_what_is_computed_from_it(tmp_path: Path, tied: bool, tie: bool) -> None:
    longer = Task((30,), 7, 0.0, 6.0, tokens=7)
    w = checkpoint(shaken(build(1, longer)).float())
    if tied:
        del w["lm_head.weight"]
    older = {"h.0.attn.bias": torch.ones(1, 1, 30, 30), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    save_file({f"transformer.{n}" if tied else n: t for n, t in (w | older).items()}, tmp_path / "m.safetensors")
    if tie and not tied:
        with pytest.raises(ValueError, match=r"lm_head\.weight that is not its wte\.weight: give tie=false"):
            build(checkpoint=str(tmp_path / "m.safetensors"), tie=True)
        return
    network = build(checkpoint=str(tmp_path / "m.safetensors"), tie=tie).double()
    x = tokens(1)
    double = {name: t.double() for name, t in w.items()}
    head = double["wte.weight"] if tied else double["lm_head.weight"]
    torch.testing.assert_close(network(x)[0], head @ by_hand(double, x[0], 2, 4)[-1][-1], rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("change", "keys", "message"),
    [
        ({"h.1.mlp.c_fc.weight": None}, {}, r"has no h\.1\.mlp\.c_fc\.weight: is it a GPT-2"),
        ({"wte.weight": None, "lm_head.weight": None}, {}, r"has no wte\.weight"),
        ({"h.2.ln_1.bias": torch.zeros(16)}, {}, r"has h\.2\.ln_1\.bias, for which this network has no place"),
        ({}, {"layers": 1}, r"has h\.1\..*is architecture\.layers right\?"),
        ({}, {"layers": 3}, r"has no h\.2\.ln_1\.weight"),
        ({}, {"width": 8}, r"wte\.weight is \(7, 16\) and does not fit embedding\.body\.token\.weight, \(7, 8\)"),
        ({"wte.weight": torch.zeros(50, 16)}, {}, r"wte\.weight is \(50, 16\) and does not fit.*tokens and context"),
        ({"wpe.weight": torch.zeros(11, 16)}, {}, r"wpe\.weight is \(11, 16\) and does not fit"),
        ({"h.0.attn.c_attn.weight": torch.zeros(48, 16)}, {}, r"c_attn\.weight is \(48, 16\) and does not fit"),
    ],
)
def test_a_checkpoint_that_does_not_fit(tmp_path: Path, change: dict, keys: dict, message: str) -> None:
    w = {name: t for name, t in (checkpoint(build()) | change).items() if t is not None}
    save_file(w, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=message):
        build(checkpoint=str(tmp_path / "m.safetensors"), **keys)


def test_a_checkpoint_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="there is no such file"):
        build(checkpoint=str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        build(checkpoint=str(tmp_path / "m.safetensors"))
