"""A rule of feedback weights refuses a network in which a weight would send errors back by itself."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from creditlab.algorithms.fa import FEEDBACK_NODES, FeedbackAlignment, FeedbackMode
from creditlab.algorithms.local import Local
from creditlab.algorithms.proof import exact_weights
from creditlab.architectures.block import Block, weights
from creditlab.config import ConfigError
from creditlab.parts import assemble
from creditlab.task import Task
from tests.algorithms.test_feedback import ON
from tests.common import SMALL

TASK = Task((12,), 3, 0.0, 1.0)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x.unflatten(1, (3, 4)))[0][:, -1]


class Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 12) / 4)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


class Einsum(Product):
    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bi,oi->bo", x, self.weight)


class Convolution1d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 5, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x[:, None]).flatten(1)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.out = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.unflatten(1, (3, 4))
        return self.out(self.attention(tokens, tokens, tokens)[0].flatten(1))


class Keywords(Product):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, weight=self.weight, bias=None)


def network_with(body: type[nn.Module]):
    """fc1, a block with `body`, and the output layer."""

    def draw(generator: torch.Generator) -> nn.Sequential:
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        first = Block(nn.Linear(12, 12), nn.Tanh())
        return nn.Sequential(OrderedDict(fc1=first, middle=Block(body(), nn.Tanh()), readout=nn.Linear(5, 3)))

    return draw


def fa(draw) -> tuple[nn.Sequential, FeedbackAlignment]:
    network = draw(torch.Generator().manual_seed(1))
    return network, FeedbackAlignment(network, TASK, draw, torch.Generator().manual_seed(2), scale=1.0)


@pytest.mark.parametrize(
    ("body", "weight"),
    [
        (Recurrent, "middle.body.lstm.weight"),
        (Product, "middle.body.weight"),
        (Einsum, "middle.body.weight"),
        (Convolution1d, "middle.body.conv.weight"),
        (Attention, "middle.body.attention.in_proj_weight"),
    ],
)
def test_a_weight_that_would_be_backpropagation_is_refused_by_name(body, weight):
    network, rule = fa(network_with(body))
    with pytest.raises(ValueError, match=rf"{weight}\S*.* sends errors back by itself, in \w+Backward"):
        rule.verify(network, torch.randn(2, 12))


@pytest.mark.parametrize("body", [lambda: nn.Linear(12, 5), Keywords])
def test_a_linear_map_is_accepted_however_it_is_called(body):
    network, rule = fa(network_with(body))
    rule.verify(network, torch.randn(2, 12))


def test_a_weight_with_nothing_to_teach_below_it_needs_no_feedback():
    """The first weight is multiplied with the input: no feedback weight is of any use."""

    def draw(generator: torch.Generator) -> nn.Sequential:
        return nn.Sequential(OrderedDict(fc1=Block(Product(), nn.Tanh()), readout=nn.Linear(5, 3)))

    network, rule = fa(draw)
    rule.verify(network, torch.randn(2, 12))


@pytest.mark.parametrize("body", [Product, Recurrent, lambda: nn.Linear(12, 5), Keywords])
def test_what_the_proof_says_is_what_the_gradients_show(body):
    """The block's own weights decide about the error below it just where the proof says so.

    The same pass with other weights of the block, of which only the derivative is used: `scores` sends the error of
    the first network's output through the graph of a network that differs in the sign of the block's weights.
    """
    network, rule = fa(network_with(body))
    x = torch.randn(4, 12, requires_grad=True)
    scores, _ = rule.scores(network, x)
    exact = exact_weights(scores, x, dict(network.named_parameters()), FEEDBACK_NODES)
    h = torch.randn(4, 12, requires_grad=True)
    errors = []
    for sign in (1, -1):
        with torch.no_grad():
            for p in network.middle.parameters():
                p.mul_(sign)
        with FeedbackMode({weights(network)[layer]: b for layer, b in rule.feedback(network).items()}):
            out = network.middle.body(h)
        errors.append(torch.autograd.grad(out, h, torch.ones_like(out))[0])
    assert torch.allclose(*errors) == (not exact)


@pytest.mark.parametrize("algorithm", ["fa", "usf", "frsf", "brsf", "kp", "wm", "pfa"])
@pytest.mark.parametrize("architecture", ON)
def test_creditlabs_own_architectures_are_proven(plan, architecture, algorithm):
    """`assemble` verifies; a rule that cannot train the network says so in its own words."""
    optimiser = ["optimiser=sgd"] if algorithm in ("kp", "pfa") else []
    assemble(plan(*SMALL, *ON[architecture], f"algorithm={algorithm}", *optimiser).config)


def test_verifying_leaves_the_network_as_it_was(plan):
    config = plan(*SMALL, *ON["convnet"], "algorithm=fa").config
    parts, bp = assemble(config), assemble(plan(*SMALL, *ON["convnet"]).config)
    for (name, mine), theirs in zip(parts.network.state_dict().items(), bp.network.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), name
    assert all(p.grad is None for p in parts.network.parameters())


def test_a_head_that_starts_at_zero_is_refused_for_what_it_is():
    def draw(generator: torch.Generator) -> nn.Sequential:
        network = network_with(lambda: nn.Linear(12, 5))(generator)
        nn.init.zeros_(network.readout.weight)
        return network

    with pytest.raises(ValueError, match="readout starts at zero"):
        fa(draw)


def test_local_losses_beside_feedback_alignment_are_proven_too():
    draw = network_with(Product)
    keys = {"teacher": "fa", "weight": 1.0, "similarity": 0.0, "features": 8}
    rule = Local(draw(torch.Generator().manual_seed(1)), TASK, draw, torch.Generator().manual_seed(2), **keys)
    with pytest.raises(ValueError, match=r"middle.body.weight sends errors back by itself"):
        rule.verify(draw(torch.Generator().manual_seed(1)), torch.randn(2, 12))


def test_the_command_refuses_before_the_run(plan, tmp_path, monkeypatch):
    (tmp_path / "my_lstm.py").write_text(
        "from collections import OrderedDict\n"
        "import torch\n"
        "from torch import nn\n"
        "from creditlab.architectures.block import Block\n\n\n"
        "class Last(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.lstm = nn.LSTM(16, 8, batch_first=True)\n\n"
        "    def forward(self, x):\n"
        "        return self.lstm(x.unflatten(1, (4, 16)))[0][:, -1]\n\n\n"
        "def build(task, generator):\n"
        "    torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))\n"
        "    first = Block(nn.Sequential(nn.Flatten(), nn.LazyLinear(64)), nn.Tanh())\n"
        "    first(task.blank(2))\n"
        "    blocks = OrderedDict(fc1=first, lstm=Block(Last(), nn.Tanh()), readout=nn.Linear(8, task.classes))\n"
        "    return nn.Sequential(blocks)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = plan(*SMALL, "algorithm=fa").config
    config["architecture"] = {"_target_": "my_lstm.build"}
    with pytest.raises(ConfigError, match=r"algorithm=fa with architecture=.*lstm.body.lstm.weight_\w+_l0"):
        assemble(config)
