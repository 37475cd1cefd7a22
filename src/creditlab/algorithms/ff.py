"""Forward-forward: each hidden block learns by itself to tell inputs with true labels from inputs with wrong ones.

    g(h) = Σ h² (or its mean over units),   p(true) = σ(g − θ)
    L_block = ½ ⟨softplus(θ − g⁺)⟩ + ½ ⟨softplus(g⁻ − θ)⟩      (cross-entropy of p over positives and negatives stacked)

h is the activation of the block, before pooling. In a convolutional block a channel is one unit, and its h² is the mean
over positions (the sum would make logits of thousands). θ = `threshold` with `goodness: mean`, and `threshold` × units
with `goodness: sum`. Between blocks each sample's activity vector is divided by its length, so a block cannot read the
goodness of the block below. No gradient crosses from block to block.

The label is part of the input, as a distribution p over classes: 1 at the label, or 1/classes everywhere (*neutral*).
`overlay` writes low + p (high − low) over the first entries of the flattened input (Hinton). `pattern` adds
label_scale Σ_k p_k P_k, where P_k is a fixed random ±1 pattern of each class in the shape of the whole input, which
convolutions see at every position (the idea of Scodellaro et al., whose patterns are Fourier waves).

Negatives carry a wrong label. `never_true`: any wrong label. `hard`: a label that the read-out finds likely, which is
trained by cross-entropy on the last block under the neutral label (Hinton: a third of the epochs).

Extra terms of each block: peer normalisation, `peer_norm` · ⟨(⟨m⟩ − m)²⟩, where m is the running mean of a unit
(channel) over positives, and the gradient goes through the share of this batch (1 − `peer_momentum`); and
`orthogonality` · ⟨(G − I)²⟩, where G is the Gram matrix of the weight's normalised rows. "Forward-forward with
orthogonality" of the study "geometry of credit assignment" has the latter form with weight 0.5; the study does not say
on which matrix.

Source: Hinton, "The Forward-Forward algorithm", arXiv 2212.13345; for what the paper leaves open, his code as described
by the public port that reaches its accuracy (loeweX/Forward-Forward: sum of squares with θ = units, division by the
root mean square, straight-through ReLU, peer normalisation 0.03). Scodellaro et al., Scientific Reports 2025
(arXiv 2312.14924).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize, one_hot

from creditlab.algorithms.base import Algorithm, Batch, Draw, Readings, clear_gradients
from creditlab.architectures.block import Block, hidden_blocks, readout, weights
from creditlab.keys import Decay, NonNegative, Positive
from creditlab.task import Task

ROWS = 1024  # inputs that `predict` sends through the network at once; each label of a sample counts


class _StraightThroughReLU(torch.autograd.Function):
    """max(x, 0), with derivative 1 everywhere."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class ForwardForward(Algorithm):
    """The keys are explained in conf/algorithm/ff.yaml (Hinton's recipe) and ff_naive.yaml (what most ports do).

    `straight_through` only affects peer normalisation, because the goodness of a silent unit has no slope.
    ValueError: a network without hidden blocks; inputs of tokens; `label: overlay` on inputs that have fewer entries
    than there are classes.
    """

    crosses = False  # whether gradients cross from a block to the one below

    def __init__(
        self,
        network: nn.Sequential,
        task: Task,
        draw: Draw,
        generator: Generator,
        *,
        goodness: Literal["sum", "mean"],
        threshold: Positive,
        label: Literal["auto", "overlay", "pattern"],
        label_scale: Positive,
        negatives: Literal["never_true", "hard", "permuted"],
        length_norm: Literal["rms", "unit", "none"],
        normalise_input: bool,
        peer_norm: NonNegative,
        peer_momentum: Decay,
        straight_through: bool,
        orthogonality: NonNegative,
        layers: Literal["simultaneous", "sequential"],
        readout: Literal["goodness", "head"],
        skip_first: bool,
    ) -> None:
        super().__init__(network, task, draw, generator)
        if len(network) < 2:
            raise ValueError("forward-forward trains hidden blocks, and the network has none; give it at least one")
        if task.tokens is not None:
            raise ValueError(
                "forward-forward writes a label into the input and scales it, but inputs are tokens, which are not "
                "numbers: use another algorithm (bp, fa, dfa, es) or a data set of images"
            )
        if label == "auto":
            first = next(iter(weights(network).values()))
            label = "overlay" if first.ndim == 2 else "pattern"
        entries = math.prod(task.input_shape)
        if label == "overlay" and entries < task.classes:
            raise ValueError(
                f"label=overlay writes one entry per class, but an input of shape {task.input_shape} has {entries} "
                f"for {task.classes} classes; use label=pattern"
            )
        self.task = task
        self.goodness, self.threshold = goodness, threshold
        self.label, self.label_scale, self.negatives = label, label_scale, negatives
        self.length_norm, self.normalise_input = length_norm, normalise_input
        self.peer_norm, self.peer_momentum, self.straight_through = peer_norm, peer_momentum, straight_through
        self.orthogonality, self.layers, self.readout, self.skip_first = orthogonality, layers, readout, skip_first

        if label == "pattern":
            signs = torch.randint(2, (task.classes, *task.input_shape), generator=generator)
            self.register_buffer("patterns", 2.0 * signs - 1.0)
        if peer_norm:
            training = network.training
            network.eval()  # only shapes are needed: running statistics must not change
            with torch.no_grad():
                probe = next(network.parameters()).new_zeros(2, *task.input_shape)
                for name, h in self.represent(network, probe).items():
                    self.register_buffer(
                        f"activity_{name}", h.new_zeros(h.shape[1])
                    )  # zeros do no harm: only differences matter
            network.train(training)

    def assign(self, network: nn.Sequential, batch: Batch) -> Readings:
        """`loss` is the sum over the blocks that learn. `errors` have twice the rows of the batch: first the positives,
        then the negatives.
        """
        x, y = batch.x, batch.y
        clear_gradients(network)
        names = [name for name, _ in hidden_blocks(network)]
        learning = names if self.layers == "simultaneous" else [names[int(batch.progress * len(names))]]
        loss, scores, errors = x.new_zeros(()), None, {}
        if self.readout == "head" or self.negatives == "hard":
            with torch.no_grad():
                features = self._features(network, x)
            scores = readout(network)(features)
            if batch.probe:
                scores.retain_grad()
            loss = cross_entropy(scores, y)
            loss.backward()
            if batch.probe and scores.grad is not None:
                errors[next(reversed(network._modules))] = scores.grad
            loss, scores = loss.detach(), scores.detach()
        labels = torch.cat([y, self.wrong_labels(y, batch.generator, scores)])
        stacked = self._embed(torch.cat([x, x]), one_hot(labels, self.task.classes))
        local, preactivations = [], {}
        for name, block, a, h in self._propagate(network, stacked, learning):
            if name in learning:
                if batch.probe:
                    a.retain_grad()
                    preactivations[name] = a
                local.append(self._local_loss(name, block, h))
                if not self.crosses:
                    local[-1].backward()
            if name == learning[-1]:
                break
        if self.crosses:
            torch.autograd.backward(local)
        loss = sum((value.detach() for value in local), loss)
        errors |= {name: a.grad for name, a in preactivations.items() if a.grad is not None}
        return Readings(loss, scores, errors)

    def predict(self, network: nn.Sequential, x: Tensor) -> Tensor:
        if self.readout == "head":
            return readout(network)(self._features(network, x))
        samples = max(ROWS // self.task.classes, 1)
        return torch.cat([self._goodness_by_label(network, part) for part in x.split(samples)])

    def represent(self, network: nn.Sequential, x: Tensor) -> dict[str, Tensor]:
        return {name: h for name, _, _, h in self._propagate(network, self._embed(x, self._neutral(x)))}

    def wrong_labels(self, y: Tensor, generator: Generator, scores: Tensor | None = None) -> Tensor:
        """Labels (batch,) of the negatives. `permuted`: the labels of the batch in another order; about 1/classes of
        them are true. `hard`: drawn with the probability that the read-out's `scores` (batch, classes) give to each
        wrong label.
        """
        if self.negatives == "hard":
            assert scores is not None
            wrong = scores.float().nan_to_num(0, 0, 0).scatter(1, y[:, None], -torch.inf).softmax(1)
            return torch.multinomial(wrong.to(generator.device), 1, generator=generator)[:, 0].to(y.device)
        if self.negatives == "permuted":
            return y[torch.randperm(len(y), generator=generator, device=generator.device).to(y.device)]
        shift = torch.randint(1, self.task.classes, y.shape, generator=generator, device=generator.device)
        return (y + shift.to(y.device)) % self.task.classes

    def _embed(self, x: Tensor, p: Tensor) -> Tensor:
        """`x` (batch, *input_shape) with the label distribution `p` (batch, classes) written into it."""
        p = p.to(x.dtype)
        if self.label == "pattern":
            return x + self.label_scale * torch.tensordot(p, self.get_buffer("patterns").to(x.dtype), 1)
        entries = self.task.low + p * (self.task.high - self.task.low)
        return torch.cat([entries, x.flatten(1)[:, self.task.classes :]], 1).view_as(x)

    def _neutral(self, x: Tensor) -> Tensor:
        return x.new_full((len(x), self.task.classes), 1 / self.task.classes)

    def _normalised(self, x: Tensor) -> Tensor:
        """`x`, each sample divided by its root mean square or its length."""
        if self.length_norm == "none":
            return x
        length = torch.linalg.vector_norm(x.flatten(1), dim=1)
        if self.length_norm == "rms":
            length = length / math.sqrt(x[0].numel())
        return x / (length.view(-1, *[1] * (x.ndim - 1)) + 1e-8)

    def _propagate(
        self, network: nn.Sequential, x: Tensor, learning: Sequence[str] | None = None
    ) -> Iterator[tuple[str, Block, Tensor, Tensor]]:
        """Name, block, pre-activation and activation of the hidden blocks, from the input up. With `learning`, only
        these blocks record a gradient. None goes from block to block, unless the rule `crosses`.
        """
        for i, (name, block) in enumerate(hidden_blocks(network)):
            if i > 0 or self.normalise_input:
                x = self._normalised(x)
            with torch.set_grad_enabled(torch.is_grad_enabled() if learning is None else name in learning):
                a = block.body(x)
                straight = self.straight_through and learning is not None and isinstance(block.activation, nn.ReLU)
                h = _StraightThroughReLU.apply(a) if straight else block.activation(a)
            yield name, block, a, h
            x = block.tail(h if learning is None or self.crosses else h.detach())

    def _features(self, network: nn.Sequential, x: Tensor) -> Tensor:
        """The input of the read-out: the normalised output of the last hidden block under the neutral label."""
        for _, block, _, h in self._propagate(network, self._embed(x, self._neutral(x))):
            last, activation = block, h
        return self._normalised(last.tail(activation))

    def _goodness(self, h: Tensor) -> Tensor:
        """(batch, units, …) to (batch,)."""
        at_least = torch.promote_types(h.dtype, torch.float32)  # bfloat16 cannot tell 1000 from 1002
        squares = h.flatten(1).to(at_least).square()
        return squares.sum(1) / h[0, 0].numel() if self.goodness == "sum" else squares.mean(1)

    def _goodness_by_label(self, network: nn.Sequential, x: Tensor) -> Tensor:
        """(batch, classes): goodness under each label, summed over the blocks."""
        k = self.task.classes
        labels = torch.eye(k, dtype=x.dtype, device=x.device).repeat(len(x), 1)
        blocks = [h for _, _, _, h in self._propagate(network, self._embed(x.repeat_interleave(k, 0), labels))]
        skip = 1 if self.skip_first and len(blocks) > 1 else 0
        return torch.stack([self._goodness(h) for h in blocks[skip:]]).sum(0).view(-1, k)

    def _local_loss(self, name: str, block: Block, h: Tensor) -> Tensor:
        """The scalar loss of a block whose activation is `h` (2 batch, units, …), positives first."""
        goodness = self._goodness(h)
        units = h.shape[1] if self.goodness == "sum" else 1
        positive = torch.zeros_like(goodness)
        positive[: len(h) // 2] = 1
        loss = binary_cross_entropy_with_logits(goodness - self.threshold * units, positive)
        if self.peer_norm:
            activity = self.get_buffer(f"activity_{name}")
            batch = h[: len(h) // 2].mean([0, *range(2, h.ndim)])
            mean = self.peer_momentum * activity.to(h.dtype) + (1 - self.peer_momentum) * batch
            activity.copy_(mean.detach())
            loss = loss + self.peer_norm * (mean.mean() - mean).square().mean()
        if self.orthogonality:
            for weight in weights(block).values():
                rows = normalize(weight.flatten(1), dim=1)
                identity = torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
                loss = loss + self.orthogonality * (rows @ rows.T - identity).square().mean()
        return loss
