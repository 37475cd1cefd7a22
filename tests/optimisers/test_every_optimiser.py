"""What every member of the group must do; a new YAML is picked up by itself."""

import io

import pytest
import torch
from torch.nn.functional import cross_entropy

from creditlab.architectures.block import parameter_groups
from creditlab.optimisers.schedule import factor, set_lr


def data(dtype=torch.float64):
    """64 images of 4 × 4 in 3 classes, by a linear rule."""
    g = torch.Generator().manual_seed(7)
    x = torch.randn(64, 1, 4, 4, generator=g, dtype=torch.float64)
    y = (x.flatten(1) @ torch.randn(16, 3, generator=g, dtype=torch.float64)).argmax(1)
    return x.to(dtype), y


def train(net, optimiser, steps, start=0, total=20):
    """Losses of the steps `start` … `start + steps` of a cosine schedule on alternating halves of the data."""
    x, y = data(next(net.parameters()).dtype)
    losses = []
    for step in range(start, start + steps):
        set_lr(optimiser, factor(step, total, "cosine", 2))
        half = slice(step % 2, None, 2)
        optimiser.zero_grad()
        loss = cross_entropy(net(x[half]), y[half])
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_it_learns_with_its_defaults(option, build, network):
    net = network()
    losses = train(net, build(option, parameter_groups(net)), 200, total=200)
    assert losses[-1] < 0.5 * losses[0], losses[::20]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_it_keeps_the_dtype(option, build, network, dtype):
    net = network(dtype=dtype)
    optimiser = build(option, parameter_groups(net))
    train(net, optimiser, 3)
    assert {p.dtype for p in net.parameters()} == {dtype}
    buffers = {t.dtype for state in optimiser.state.values() for name, t in state.items() if name != "step"}
    assert buffers == {dtype}


def test_it_steps_every_parameter_and_reads_gradients_only(option, build, network):
    net = network()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimiser = build(option, parameter_groups(net))
    for p in net.parameters():
        p.grad = torch.ones_like(p) * torch.linspace(1, 2, p.shape[0], dtype=p.dtype).view(-1, *[1] * (p.ndim - 1))
    gradients = [p.grad.clone() for p in net.parameters()]
    for _ in range(3):
        optimiser.step()
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
    assert not [name for name, p in net.named_parameters() if torch.equal(p, before[name])]
    downhill = [
        ((p - before[n]) * p.grad).sum().item() for n, p in net.named_parameters() if option != "kaon" or p.ndim < 2
    ]
    assert max(downhill) < 0


def test_a_parameter_without_a_gradient_is_left_untouched(option, build, network):
    net = network()
    decay = {"weight_decay": 0.1} | ({} if option in ("sgd", "adamw") else {"others_weight_decay": 0.1})
    optimiser = build(option, parameter_groups(net), **decay)
    train(net, optimiser, 2)
    frozen = [net.fc2.body[0].weight, net.fc2.body[0].bias, net.readout.weight]
    before = [p.detach().clone() for p in net.parameters()]
    state = {p: {k: torch.as_tensor(v).clone() for k, v in optimiser.state[p].items()} for p in frozen}
    for p in net.parameters():
        p.grad = None if any(p is f for f in frozen) else torch.ones_like(p)
    optimiser.step()
    for p, old in zip(net.parameters(), before, strict=True):
        assert torch.equal(p, old) == (p.grad is None)
    for p in frozen:
        assert all(torch.equal(torch.as_tensor(optimiser.state[p][k]), v) for k, v in state[p].items())


def test_a_gradient_of_zeros_moves_nothing(option, build, network):
    net = network()
    optimiser = build(option, parameter_groups(net))
    before = [p.detach().clone() for p in net.parameters()]
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimiser.step()
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))


def test_a_gradient_that_is_not_finite_shows_in_the_weights(option, build, network):
    net = network()
    optimiser = build(option, parameter_groups(net))
    for p in net.parameters():
        p.grad = torch.full_like(p, torch.nan)
    optimiser.step()
    assert all(p.isnan().all() for p in net.parameters())


def test_it_is_deterministic(option, build, network):
    runs = []
    for _ in range(2):
        net = network()
        train(net, build(option, parameter_groups(net)), 5)
        runs.append(net.state_dict())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_resumed_run_is_bit_identical(option, build, network, dtype):
    whole = network(dtype=dtype)
    losses = train(whole, build(option, parameter_groups(whole)), 20)

    half = network(dtype=dtype)
    first = build(option, parameter_groups(half))
    train(half, first, 9)
    file = io.BytesIO()
    torch.save({"network": half.state_dict(), "optimiser": first.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)

    resumed = network(seed=1, dtype=dtype)
    second = build(option, parameter_groups(resumed))
    resumed.load_state_dict(saved["network"])
    second.load_state_dict(saved["optimiser"])
    assert train(resumed, second, 11, start=9) == losses[9:]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_the_schedule_reaches_every_group(option, build, network):
    net = network()
    optimiser = build(option, parameter_groups(net))
    before = [p.detach().clone() for p in net.parameters()]
    set_lr(optimiser, 0.0)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimiser.step()
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))


def test_step_returns_the_closures_loss(option, build, network):
    net = network()
    optimiser = build(option, parameter_groups(net))
    x, y = data()

    def closure():
        optimiser.zero_grad()
        loss = cross_entropy(net(x), y)
        loss.backward()
        return loss

    expected = cross_entropy(net(x), y)
    assert torch.equal(optimiser.step(closure), expected)
    assert cross_entropy(net(x), y) != expected
