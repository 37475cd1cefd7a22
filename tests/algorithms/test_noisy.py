"""Noise on backpropagation's gradient is as large, and at the angle, that was asked for."""

import math

import pytest
import torch

from creditlab.algorithms.base import Batch
from creditlab.algorithms.noisy import NoisyBackpropagation
from tests.algorithms.test_feedback import ON, assign, parts


def noisy(plan, measure, amount, *overrides):
    keys = [f"algorithm.measure={measure}", f"algorithm.amount={amount}"]
    return assign(parts(plan, "algorithm=noisy", *keys, *overrides))


@pytest.mark.parametrize("architecture", ON)
def test_angles_are_exact_tensor_by_tensor(plan, architecture):
    taught, true = assign(parts(plan, *ON[architecture]))
    p = parts(plan, *ON[architecture], "algorithm=noisy", "algorithm.measure=angle")
    for degrees in (1e-3, 30, 90, 135, 180):
        p.algorithm.amount = degrees
        readings, actual = assign(p)
        for name, g in true.items():
            torch.testing.assert_close(actual[name].norm(), g.norm(), rtol=1e-12, atol=0)
            a, b = actual[name] / g.norm(), g / g.norm()  # by half the chord's and the sum's lengths: no arccos
            angle = 2 * math.degrees(math.atan2((a - b).norm(), (a + b).norm()))
            assert angle == pytest.approx(degrees, abs=1e-6)
        for block, error in taught.errors.items():
            assert torch.equal(readings.errors[block], error)


def test_relative_norms_are_exact(plan):
    true = assign(parts(plan))[1]
    for amount in (0.1, 3):
        actual = noisy(plan, "relative_norm", amount)[1]
        for name, g in true.items():
            assert ((actual[name] - g).norm() / g.norm()).item() == pytest.approx(amount, rel=1e-10)


@pytest.mark.parametrize("ratio", [0.25, 4])
def test_signal_to_noise_ratios_are_expected_ones(plan, ratio):
    true = assign(parts(plan))[1]
    actual = noisy(plan, "snr", ratio)[1]
    for name, g in true.items():
        noise = actual[name] - g
        assert (g.norm() / noise.norm()).item() ** 2 == pytest.approx(ratio, rel=6 / math.sqrt(g.numel()))
    name = "fc1.body.linear.weight"
    cosine = torch.nn.functional.cosine_similarity(actual[name].flatten(), true[name].flatten(), dim=0)
    assert math.degrees(math.acos(cosine)) == pytest.approx(math.degrees(math.atan(ratio**-0.5)), abs=1)


def test_noise_is_white_and_fresh_and_of_the_steps_generator(plan):
    p = parts(plan, "algorithm=noisy", "algorithm.amount=2")
    x, y = p.dataset.batch(torch.arange(16))
    seen = []
    for seed in (1, 2, 1):
        p.algorithm.assign(p.network, Batch(x, y, generator=torch.Generator().manual_seed(seed)))
        seen.append(p.network.fc1.body.linear.weight.grad.clone())
    assert torch.equal(seen[0], seen[2])
    true = assign(parts(plan))[1]["fc1.body.linear.weight"]
    one, two = ((g - true).flatten() for g in seen[:2])
    assert abs(torch.nn.functional.cosine_similarity(one, two, dim=0)) < 4 / math.sqrt(len(one))
    assert one.std().item() == pytest.approx(2 * true.norm().item() / math.sqrt(len(one)), rel=0.02)
    assert ((one / one.std()) ** 4).mean().item() == pytest.approx(3, abs=0.2)  # Gaussian


def test_a_tensor_of_one_entry_and_a_gradient_of_zero_stay_at_an_angle():
    rule = NoisyBackpropagation(None, None, None, None, measure="angle", amount=60.0)
    assert torch.equal(rule.noisy(torch.tensor([3.0]), torch.tensor([1.0])), torch.tensor([3.0]))
    assert torch.equal(rule.noisy(torch.zeros(4), torch.ones(4)), torch.zeros(4))


@pytest.mark.parametrize(("measure", "amount", "message"), [("angle", 181, r"in \[0, 180\]"), ("snr", 0, "no signal")])
def test_refuses_amounts_that_cannot_be(measure, amount, message):
    with pytest.raises(ValueError, match=message):
        NoisyBackpropagation(None, None, None, None, measure=measure, amount=amount)
