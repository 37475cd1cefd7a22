"""The contract of networks: a sequence of named blocks, the last of which is the linear output layer (`readout`).

A block is the unit of locality:  h = tail(activation(body(x))). `body` ends in the block's pre-activation, `activation`
is its non-linearity, and `tail` (pooling, flattening) prepares the input of the next block. Layer-local rules and
direct feedback use these three parts of any architecture and need not know what is inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
    """h = tail(activation(body(x))). `tail` must have no parameters."""

    def __init__(self, body: nn.Module, activation: nn.Module, tail: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.activation = activation
        self.tail = tail if tail is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.activation(self.body(x)))


def hidden_blocks(network: nn.Sequential) -> Iterator[tuple[str, Block]]:
    """(name, block) of every block before the output layer, from the input on."""
    for name, block in list(network.named_children())[:-1]:
        assert isinstance(block, Block), f"{name} is a {type(block).__name__}, not a Block"
        yield name, block


def readout(network: nn.Sequential) -> nn.Linear:
    """The output layer: a linear map from the features of the hidden blocks to one score per class."""
    last = network[-1]
    assert isinstance(last, nn.Linear), f"the last block is a {type(last).__name__}, not linear"
    return last


def weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of two or more dimensions by layer, from the input on.

    The name of a layer is the path of its module without `body`. If a block has only one weight, it is the name of
    the block: `fc1`, `conv2`, `stage1_0.conv1`, `readout`.
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


def tensors(network: nn.Module) -> dict[str, Tensor]:
    """The network's state by name, each tensor once. A tied tensor has the first of its names."""
    once = {name for name, _ in (*network.named_parameters(), *network.named_buffers())}
    return {name: tensor for name, tensor in network.state_dict().items() if name in once}


def embeddings(network: nn.Module) -> set[Tensor]:
    """The tables of the embeddings of tokens and positions."""
    return {module.weight for module in network.modules() if isinstance(module, nn.Embedding)}


def tied(network: nn.Sequential) -> bool:
    """Whether the weight of the output layer is the table of an embedding. They are then one layer, named so."""
    return readout(network).weight in embeddings(network)


def teaching(network: nn.Sequential) -> dict[str, nn.Parameter]:
    """The weights that errors are sent back through. The others have nothing to teach below them: these are the
    embeddings or, without embeddings, the first weight. A table that is also the output layer is included.
    """
    tables, last = embeddings(network), readout(network).weight
    layers = {layer: w for layer, w in weights(network).items() if w is last or w not in tables}
    return layers if tables else dict(list(layers.items())[1:])


def parameter_groups(network: nn.Sequential) -> list[dict]:
    """The network's parameters as optimiser groups, each with its `role` and `names`.

    The roles are `first` and `last` (the weight next to the input and that of the output layer), `hidden` (all other
    weights of two or more dimensions), `vector` (biases, gains) and `embedding` (a table is not used as a linear map: a
    batch moves only the rows that it looks up). A network with embeddings has no `first`. A network whose output layer
    is `tied` has no `last`. Optimisers that treat matrices differently use the role; others ignore it.
    """
    tables = embeddings(network)
    matrices = [name for name, p in network.named_parameters() if p.ndim >= 2]
    ends = {matrices[0]: "first"} | ({} if tied(network) else {matrices[-1]: "last"})

    def role(name: str, p: nn.Parameter) -> str:
        if p.ndim < 2:
            return "vector"
        return "embedding" if p in tables else ends.get(name, "hidden")

    return grouped((name, p, role(name, p)) for name, p in network.named_parameters())


def grouped(parameters: Iterable[tuple[str, nn.Parameter, str]]) -> list[dict]:
    """One group per role of the (name, parameter, role), in the order in which the roles first occur."""
    groups: dict[str, dict] = {}
    for name, p, role in parameters:
        group = groups.setdefault(role, {"params": [], "names": [], "role": role})
        group["params"].append(p)
        group["names"].append(name)
    return list(groups.values())


def activation(name: str) -> nn.Module:
    """A new module for one of `ACTIVATIONS`."""
    return ACTIVATIONS[name]()
