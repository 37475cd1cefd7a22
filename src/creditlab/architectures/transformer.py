"""GPT-2's network for the next token: embedding, attention1, mlp1, attention2, mlp2, …, readout.

    h_0 = E[token] + P[position]
    h ← h + W_out A V,   A = softmax(Q Kᵀ/√d) over the tokens up to this one, in each head,   Q, K, V = W_qkv norm(h)
    h ← h + W_down gelu(W_up norm(h))
    scores = W norm(h at the last position)                                                          (W = E with `tie`)

Every residual unit is one `Block`. Its pre-activation is the sum, (batch, width, positions): units before space, as in
a convolution. The last norm belongs to the last unit. Unlike GPT-2, the network has no dropout. With `tie: true`, as in
GPT-2, W is E: one parameter with the name, role and initial values of E. Its gradient is the sum over both uses.

In training with `dataset.targets: all` every position is scored, not only the last one (see `Task`).

Attention is written out, because metrics and rules need derivatives (second, and forward) that PyTorch's fused version
does not have. `benchmarks/attention.py` measures what that costs.

Source: Radford et al., "Language models are unsupervised multitask learners", 2019, and its code.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import gelu

from creditlab.architectures.block import Block, readout
from creditlab.architectures.gpt2 import load_checkpoint
from creditlab.architectures.initialise import initialise
from creditlab.keys import Initialisation, PositiveInt
from creditlab.task import Task


class Embedding(nn.Module):
    """The sum of a vector for each token and one for its position."""

    def __init__(self, tokens: int, context: int, width: int) -> None:
        super().__init__()
        # Empty tables are passed, because drawing them on the meta device takes a second of imports.
        self.token = nn.Embedding(tokens, width, _weight=torch.empty(tokens, width))
        self.position = nn.Embedding(context, width, _weight=torch.empty(context, width))

    def forward(self, x: Tensor) -> Tensor:  # (n, positions) integers -> (n, width, positions)
        return (self.token(x) + self.position(torch.arange(x.shape[1], device=x.device))).mT


class Attention(nn.Module):
    """The residual unit in which a position looks at itself and those before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:  # (n, width, positions), like the result
        h = x.mT
        n, positions, width = h.shape
        heads = self.qkv(self.norm(h)).view(n, positions, 3, self.heads, width // self.heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # each (n, heads, positions, d)
        scores = q / math.sqrt(q.shape[-1]) @ k.mT
        later = scores.new_full((positions, positions), -math.inf).triu(1)
        mixed = ((scores + later).softmax(-1) @ v).transpose(1, 2).reshape(n, positions, width)
        return (h + self.out(mixed)).mT


class Mlp(nn.Module):
    """The residual unit of four times the width, applied to each position. With `last` it includes the last norm."""

    def __init__(self, width: int, last: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.last_norm = nn.LayerNorm(width) if last else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # (n, width, positions), like the result
        h = x.mT
        return self.last_norm(h + self.down(gelu(self.up(self.norm(h)), approximate="tanh"))).mT


class Scored(nn.Module):
    """The positions that the output layer scores: the last one, or in training all of them, sample by sample."""

    def __init__(self, all_in_training: bool) -> None:
        super().__init__()
        self.all_in_training = all_in_training

    def forward(self, x: Tensor) -> Tensor:  # (n, width, positions) -> (n, width) or (n · positions, width)
        return x.mT.flatten(0, 1) if self.all_in_training and self.training else x[:, :, -1]


def transformer(
    task: Task,
    generator: Generator,
    *,
    layers: PositiveInt,
    heads: PositiveInt,
    width: PositiveInt,
    tie: bool,
    init: Initialisation,
    checkpoint: str | None,
) -> nn.Sequential:
    """`layers` pairs of attention and MLP, for inputs of tokens. With `init: gpt2` the weights that write to the
    residual stream are divided by √(2 layers). For `checkpoint` see `gpt2`.
    """
    if task.tokens is None:
        raise ValueError(
            f"inputs of shape {task.input_shape} are not tokens: use dataset=text, or another architecture"
        )
    if width % heads:
        raise ValueError(f"heads={heads} does not divide width={width}: give a divisor")
    if tie and task.classes != task.tokens:
        raise ValueError(
            f"tie=true needs as many classes as tokens, not {task.classes} and {task.tokens}: give tie=false"
        )
    with torch.device("meta"):
        network = nn.Sequential()
        network.add_module("embedding", Block(Embedding(task.tokens, task.input_shape[0], width), nn.Identity()))
        for number in range(1, layers + 1):
            last = number == layers
            network.add_module(f"attention{number}", Block(Attention(width, heads), nn.Identity()))
            tail = Scored(task.targets == "all") if last else None
            network.add_module(f"mlp{number}", Block(Mlp(width, last), nn.Identity(), tail))
        network.add_module("readout", nn.Linear(width, task.classes, bias=False))
    initialise(network, init, generator)
    if init == "gpt2":
        with torch.no_grad():
            for module in network.modules():
                if isinstance(module, Attention | Mlp):
                    writes = module.out if isinstance(module, Attention) else module.down
                    writes.weight.div_(math.sqrt(2 * layers))
    if tie:
        readout(network).weight = network.get_parameter("embedding.body.token.weight")
    if checkpoint is not None:
        load_checkpoint(network, checkpoint)
    return network
