"""Which weights send errors back as they are, and which through feedback weights: read from the graph of a pass.

    x ──▶ node ◀── W        the node multiplies what comes from x by what comes from W alone

If something below x learns, the node sends the error to it. A node of `fa` uses the feedback weight for that. Any other
node uses W itself, which is backpropagation, whatever the rule is called: an LSTM, `x @ W.T`, attention by
`nn.MultiheadAttention`. A list of known modules would miss such cases. The graph shows them all, because it is what
computes the gradients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

# Nodes whose derivative by one input does not depend on the other one.
ADDITIVE = ("AddBackward", "SubBackward", "CatBackward", "StackBackward", "EmbeddingBackward")


class Sources(NamedTuple):
    """What a node of the graph is computed from: the input of the network or not, and which parameters."""

    data: bool
    parameters: frozenset[str]


def exact_weights(
    output: Tensor, x: Tensor, parameters: Mapping[str, Tensor], feedback_nodes: tuple[str, ...]
) -> dict[str, str]:
    """The parameters of two or more dimensions through which `output` sends errors back exactly: name → the operation.

    `x` is the network's input, which requires a gradient if it is of numbers; tokens start at their embedding.
    `feedback_nodes` are the beginnings of the names of the nodes that use feedback weights.
    """
    names = {id(p): name for name, p in parameters.items()}
    matrices = {name for name, p in parameters.items() if p.ndim >= 2}
    sources: dict[Any, Sources] = {None: Sources(False, frozenset())}
    exact: dict[str, str] = {}
    for node in _from_the_leaves(output.grad_fn):
        if hasattr(node, "variable"):
            is_input = node.variable is x
            name = names.get(id(node.variable))
            sources[node] = Sources(is_input, frozenset() if name is None else frozenset({name}))
            continue
        inputs = [sources[child] for child, _ in node.next_functions]
        data = node.name().startswith("EmbeddingBackward") or any(one.data for one in inputs)
        sources[node] = Sources(data, frozenset().union(*(one.parameters for one in inputs)))
        teaches = any(one.data and one.parameters for one in inputs)
        if teaches and not node.name().startswith((*ADDITIVE, *feedback_nodes)):
            weights = frozenset().union(*(one.parameters for one in inputs if not one.data)) & matrices
            exact.update(dict.fromkeys(sorted(weights), node.name()))
    return exact


def _from_the_leaves(root: Any) -> list[Any]:
    """The nodes of a graph, each after those that it is computed from."""
    order, entered, stack = [], set(), [(root, False)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif node is not None and node not in entered:
            entered.add(node)
            stack.append((node, True))
            stack += [(child, False) for child, _ in node.next_functions]
    return order
