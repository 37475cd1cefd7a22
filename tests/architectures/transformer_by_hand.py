"""A small transformer, and the same from weights named as Hugging Face does, a head and a position at a time."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from creditlab.architectures.transformer import transformer
from creditlab.task import Task

TASK = Task((12,), 7, 0.0, 6.0, tokens=7)
KEYS: dict[str, Any] = {"layers": 2, "heads": 4, "width": 16, "tie": False, "init": "gpt2", "checkpoint": None}


def build(seed: int = 0, task: Task = TASK, **keys: Any) -> nn.Sequential:
    return transformer(task, torch.Generator().manual_seed(seed), **(KEYS | keys))


def tokens(n: int = 5, context: int = 12, kinds: int = 7) -> Tensor:
    return torch.randint(kinds, (n, context), generator=torch.Generator().manual_seed(3))


def shaken(network: nn.Sequential) -> nn.Sequential:
    """Every parameter at random and of a size to matter, in float64."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in network.double().parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype) * (0.4 if p.ndim > 1 else 1.0))
    return network


def checkpoint(network: nn.Sequential, layers: int = 2) -> dict[str, Tensor]:
    """The network's weights as Hugging Face names and lays them out: written down, not taken from the code."""
    p = {name: t.detach() for name, t in network.named_parameters()}
    checkpoint = {
        "wte.weight": p["embedding.body.token.weight"],
        "wpe.weight": p["embedding.body.position.weight"],
        "ln_f.weight": p[f"mlp{layers}.body.last_norm.weight"],
        "ln_f.bias": p[f"mlp{layers}.body.last_norm.bias"],
        "lm_head.weight": p["readout.weight"],
    }
    for i in range(layers):
        for part in ("weight", "bias"):
            checkpoint[f"h.{i}.ln_1.{part}"] = p[f"attention{i + 1}.body.norm.{part}"]
            checkpoint[f"h.{i}.ln_2.{part}"] = p[f"mlp{i + 1}.body.norm.{part}"]
        for theirs, ours in {
            "attn.c_attn": f"attention{i + 1}.body.qkv",
            "attn.c_proj": f"attention{i + 1}.body.out",
            "mlp.c_fc": f"mlp{i + 1}.body.up",
            "mlp.c_proj": f"mlp{i + 1}.body.down",
        }.items():
            checkpoint[f"h.{i}.{theirs}.weight"] = p[f"{ours}.weight"].T
            checkpoint[f"h.{i}.{theirs}.bias"] = p[f"{ours}.bias"]
    return {name: t.clone().contiguous() for name, t in checkpoint.items()}


def by_hand(w: dict[str, Tensor], x: Tensor, layers: int, heads: int) -> list[Tensor]:
    """Residual stream (positions, width) after each unit for one sequence `x`, from weights named as Hugging Face does,
    a head and a position at a time.
    """

    def norm(h: Tensor, name: str) -> Tensor:
        mean = h.mean(1, keepdim=True)
        return (h - mean) / ((h - mean) ** 2).mean(1, keepdim=True).add(1e-5).sqrt() * w[f"{name}.weight"] + w[
            f"{name}.bias"
        ]

    def affine(h: Tensor, name: str) -> Tensor:
        return h @ w[f"{name}.weight"] + w[f"{name}.bias"]

    h = torch.stack([w["wte.weight"][t] + w["wpe.weight"][i] for i, t in enumerate(x.tolist())])
    seen = [h]
    width = h.shape[1]
    d = width // heads
    for i in range(layers):
        qkv = affine(norm(h, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn")
        rows = []
        for t in range(len(h)):
            parts = []
            for head in range(heads):
                q, k, v = (qkv[:, j * width + head * d : j * width + (head + 1) * d] for j in range(3))
                e = torch.stack([(q[t] * k[s]).sum() / d**0.5 for s in range(t + 1)]).exp()
                parts.append(sum(e[s] / e.sum() * v[s] for s in range(t + 1)))
            rows.append(torch.cat(parts))
        h = h + affine(torch.stack(rows), f"h.{i}.attn.c_proj")
        seen.append(h)
        a = affine(norm(h, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")
        gelu = 0.5 * a * (1 + torch.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))
        h = h + affine(gelu, f"h.{i}.mlp.c_proj")
        seen.append(h)
    seen[-1] = norm(h, "ln_f")
    return seen
