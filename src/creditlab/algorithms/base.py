"""The contract of learning rules.

Given a network and a batch, an algorithm writes an estimate of the gradient of its loss (what an optimiser subtracts)
to `.grad` of every parameter that it trains, and returns readings. It never steps an optimiser, so every algorithm
works with every optimiser. It owns what its rule needs in addition to the network: feedback weights as buffers,
auxiliary heads as parameters. It also decides how the network's prediction is read.

An algorithm has no hidden state. Random numbers come from the generator of the batch, what depends on time comes from
`progress`, and what must persist (such as running means) is a buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn

from creditlab.architectures.block import grouped, hidden_blocks
from creditlab.task import Task

Draw = Callable[[Generator], nn.Sequential]


@dataclass(frozen=True, eq=False)
class Batch:
    """The samples of one training step, and what else a rule may use in that step.

    `x`: (batch, *task.input_shape). `y`: (targets,), int64, one target per sample unless `task.targets` is "all".
    `generator`: the step's own source of random numbers. `progress`: the share of training that is already done, in
    [0, 1). `probe`: whether the rule must fill `Readings.errors`.
    """

    x: Tensor
    y: Tensor
    generator: Generator
    progress: float = 0.0
    probe: bool = False


@dataclass
class Readings:
    """What an algorithm computed on a batch.

    `loss`: the algorithm's loss, a scalar. `scores`: (targets, classes) of the network before the update, if the rule
    computes them. `errors`: by block, the error signal at the pre-activation, in the shape of the pre-activation. Its
    sum over the batch is the derivative of the mean loss. Only rules that have error signals give them, and only for a
    batch with `probe`.
    """

    loss: Tensor
    scores: Tensor | None = None
    errors: dict[str, Tensor] = field(default_factory=dict)


class Algorithm(nn.Module):
    """Base of all learning rules.

    Every rule is built as `Rule(network, task, draw, generator, **keys)`. `network` is the one that it will train: the
    rule reads shapes from it but must not keep it, because each step passes it again. `draw(generator)` returns a new
    network of the same architecture and initialisation. `generator` belongs to the feedback stream. `keys` are those of
    its YAML file, as keyword-only parameters. A combination that the rule cannot train is a ValueError here.
    """

    def __init__(self, network: nn.Sequential, task: Task, draw: Draw, generator: Generator) -> None:
        super().__init__()

    def assign(self, network: nn.Sequential, batch: Batch) -> Readings:
        """Write `.grad` of every parameter that the rule trains, and set it to None for the others. What `.grad` held
        before is overwritten.
        """
        raise NotImplementedError

    def predict(self, network: nn.Sequential, x: Tensor) -> Tensor:
        """Scores (batch, classes). The prediction is the class with the greatest score, and the softmax of the scores
        gives the cross-entropy that all rules share.
        """
        return network(x)

    def represent(self, network: nn.Sequential, x: Tensor) -> dict[str, Tensor]:
        """Each hidden block's activation (after the non-linearity, before pooling) for inputs without a label."""
        representation = {}
        for name, block in hidden_blocks(network):
            representation[name] = block.activation(block.body(x))
            x = block.tail(representation[name])
        return representation

    def verify(self, network: nn.Sequential, x: Tensor) -> None:
        """Raises ValueError where the rule does not do on this network what its name says, as a pass over a batch of
        inputs `x` shows. It is called once, before training.
        """

    def feedback(self, network: nn.Sequential) -> dict[str, Tensor]:
        """By layer (named as in `block.weights`), what replaces the forward weight in the backward pass, in the shape
        of that weight. Empty if the rule has no such weights.
        """
        return {}

    def parameter_groups(self) -> list[dict]:
        """The parameters of the rule as optimiser groups (see `block.parameter_groups`). They are heads, so their role
        is `last`.
        """
        return grouped((name, p, "last") for name, p in self.named_parameters())


def require_one_target(task: Task, why: str) -> None:
    """Raise ValueError if training samples have a target at every token. `why`: why the rule cannot use them."""
    if task.targets == "all":
        raise ValueError(
            f"dataset.targets=all, and {why}: use dataset.targets=last, or a rule that needs only the loss or its "
            "derivative by the scores (bp, fa and its like, es, spsa, forward_gradient, weight_perturbation, noisy)"
        )


def forward(network: nn.Sequential, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The network's scores and, by block, its pre-activations (those of the read-out are the scores)."""
    preactivations = {}
    for name, block in hidden_blocks(network):
        preactivations[name] = block.body(x)
        x = block.tail(block.activation(preactivations[name]))
    name, last = list(network.named_children())[-1]
    preactivations[name] = last(x)
    return preactivations[name], preactivations


def clear_gradients(*modules: nn.Module) -> None:
    """Set every `.grad` to None."""
    for module in modules:
        for p in module.parameters():
            p.grad = None


def standard_normal(like: Tensor, generator: Generator) -> Tensor:
    """Numbers from N(0, 1) with the shape, type and device of `like`."""
    noise = torch.empty(like.shape, dtype=like.dtype, device=generator.device)
    return noise.normal_(generator=generator).to(like.device)


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Inside this context the network has copies of its buffers (running statistics). So additional forward passes
    change neither the statistics nor what a graph has saved of them.
    """
    originals = [(module, dict(module._buffers)) for module in network.modules()]
    for module, buffers in originals:
        module._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})
    try:
        yield
    finally:
        for module, buffers in originals:
            module._buffers.update(buffers)
