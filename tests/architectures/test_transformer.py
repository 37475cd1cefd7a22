"""The transformer, held to plain tensors and to what rules expect."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from creditlab import seeding
from creditlab.algorithms.base import Batch
from creditlab.algorithms.bp import Backpropagation
from creditlab.architectures.block import parameter_groups, teaching, weights
from creditlab.architectures.transformer import transformer
from creditlab.config import ConfigError, bind_target
from creditlab.metrics.probe import backpropagated
from creditlab.optimisers.spectral_descent import SpectralDescent
from creditlab.parts import assemble
from creditlab.training import train
from tests.architectures.transformer_by_hand import KEYS, TASK, build, by_hand, checkpoint, shaken, tokens
from tests.common import SMALL, options

LAYERS = ["embedding.token", "embedding.position"] + [
    f"{unit}{i}.{module}" for i in (1, 2) for unit, module in (
        ("attention", "qkv"), ("attention", "out"), ("mlp", "up"), ("mlp", "down"),
    )
] + ["readout"]  # fmt: skip
EVERY = replace(TASK, targets="all")


def test_forward_is_that_of_plain_tensors() -> None:
    network = shaken(build())
    w, x = checkpoint(network), tokens()
    for sample, scores in zip(x, network(x), strict=True):
        streams = by_hand(w, sample, layers=2, heads=4)
        h: Tensor = sample[None]
        for block, expected in zip(list(network)[:-1], streams, strict=True):
            a = block.body(h)
            torch.testing.assert_close(a[0].T, expected, rtol=0, atol=1e-11)
            h = block(h)
        torch.testing.assert_close(scores, w["lm_head.weight"] @ streams[-1][-1], rtol=0, atol=1e-11)


def test_a_prediction_looks_at_no_later_token() -> None:
    network, x = shaken(build()), tokens()
    changed = x.clone()
    changed[:, 8:] = (changed[:, 8:] + 1) % 7
    a, b = x, changed
    for block in list(network)[:-2]:
        a, b = block(a), block(b)
        assert torch.equal(a[:, :, :8], b[:, :, :8])
        assert not torch.isclose(a[:, :, 8:], b[:, :, 8:]).all(1).any()


def test_it_has_every_kind_of_derivative() -> None:
    """Forward derivatives are those of backward; second ones are those of differences."""
    network, x = shaken(build()), tokens()
    layer = "attention1.body.qkv.weight"
    w = network.get_parameter(layer).detach()
    v = torch.randn(w.shape, dtype=w.dtype, generator=torch.Generator().manual_seed(5))

    def loss(w: Tensor) -> Tensor:
        return torch.func.functional_call(network, {layer: w}, (x,)).square().mean()

    slope = torch.func.grad(loss)
    _, along = torch.func.jvp(loss, (w,), (v,))
    torch.testing.assert_close(along, (slope(w) * v).sum())
    twice = torch.autograd.functional.vhp(loss, w, v)[1]
    torch.testing.assert_close(twice, (slope(w + 1e-5 * v) - slope(w - 1e-5 * v)) / 2e-5, rtol=1e-5, atol=1e-7)


def test_gpt2s_initialisation() -> None:
    network = build(width=128, layers=3)
    for layer, w in weights(network).items():
        std = 0.02 / math.sqrt(6) if layer.endswith((".out", ".down")) else 0.02
        assert w.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * w.numel()))
    biases = [p for name, p in network.named_parameters() if name.endswith("bias")]
    assert not any(b.any() for b in biases)


def test_the_number_of_parameters_is_gpt2s() -> None:
    """The formula gives GPT-2's 124,439,808 with 12 layers of width 768, a context of 1024 and 50,257 tokens."""

    def size(layers: int, width: int, context: int, kinds: int) -> int:
        return (kinds + context) * width + layers * (12 * width**2 + 13 * width) + 2 * width

    assert size(12, 768, 1024, 50_257) == 124_439_808
    network = build(layers=3, width=24)
    assert sum(p.numel() for p in network.parameters()) == size(3, 24, 12, 7) + 7 * 24  # the read-out is not tied
    tied = build(layers=3, width=24, tie=True)
    assert sum(p.numel() for p in tied.parameters()) == size(3, 24, 12, 7)


def test_layers_and_roles() -> None:
    network = build()
    assert list(weights(network)) == LAYERS
    roles = {name: group["role"] for group in parameter_groups(network) for name in group["names"]}
    assert {role for name, role in roles.items() if name.startswith("embedding")} == {"embedding"}
    assert roles["readout.weight"] == "last"
    assert roles["attention1.body.qkv.weight"] == "hidden"
    assert roles["mlp2.body.last_norm.weight"] == "vector"
    assert set(roles.values()) == {"embedding", "hidden", "last", "vector"}
    assert list(teaching(network)) == LAYERS[2:]


@pytest.mark.parametrize("optimiser", options("optimiser"))
def test_no_map_on_singular_values_takes_embeddings(plan: Any, optimiser: str) -> None:
    groups = parameter_groups(build())
    made = bind_target(plan(f"optimiser={optimiser}").config["optimiser"])(groups)
    if isinstance(made, SpectralDescent):
        mapped = [name for group in made.param_groups if group["mapped"] for name in group["names"]]
        assert "attention1.body.qkv.weight" in mapped
        assert not [group for group in made.param_groups if group["mapped"] and group["role"] == "embedding"]


def recall(n: int) -> tuple[Tensor, Tensor]:
    """The next token is the first of its sequence: only attention can tell."""
    x = tokens(n)
    return x, x[:, 0]


@pytest.mark.parametrize("algorithm", options("algorithm"))
def test_a_rule_trains_every_block_or_refuses(plan: Any, algorithm: str) -> None:
    keys = KEYS | {"layers": 1, "width": 16, "init": "default"}
    node = plan(f"algorithm={algorithm}").config["algorithm"] | ({"population": 16} if algorithm == "es" else {})
    network = build(**keys)

    def draw(generator: torch.Generator) -> nn.Sequential:
        return transformer(TASK, generator, **keys)

    if algorithm in ("ff", "ff_naive", "bp_goodness", "pepita"):
        with pytest.raises(ValueError, match="inputs are tokens, which are not numbers: use another algorithm"):
            bind_target(node)(network, TASK, draw, torch.Generator())
        return
    rule = bind_target(node)(network, TASK, draw, seeding.generator(0, "feedback"))
    optimiser = torch.optim.AdamW([*network.parameters(), *rule.parameters()], lr=0.01, weight_decay=0.0)
    x, y = recall(32)
    moved: set[str] = set()
    losses = []
    for number in range(50):
        readings = rule.assign(
            network, Batch(x, y, generator=seeding.generator(0, "algorithm", number), progress=number / 50)
        )
        moved |= {name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
        losses.append(readings.loss.item())
        optimiser.step()
    assert moved == {name for name, _ in network.named_parameters()}
    slow = ("es", "dfa", "spsa", "forward_gradient", "weight_perturbation", "node_perturbation")
    assert min(losses[25:]) < (0.9 if algorithm in slow else 0.5) * losses[0]


def test_low_rank_perturbations_reach_embeddings_too(plan: Any) -> None:
    """Members evaluated together, by factors, have the losses of members evaluated one by one, by full weights."""
    gradients = []
    for chunk in (1, 8):
        keys = {"population": 16, "rank": 2, "sigma": 0.5, "shaping": "raw", "chunk": chunk}
        rule = bind_target(plan("algorithm=es").config["algorithm"] | keys)(build(), TASK, None, torch.Generator())
        network = shaken(build())
        rule.assign(network, Batch(*recall(16), generator=seeding.generator(0, "algorithm")))
        gradients.append({name: p.grad for name, p in network.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-9, atol=1e-12)


def test_feedback_that_would_be_the_forward_weights_is_refused(plan: Any, tmp_path: Path) -> None:
    save_file(checkpoint(build(3)), tmp_path / "m.safetensors")
    keys = {"checkpoint": str(tmp_path / "m.safetensors")}

    def draw(generator: torch.Generator) -> nn.Sequential:
        return transformer(TASK, generator, **(KEYS | keys))

    with pytest.raises(ValueError, match=r"a new draw of attention1.qkv equals its forward weight"):
        bind_target(plan("algorithm=fa").config["algorithm"])(build(**keys), TASK, draw, torch.Generator())


TEXT = [
    "dataset=text",
    "dataset.context=8",
    "dataset.test_limit=100",
    "architecture=transformer",
    "architecture.width=8",
]


@pytest.fixture
def text(tmp_path: Path) -> list[str]:
    (tmp_path / "input.txt").write_text("the cat sat on the mat and " * 60)
    return [*TEXT, f"dataset.root={tmp_path}", "dataset.path=input.txt"]


@pytest.mark.parametrize("algorithm", ["bp", "dfa"])
def test_every_instrument_runs_on_it_or_says_why_not(plan: Any, text: list[str], algorithm: str) -> None:
    with_them = plan(*SMALL, *text, f"algorithm={algorithm}", "metrics=full")
    done = train(with_them.config, with_them.folder, lambda *_: None, {})
    assert done.status == "complete"
    pixels = {"adversarial_accuracy", "transfer_accuracy"}
    assert "pixels" in done.summary["absent"]["adversarial_accuracy"]
    assert done.summary["absent"].keys() - pixels <= {"filter_angle", "feedback_alignment", "neuron_angle_pairs"}
    for name in ("network/hessian_top", "signals/mlp1/error_effective_rank", "changes/embedding.token/stable_rank"):
        assert math.isfinite(done.metrics[name])
    without = plan(*SMALL, *text, f"algorithm={algorithm}", "metrics=none")
    bare = train(without.config, without.folder, lambda *_: None, {})
    kept = [(run.folder / "weights.safetensors").read_bytes() for run in (done, bare)]
    assert kept[0] == kept[1]


@pytest.mark.parametrize("architecture", [a for a in options("architecture") if a != "transformer"])
def test_architectures_that_multiply_their_inputs_refuse_tokens(plan: Any, text: list[str], architecture: str) -> None:
    only = [o for o in text if not o.startswith("architecture")]
    with pytest.raises(ConfigError, match=r"inputs are tokens of 11 kinds, not numbers: use architecture=transformer"):
        assemble(plan(*SMALL, *only, f"architecture={architecture}").config)


def test_targets_at_every_token_are_predicted_from_what_is_before() -> None:
    """Loss and gradient are the mean of those of all beginnings of the windows, each with one target."""
    network, several = shaken(build()), shaken(build(task=EVERY))
    x, y = tokens(), tokens(6)[1:]
    loss = torch.stack([cross_entropy(network(x[:, : i + 1]), y[:, i]) for i in range(12)]).mean()
    loss.backward()
    rule = Backpropagation(several, EVERY, build, torch.Generator())
    readings = rule.assign(several, Batch(x, y.flatten(), generator=torch.Generator(), probe=True))
    torch.testing.assert_close(readings.loss, loss.detach())
    for (name, p), q in zip(network.named_parameters(), several.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, msg=name)
    true, errors = backpropagated(several, rule, x, y.flatten())
    torch.testing.assert_close(true["mlp1.up"], weights(several)["mlp1.up"].grad)
    torch.testing.assert_close(errors["mlp1"], readings.errors["mlp1"])
    several.eval()
    torch.testing.assert_close(several(x), network(x))  # a test sample has one target


@pytest.mark.parametrize("algorithm", options("algorithm"))
def test_a_rule_learns_from_targets_at_every_token_or_refuses(plan: Any, algorithm: str) -> None:
    keys = KEYS | {"layers": 1, "tie": True}
    node = plan(f"algorithm={algorithm}").config["algorithm"] | ({"population": 16} if algorithm == "es" else {})
    network = build(task=EVERY, **keys)

    def draw(generator: torch.Generator) -> nn.Sequential:
        return transformer(EVERY, generator, **keys)

    if algorithm in ("dfa", "local", "node_perturbation", "ff", "ff_naive", "bp_goodness", "pepita"):
        with pytest.raises(ValueError, match=r"targets=all, and .* use dataset.targets=last|inputs are tokens"):
            bind_target(node)(network, EVERY, draw, torch.Generator())
        return
    rule = bind_target(node)(network, EVERY, draw, seeding.generator(0, "feedback"))
    optimiser = torch.optim.AdamW([*network.parameters(), *rule.parameters()], lr=0.01, weight_decay=0.0)
    x = tokens(32)
    losses = []
    for number in range(40):
        step = seeding.generator(0, "algorithm", number)
        losses.append(rule.assign(network, Batch(x, x.flatten(), generator=step, progress=number / 40)).loss.item())
        optimiser.step()
    assert min(losses[20:]) < (0.99 if algorithm in ("es", "spsa", "weight_perturbation") else 0.9) * losses[0]


def test_a_tied_readout_is_the_embedding() -> None:
    network, apart = build(tie=True), build()
    table = network.get_parameter("embedding.body.token.weight")
    assert network.get_parameter("readout.weight") is table
    others = [name for name, _ in apart.named_parameters() if name != "readout.weight"]
    assert [name for name, _ in network.named_parameters()] == others
    assert all(torch.equal(network.get_parameter(name), apart.get_parameter(name)) for name in others)
    assert list(weights(network)) == LAYERS[:-1]
    assert list(teaching(network)) == ["embedding.token", *LAYERS[2:-1]]
    roles = {name: group["role"] for group in parameter_groups(network) for name in group["names"]}
    assert roles["embedding.body.token.weight"] == "embedding"
    assert roles["mlp2.body.down.weight"] == "hidden"
    assert "last" not in roles.values()


def test_a_tied_weight_has_the_gradient_of_both_its_uses() -> None:
    network, apart = shaken(build(tie=True)), build().double()
    with torch.no_grad():
        for name, p in apart.named_parameters():
            p.copy_(network.get_parameter(name))
    x, y = recall(5)
    for each in (network, apart):
        cross_entropy(each(x), y).backward()
    both = apart.get_parameter("embedding.body.token.weight").grad + apart.get_parameter("readout.weight").grad
    torch.testing.assert_close(network.get_parameter("readout.weight").grad, both)


def test_feedback_reaches_the_uses_of_a_tied_weight_as_it_should(plan: Any) -> None:
    """The error below the read-out is B's, not the table's; rows are looked up as they are."""

    def draw(generator: torch.Generator) -> nn.Sequential:
        return transformer(TASK, generator, **(KEYS | {"tie": True, "init": "default"}))

    network = draw(torch.Generator().manual_seed(1)).double()
    rule = bind_target(plan("algorithm=fa").config["algorithm"])(network, TASK, draw, torch.Generator()).double()
    x, y = recall(5)
    errors = rule.assign(network, Batch(x, y, generator=torch.Generator(), probe=True)).errors
    b = rule.feedback(network)["embedding.token"]
    assert not torch.equal(b, network.get_parameter("readout.weight"))
    torch.testing.assert_close(errors["mlp2"][:, :, -1], errors["readout"] @ b)
    assert not errors["mlp2"][:, :, :-1].any()


def test_a_tied_run_is_recorded_and_resumed_as_any(plan: Any, text: list[str], tmp_path: Path) -> None:
    keys = ["architecture.tie=true", "dataset.targets=all", "algorithm=kp", "metrics=none"]
    run = plan(*SMALL, *text, *keys, "training.evaluations=6", "training.checkpoint_seconds=1e-9")

    def stop(step: int, *_: object) -> None:
        if step == 4:
            raise KeyboardInterrupt

    written = []
    for folder, report in ((tmp_path / "whole", None), (tmp_path / "stopped", stop)):
        if report:
            with pytest.raises(KeyboardInterrupt):
                train(run.config, folder, report, {})
            assert (folder / "checkpoint.pt").exists()
        assert train(run.config, folder, lambda *_: None, {}).status == "complete"
        written.append((folder / "weights.safetensors").read_bytes())
    assert written[0] == written[1]
    kept = {name.partition("/")[2] for name in load_file(tmp_path / "whole" / "weights.safetensors")}
    assert kept == {name for name, _ in assemble(run.config).network.named_parameters()}


def test_keys_that_cannot_work(plan: Any, text: list[str]) -> None:
    with pytest.raises(ConfigError, match="heads=3 does not divide width=8: give a divisor"):
        assemble(plan(*SMALL, *text, "architecture.heads=3").config)
    with pytest.raises(ValueError, match="tie=true needs as many classes as tokens, not 3 and 7: give tie=false"):
        build(tie=True, task=replace(TASK, classes=3))
    with pytest.raises(ConfigError, match=r"inputs of shape \(1, 8, 8\) are not tokens: use dataset=text"):
        assemble(plan(*SMALL, "architecture=transformer").config)
