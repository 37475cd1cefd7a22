"""The family of optimisers that descend along a map of the momentum's singular values.

    m ← β m + (1 − β) g,   u = m, or (1 − β) g + β m with Nesterov,   u as a matrix (out, rest)
    w ← (1 − η λ) w − η · scale(out, rest) · map(u)

The members differ only in `map`: the polar factor (`muon`), the top singular directions (`lowrank`), a power of the
singular values (`freon`), a chaotic polynomial (`kaon`). Without momentum this is spectral descent on the gradient. A
new member is a class with a `map`:

    class Sign(SpectralDescent):
        def map(self, x):
            return x.sign()

AdamW or SGD updates the biases, gains and embeddings, and optionally the first or the last weight.

Sources: Jordan et al., "Muon" (kellerjordan.github.io/posts/muon, 2024), whose momentum is this running mean; scales
from there, from Liu et al., "Muon is scalable for LLM training" (arXiv 2502.16982), and Bernstein, "Deriving Muon"
(jeremybernste.in/writing/deriving-muon, 2025). `g` is never overwritten, unlike in Jordan's code.
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
    """`params` are the groups of `architectures.block.parameter_groups`. Their `role` decides which are mapped: all
    `hidden` weights, `first` and `last` if the keys of these names are true, never an `embedding`. Without a role the
    shape decides: parameters of two or more dimensions are mapped.

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
                raise ValueError(f"others_betas={list(others_betas)}: AdamW needs two, such as [0.9, 0.95].")
            betas = (others_betas[0], others_betas[1])
            self.others = AdamW(nothing, others_lr, betas, eps=others_eps, weight_decay=others_weight_decay, fused=True)
        else:
            self.others = SGD(nothing, others_lr, others_momentum, weight_decay=others_weight_decay, fused=True)
        super().__init__(params, defaults={})
        if not any(group["mapped"] for group in self.param_groups):
            raise ValueError(
                f"first={first}, last={last}: with these, {type(self).__name__} maps no weight of this network. "
                "Set first or last to true."
            )

    def map(self, x: Tensor) -> Tensor:
        """The direction of descent for momentum `x`, (out, rest) or (..., out, rest), in the same shape and dtype."""
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, divided into mapped parameters and others."""
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
        """One step. `closure`, if given, is called first; its result is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["mapped"]:
                self._descend(group)
        # The other optimiser shares our state and settings, so that one state dict holds all. Loading replaces both.
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
    """`f` of each matrix. On an accelerator one call takes all matrices of one shape, because launching many small
    kernels is slow. On a CPU that is up to a third slower (four matrices of 256 × 256).
    """
    if not matrices or matrices[0].device.type == "cpu":
        return [f(x) for x in matrices]
    return apply_stacked(f, matrices)


def apply_stacked(f: Callable[[Tensor], Tensor], matrices: list[Tensor]) -> list[Tensor]:
    """`f` of each matrix, with one call for all matrices of one shape and dtype."""
    indices_by_form: dict[tuple[torch.Size, torch.dtype], list[int]] = {}
    for i, x in enumerate(matrices):
        indices_by_form.setdefault((x.shape, x.dtype), []).append(i)
    results = list(matrices)
    for indices in indices_by_form.values():
        for i, y in zip(indices, f(torch.stack([matrices[i] for i in indices])), strict=True):
            results[i] = y
    return results
