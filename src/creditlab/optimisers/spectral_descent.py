"""The family of optimisers that descend along a map of the momentum's singular values.

    m ← β m + (1 − β) g,   u = m, or (1 − β) g + β m with Nesterov,   u as a matrix (out, rest)
    w ← (1 − η λ) w − η · scale(out, rest) · map(u)

Members differ in `map` alone: the polar factor (`muon`), the top singular directions (`lowrank`), a power of the
singular values (`freon`), a chaotic polynomial (`kaon`). Without momentum this is spectral descent on the gradient. A
new member is a class with a `map`:

    class Sign(SpectralDescent):
        def map(self, x):
            return x.sign()

Biases, gains and embeddings, and by choice the first or last weight, go to AdamW or SGD.

Sources: Jordan et al., "Muon" (kellerjordan.github.io/posts/muon, 2024), whose momentum is this running mean; scales
from there, from Liu et al., "Muon is scalable for LLM training" (arXiv 2502.16982), and Bernstein, "Deriving Muon"
(jeremybernste.in/writing/deriving-muon, 2025). `g` is never overwritten, as it is in Jordan's code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from creditlab.keys import Decay, NonNegative, Positive
from creditlab.spectral import as_matrix

SCALES: dict[str, Callable[[int, int], float]] = {
    "none": lambda rows, columns: 1.0,
    "original": lambda rows, columns: math.sqrt(max(1, rows / columns)),
    "match_rms_adamw": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
    "spectral": lambda rows, columns: math.sqrt(rows / columns),
}


class SpectralDescent(Optimizer):
    """`params` are the groups of `architectures.block.parameter_groups`, whose `role` says what takes them: the map all
    `hidden` weights, the `first` and the `last` one if so asked, never an `embedding`. Groups or parameters without a
    role are divided by their shape: the map takes those of two or more dimensions.

    A parameter whose `.grad` is None stays as it is. Every group has its own `lr`.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: NonNegative,
        momentum: Decay,
        nesterov: bool,
        scale: Literal["none", "original", "match_rms_adamw", "spectral"],
        weight_decay: NonNegative,
        first: bool,
        last: bool,
        others: Literal["adamw", "sgd"],
        others_lr: NonNegative,
        others_betas: list[Decay],
        others_eps: Positive,
        others_momentum: Decay,
        others_weight_decay: NonNegative,
    ) -> None:
        self.roles = {"hidden": True, "first": first, "last": last, "vector": False, "embedding": False}
        self.mapped = {
            "mapped": True,
            "lr": lr,
            "momentum": momentum,
            "nesterov": nesterov,
            "scale": scale,
            "weight_decay": weight_decay,
        }
        nothing: list[dict[str, Any]] = [{"params": []}]
        self.others: Optimizer
        if others == "adamw":
            if len(others_betas) != 2:
                raise ValueError(f"others_betas={list(others_betas)}: AdamW has two, such as [0.9, 0.95].")
            betas = (others_betas[0], others_betas[1])
            self.others = AdamW(nothing, others_lr, betas, eps=others_eps, weight_decay=others_weight_decay, fused=True)
        else:
            self.others = SGD(nothing, others_lr, others_momentum, weight_decay=others_weight_decay, fused=True)
        super().__init__(params, defaults={})
        if not any(group["mapped"] for group in self.param_groups):
            raise ValueError(
                f"first={first}, last={last}: these leave no weight of this network to {type(self).__name__}'s map. "
                "Set first or last to true."
            )

    def map(self, x: Tensor) -> Tensor:
        """The direction of descent for momentum `x`, (out, rest) or (..., out, rest), in its shape and dtype."""
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, divided into what the map takes and what it does not."""
        params = param_group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        role = param_group.get("role")
        takes = [p.ndim >= 2 if role is None else self.roles[role] for p in params]
        for mapped, settings in ((True, self.mapped), (False, {"mapped": False, **self.others.defaults})):
            chosen = [p for p, taken in zip(params, takes, strict=True) if taken is mapped]
            if chosen:
                super().add_param_group({**settings, **param_group, "params": chosen})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step; returns what `closure`, called first if given, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["mapped"]:
                self._descend(group)
        # Its state and settings are ours, so that one state dict holds all; loading one replaces both objects.
        self.others.state = self.state
        self.others.param_groups = [group for group in self.param_groups if not group["mapped"]]
        self.others.step()
        return loss

    def _descend(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        momenta = [as_matrix(self._momentum(p, group)) for p in params]
        for p, direction in zip(params, apply(self.map, momenta), strict=True):
            rate = group["lr"] * SCALES[group["scale"]](*direction.shape)
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(direction.reshape(p.shape), alpha=-rate)

    def _momentum(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[p]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(p)
        assert p.grad is not None
        mean = state["momentum_buffer"].lerp_(p.grad, 1 - group["momentum"])
        return p.grad.lerp(mean, group["momentum"]) if group["nesterov"] else mean


def apply(f: Callable[[Tensor], Tensor], matrices: list[Tensor]) -> list[Tensor]:
    """`f` of each matrix. On an accelerator one call takes all of a shape, since small kernels cost their launch; on a
    CPU that is up to a third slower (four of 256 × 256).
    """
    if not matrices or matrices[0].device.type == "cpu":
        return [f(x) for x in matrices]
    return apply_stacked(f, matrices)


def apply_stacked(f: Callable[[Tensor], Tensor], matrices: list[Tensor]) -> list[Tensor]:
    """`f` of each matrix, with one call for all of a shape and dtype."""
    places: dict[tuple[torch.Size, torch.dtype], list[int]] = {}
    for i, x in enumerate(matrices):
        places.setdefault((x.shape, x.dtype), []).append(i)
    results = list(matrices)
    for indices in places.values():
        for i, y in zip(indices, f(torch.stack([matrices[i] for i in indices])), strict=True):
            results[i] = y
    return results
