"""The learning signals of a step: what the rule wrote, what the optimiser did with it, and those of backpropagation.

    L = ⟨cross-entropy(predict(network, x), y)⟩,   true gradient = ∂L/∂W,   true error = ∂L/∂(a block's pre-activation)

Both come from automatic differentiation of the rule's `predict`, with the batch, the weights and the mode (training) of
the step. Running statistics and `.grad` are restored afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from creditlab.algorithms.base import Algorithm, Readings
from creditlab.architectures.block import hidden_blocks, readout, weights
from creditlab.spectral import as_matrix

Signals = dict[str, dict[str, Tensor]]  # by name, then by layer or block


def gradients(network: nn.Sequential) -> dict[str, Tensor]:
    """What the rule wrote for each weight it trains, (out, rest), by layer."""
    return {n: as_matrix(w.grad.detach()).clone() for n, w in weights(network).items() if w.grad is not None}


def errors(signals: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Error signals by block as (batch, units, space)."""
    return {n: e.detach().flatten(2) if e.ndim > 2 else e.detach()[:, :, None] for n, e in signals.items()}


def assigned(network: nn.Sequential, algorithm: Algorithm, x: Tensor, y: Tensor, readings: Readings) -> Signals:
    """The signals of a step that `algorithm` has just assigned, before the optimiser acts on them."""
    error = errors(readings.errors)
    true_gradient, true_error = backpropagated(network, algorithm, x, y)
    comparable = {n: e for n, e in true_error.items() if n in error and e.shape == error[n].shape}
    return {
        "gradient": gradients(network),
        "error": error,
        "true_gradient": true_gradient,
        "true_error": comparable,
    }


def backpropagated(
    network: nn.Sequential, algorithm: Algorithm, x: Tensor, y: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """True gradients (out, rest) by layer and true errors (batch, units, space) by block; an error is left out
    if `predict` does not send the batch exactly once through the block (forward-forward: one copy per label).
    """
    kept = {name: b.clone() for name, b in network.named_buffers()}
    passes: dict[str, list[Tensor]] = {}
    hooks = []
    for name, module in [*((n, b.body) for n, b in hidden_blocks(network)), ("", readout(network))]:
        name = name or next(reversed(network._modules))

        def note(_: nn.Module, __: Any, output: Tensor, name: str = name) -> None:
            passes.setdefault(name, []).append(output)

        hooks.append(module.register_forward_hook(note))
    try:
        with torch.enable_grad():
            loss = cross_entropy(algorithm.predict(network, x), y)
            once = {
                name: seen[0] for name, seen in passes.items() if len(seen) == 1 and len(seen[0]) in (len(x), len(y))
            }
            by_layer = weights(network)
            wanted = [*by_layer.values(), *once.values()]
            derivatives = torch.autograd.grad(loss, wanted, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
        with torch.no_grad():
            for name, b in network.named_buffers():
                b.copy_(kept[name])
    by_weight = dict(zip(by_layer, derivatives[: len(by_layer)], strict=True))
    by_block = dict(zip(once, derivatives[len(by_layer) :], strict=True))
    return (
        {n: as_matrix(g) for n, g in by_weight.items() if g is not None},
        errors({n: g for n, g in by_block.items() if g is not None}),
    )


def updates(network: nn.Sequential, before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """W − W before the step, (out, rest), by layer; layers that the step left alone are left out."""
    changed = {n: as_matrix(w.detach()) - before[n] for n, w in weights(network).items()}
    return {n: change for n, change in changed.items() if change.any()}
