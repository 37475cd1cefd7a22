import math
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from creditlab.architectures.block import parameter_groups
from creditlab.optimisers.spectral_descent import SpectralDescent, apply, apply_stacked
from creditlab.signature import signature

CONF = Path(__file__).parents[2] / "conf" / "optimiser"

KEYS = {
    "lr": 0.1,
    "momentum": 0.9,
    "nesterov": False,
    "scale": "none",
    "weight_decay": 0.0,
    "first": True,
    "last": False,
    "others": "adamw",
    "others_lr": 0.01,
    "others_betas": [0.9, 0.95],
    "others_eps": 1e-8,
    "others_momentum": 0.9,
    "others_weight_decay": 0.0,
}


class Sign(SpectralDescent):
    """A new member, as the module's documentation shows it."""

    def map(self, x):
        return x.sign()


class Same(SpectralDescent):
    def map(self, x):
        return x


def gradients(*shape, steps=6):
    return torch.randn(steps, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_momentum_map_scale_and_decay_step_by_step(nesterov, momentum):
    """Against the equations, written out on plain tensors."""
    w = nn.Parameter(gradients(3, 5, steps=1)[0])
    keys = {**KEYS, "nesterov": nesterov, "momentum": momentum, "weight_decay": 0.3, "scale": "match_rms_adamw"}
    optimiser = Sign([w], **keys)
    expected, m = w.detach().clone(), torch.zeros(3, 5, dtype=torch.float64)
    for g in gradients(3, 5):
        w.grad = g.clone()
        optimiser.step()
        m = momentum * m + (1 - momentum) * g
        u = (1 - momentum) * g + momentum * m if nesterov else m
        expected = expected - 0.1 * 0.3 * expected - 0.1 * 0.2 * math.sqrt(5) * u.sign()
        torch.testing.assert_close(w.detach(), expected, rtol=0, atol=1e-14)
        assert torch.equal(w.grad, g)


@pytest.mark.parametrize(
    ("scale", "tall", "wide"),
    [
        ("none", 1, 1),
        ("original", 2, 1),
        ("match_rms_adamw", 0.2 * math.sqrt(12), 0.2 * math.sqrt(12)),
        ("spectral", 2, 0.5),
    ],
)
def test_scale_rules_on_the_flattened_shape(scale, tall, wide):
    for shape, factor in (((12, 3), tall), ((12, 3, 1, 1), tall), ((3, 12), wide), ((3, 3, 2, 2), wide)):
        w = nn.Parameter(torch.zeros(shape))
        optimiser = Sign([w], **{**KEYS, "scale": scale})
        w.grad = torch.ones(shape)
        optimiser.step()
        torch.testing.assert_close(w.detach(), torch.full(shape, -0.1 * factor))


def test_a_convolution_steps_as_its_matrix(member, build):
    kernel = nn.Parameter(gradients(6, 2, 3, 3, steps=1)[0])
    matrix = nn.Parameter(kernel.detach().reshape(6, 18).clone())
    optimisers = build(member, [kernel]), build(member, [matrix])
    for g in gradients(6, 2, 3, 3):
        kernel.grad, matrix.grad = g, g.reshape(6, 18)
        for optimiser in optimisers:
            optimiser.step()
    assert torch.equal(kernel.reshape(6, 18), matrix)


@pytest.mark.parametrize(("first", "last"), [(True, False), (False, True), (False, False), (True, True)])
def test_roles_say_what_the_map_takes(network, first, last):
    net = network()
    optimiser = Sign(parameter_groups(net), **{**KEYS, "first": first, "last": last, "weight_decay": 0.5})
    mapped = {id(p) for g in optimiser.param_groups if g["mapped"] for p in g["params"]}
    everything = [id(p) for g in optimiser.param_groups for p in g["params"]]
    assert sorted(everything) == sorted(id(p) for p in net.parameters())
    expected = {"fc2.body.0.weight", "fc3.body.weight"}
    expected |= {"conv1.body.weight"} if first else set()
    expected |= {"readout.weight"} if last else set()
    assert {name for name, p in net.named_parameters() if id(p) in mapped} == expected
    assert {g["lr"] for g in optimiser.param_groups if g["mapped"]} == {0.1}
    assert {g["lr"] for g in optimiser.param_groups if not g["mapped"]} == {0.01}


def test_without_roles_the_shape_decides():
    w, kernel, b = (nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (2, 3, 1, 1), (4,)))
    optimiser = Sign([w, b, kernel], **KEYS)
    groups = [([*map(id, g["params"])], g["mapped"]) for g in optimiser.param_groups]
    assert groups == [([id(w), id(kernel)], True), ([id(b)], False)]


@pytest.mark.parametrize("others", ["adamw", "sgd"])
def test_the_others_step_as_torch_would(network, member, build, others):
    ours, theirs = network(), network()
    keys = {"others": others, "others_lr": 0.02, "others_weight_decay": 0.1, "others_momentum": 0.8}
    optimiser = build(member, parameter_groups(ours), **keys, others_betas=[0.7, 0.8], others_eps=1e-3)
    names = [name for name, p in theirs.named_parameters() if p.ndim < 2 or name == "readout.weight"]
    params = [p for name, p in theirs.named_parameters() if name in names]
    if others == "adamw":
        reference = torch.optim.AdamW(params, lr=0.02, betas=(0.7, 0.8), eps=1e-3, weight_decay=0.1)
    else:
        reference = torch.optim.SGD(params, lr=0.02, momentum=0.8, weight_decay=0.1)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            a.grad = b.grad = torch.randn(a.shape, generator=generator, dtype=a.dtype)
        optimiser.step()
        reference.step()
    for name in names:
        torch.testing.assert_close(ours.get_parameter(name), theirs.get_parameter(name), rtol=0, atol=1e-13)
    assert len(names) == 7


def test_a_network_of_matrices_alone_has_no_others():
    net = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 2, bias=False))
    optimiser = Sign(parameter_groups(net), **{**KEYS, "last": True})
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    before = net[1].weight.detach().clone()
    optimiser.step()
    torch.testing.assert_close(net[1].weight.detach(), before - 0.1)


def test_without_momentum_a_step_is_the_map_of_the_gradient(member, build):
    w = nn.Parameter(torch.zeros(4, 6, dtype=torch.float64))
    optimiser = build(member, [w], momentum=0.0, nesterov=True, lr=1.0, scale="none")
    for g in gradients(4, 6):
        before = w.detach().clone()
        w.grad = g
        optimiser.step()
        torch.testing.assert_close(w.detach(), before - optimiser.map(g), rtol=0, atol=1e-14)


def test_decay_uses_the_unscaled_rate():
    w = nn.Parameter(torch.ones(12, 3))
    optimiser = Same([w], **{**KEYS, "scale": "spectral", "weight_decay": 0.5})
    w.grad = torch.zeros(12, 3)
    optimiser.step()
    torch.testing.assert_close(w.detach(), torch.full((12, 3), 1 - 0.1 * 0.5))


def test_a_groups_own_settings_win():
    a, b = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2, 2))
    optimiser = Sign([{"params": [a], "lr": 0.5}, {"params": b}], **KEYS)
    a.grad = b.grad = torch.ones(2, 2)
    optimiser.step()
    assert (a[0, 0].item(), b[0, 0].item()) == pytest.approx((-0.5, -0.1))


def test_a_map_with_nothing_to_map_is_refused():
    readout_only = nn.Sequential(nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"first=True, last=False.*Sign maps no weight.*Set first or last to true"):
        Sign(parameter_groups(readout_only), **KEYS)


def test_adamw_has_two_betas():
    with pytest.raises(ValueError, match=r"others_betas=\[0.9\].*two"):
        Sign([nn.Parameter(torch.zeros(2, 2))], **{**KEYS, "others_betas": [0.9]})


def test_the_keys_of_member_and_family_are_checked_together(member):
    keys = OmegaConf.to_container(OmegaConf.load(CONF / f"{member}.yaml"))
    form = signature(keys.pop("_target_"))
    assert not form.open
    assert form.positional == ("params",)
    assert form.keywords.keys() == form.required - {"params"} == keys.keys()


def test_one_call_for_all_of_a_shape_gives_what_one_call_each_gives(member, build):
    optimiser = build(member, [nn.Parameter(torch.zeros(2, 2))])
    matrices = [*gradients(4, 6, steps=3), *gradients(6, 4, steps=2), gradients(4, 6, steps=4)[3]]
    each = apply(optimiser.map, matrices)
    calls = []
    stacked = apply_stacked(lambda x: calls.append(x.shape) or optimiser.map(x), matrices)
    assert calls == [(4, 4, 6), (2, 6, 4)]
    for a, b in zip(each, stacked, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)
