"""Weights of GPT-2 for `transformer`, from a local file of safetensors with Hugging Face's names.

    wte.weight, wpe.weight, h.0.ln_1.weight, h.0.attn.c_attn.weight, …, ln_f.bias, each with or without the prefix
    `transformer.`; lm_head.weight if it is not tied to wte.weight

The file stores the matrices of a layer as (in, out). Only the first positions are used, as many as the context has.
Every other shape must be that of the network, and every tensor must have its place. A file of weights does not contain
the number of heads, so `heads` must be set correctly (12 in the smallest GPT-2).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from creditlab.architectures.block import tied

EMPTY = torch.empty(0)
MASKS = (".attn.bias", ".attn.masked_bias")  # of attention; older files contain them


def _correspondences(layers: int) -> Iterator[tuple[str, str, bool]]:
    """(name in the file, name of our parameter, whether it is transposed)."""
    yield "wte.weight", "embedding.body.token.weight", False
    yield "wpe.weight", "embedding.body.position.weight", False
    units = {
        "attention": {"ln_1": "norm", "attn.c_attn": "qkv", "attn.c_proj": "out"},
        "mlp": {"ln_2": "norm", "mlp.c_fc": "up", "mlp.c_proj": "down"},
    }
    for i in range(layers):
        for unit, modules in units.items():
            for theirs, ours in modules.items():
                for part in ("weight", "bias"):
                    transposed = part == "weight" and ours != "norm"
                    yield f"h.{i}.{theirs}.{part}", f"{unit}{i + 1}.body.{ours}.{part}", transposed
    yield "ln_f.weight", f"mlp{layers}.body.last_norm.weight", False
    yield "ln_f.bias", f"mlp{layers}.body.last_norm.bias", False
    yield "lm_head.weight", "readout.weight", False


@torch.no_grad()
def load_checkpoint(network: nn.Sequential, path: str) -> None:
    """Overwrite every weight of a `transformer`. Raises ValueError if the file does not fit it."""
    checkpoint = _read(Path(path).expanduser())
    parameters = dict(network.named_parameters(remove_duplicate=False))
    correspondences = list(_correspondences((len(network) - 2) // 2))
    if left_over := sorted(checkpoint.keys() - {theirs for theirs, _, _ in correspondences}):
        raise ValueError(
            f"checkpoint={path} has {left_over[0]}, for which this network has no place: is architecture.layers right?"
        )
    if tied(network) and not torch.equal(checkpoint.get("lm_head.weight", EMPTY), checkpoint.get("wte.weight", EMPTY)):
        raise ValueError(f"checkpoint={path} has a lm_head.weight that is not its wte.weight: give tie=false")
    for theirs, ours, transposed in correspondences:
        if theirs not in checkpoint:
            raise ValueError(f"checkpoint={path} has no {theirs}: is it a GPT-2, and architecture.layers right?")
        source, target = checkpoint[theirs], parameters[ours]
        if transposed and source.ndim == 2:
            source = source.T
        if theirs == "wpe.weight":
            source = source[: len(target)]
        if source.shape != target.shape:
            raise ValueError(
                f"checkpoint={path}: {theirs} is {tuple(checkpoint[theirs].shape)} and does not fit {ours}, "
                f"{tuple(target.shape)}. The keys of the architecture, and tokens and context of the data set, must be "
                "the checkpoint's (GPT-2's 50,257 tokens: dataset.level=gpt2)"
            )
        target.copy_(source)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"checkpoint={path}: there is no such file. Give a model.safetensors of GPT-2, or null")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"checkpoint={path} cannot be read as safetensors ({error})") from error
    checkpoint = {name.removeprefix("transformer."): t for name, t in tensors.items() if not name.endswith(MASKS)}
    if "wte.weight" in checkpoint:
        checkpoint.setdefault("lm_head.weight", checkpoint["wte.weight"])
    return checkpoint
