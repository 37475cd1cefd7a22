"""Backpropagation: the exact gradient of the cross-entropy of the network's scores.

    δ_L = softmax(a_L) − y,   δ_l = (W_{l+1}ᵀ δ_{l+1}) ⊙ φ'(a_l),   ∂L/∂W_l = δ_l h_{l−1}ᵀ

Source: Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature 1986.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from creditlab.algorithms.base import Algorithm, Batch, Readings, clear_gradients, forward


class Backpropagation(Algorithm):
    """The reference for the other rules, and the base class of the rules that differ from it only in `scores`."""

    def scores(self, network: nn.Sequential, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The network's scores and, by block, its pre-activations. Their graph sends errors back as the rule does: the
        rule writes the derivative of the scores' cross-entropy through this graph.
        """
        return forward(network, x)

    def assign(self, network: nn.Sequential, batch: Batch) -> Readings:
        clear_gradients(network)
        scores, preactivations = self.scores(network, batch.x)
        if batch.probe:
            for a in preactivations.values():
                a.retain_grad()
        loss = cross_entropy(scores, batch.y)
        loss.backward()
        errors = {name: a.grad for name, a in preactivations.items() if batch.probe and a.grad is not None}
        return Readings(loss.detach(), scores.detach(), errors)
