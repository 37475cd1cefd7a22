"""The contract of networks: a sequence of named blocks, the last of them the linear read-out.

A block is the unit of locality. `body` ends in the block's pre-activation, `activation` is its non-linearity, `tail`
(pooling, flattening) hands on to the next:  h = tail(activation(body(x))). Layer-local rules and direct feedback reach
any architecture through these three parts, and never need to know what is inside.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "identity": nn.Identity,
}


class Block(nn.Module):
    """h = tail(activation(body(x))). `tail` must be free of parameters."""

    def __init__(self, body: nn.Module, activation: nn.Module, tail: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.activation = activation
        self.tail = tail if tail is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.activation(self.body(x)))


def hidden_blocks(network: nn.Sequential) -> Iterator[tuple[str, Block]]:
    """(name, block) of every block below the read-out, from the input up."""
    for name, block in list(network.named_children())[:-1]:
        assert isinstance(block, Block), f"{name} is a {type(block).__name__}, not a Block"
        yield name, block


def readout(network: nn.Sequential) -> nn.Linear:
    """The last block: linear, from the features of the hidden blocks to one score a class."""
    last = network[-1]
    assert isinstance(last, nn.Linear), f"the last block is a {type(last).__name__}, not linear"
    return last


def weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of two or more dimensions by layer, from the input up.

    A layer is called by the path of its module without `body`; where a block holds just one weight, by the block's
    name: `fc1`, `conv2`, `stage1_0.conv1`, `readout`.
    """
    paths = {name: p for name, p in network.named_parameters() if p.ndim >= 2}
    blocks = [path.split(".")[0] for path in paths]
    layers = {}
    for path, weight in paths.items():
        block, *inner, parameter = path.split(".")
        if blocks.count(block) > 1:
            inner = [part for part in inner if part != "body"] + ([] if parameter == "weight" else [parameter])
            block = ".".join([block, *inner])
        layers[block] = weight
    return layers


def embeddings(network: nn.Module) -> set[Tensor]:
    """The tables that tokens and positions are looked up in."""
    return {module.weight for module in network.modules() if isinstance(module, nn.Embedding)}


def taught_through(network: nn.Module) -> list[str]:
    """The layers (of `weights`) that have something to teach below: all but those next to the input, which are the
    embeddings or, where there is none, the first.
    """
    tables = embeddings(network)
    layers = [layer for layer, w in weights(network).items() if w not in tables]
    return layers if tables else layers[1:]


def parameter_groups(network: nn.Module) -> list[dict]:
    """The network's parameters as optimiser groups, each with its `role` and `names`.

    Roles: `first` and `last` (the weights next to the input and of the read-out), `hidden` (all other weights of two
    or more dimensions), `vector` (biases, gains) and `embedding` (a table, of which a batch moves the rows it looks up,
    is no linear map). A network with embeddings has no `first`. Optimisers that treat matrices apart go by the role;
    others ignore it.
    """
    tables = embeddings(network)
    matrices = [name for name, p in network.named_parameters() if p.ndim >= 2]
    groups: dict[str, dict] = {}
    for name, p in network.named_parameters():
        if p.ndim < 2:
            role = "vector"
        elif p in tables:
            role = "embedding"
        elif name == matrices[-1]:
            role = "last"
        else:
            role = "first" if name == matrices[0] else "hidden"
        group = groups.setdefault(role, {"params": [], "names": [], "role": role})
        group["params"].append(p)
        group["names"].append(name)
    return list(groups.values())


def activation(name: str) -> nn.Module:
    """A new module for one of `ACTIVATIONS`."""
    return ACTIVATIONS[name]()
