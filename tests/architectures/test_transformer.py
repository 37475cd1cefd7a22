"""The transformer, held to plain tensors, to Hugging Face's GPT-2 where that is installed, and to what rules expect."""

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
from creditlab.algorithms.bp import Backpropagation
from creditlab.architectures.block import parameter_groups, teaching, weights
from creditlab.architectures.transformer import transformer
from creditlab.config import ConfigError, partial
from creditlab.metrics.probe import backpropagated
from creditlab.optimisers.spectral_descent import SpectralDescent
from creditlab.parts import assemble
from creditlab.task import Task
from creditlab.training import train
from tests.common import SMALL, options

TASK = Task((12,), 7, 0.0, 6.0, tokens=7)
KEYS: dict[str, Any] = {"layers": 2, "heads": 4, "width": 16, "tie": False, "init": "gpt2", "checkpoint": None}
LAYERS = ["embedding.token", "embedding.position"] + [
    f"{unit}{i}.{module}" for i in (1, 2) for unit, module in (
        ("attention", "qkv"), ("attention", "out"), ("mlp", "up"), ("mlp", "down"),
    )
] + ["readout"]  # fmt: skip


def build(seed: int = 0, task: Task = TASK, **keys: Any) -> nn.Sequential:
    return transformer(task, torch.Generator().manual_seed(seed), **(KEYS | keys))


EVERY = replace(TASK, targets="all")


def tokens(n: int = 5, context: int = 12, kinds: int = 7) -> Tensor:
    return torch.randint(kinds, (n, context), generator=torch.Generator().manual_seed(3))


def shaken(network: nn.Sequential) -> nn.Sequential:
    """Every parameter at random and of a size to matter, in float64."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for p in network.double().parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype) * (0.4 if p.ndim > 1 else 1.0))
    return network


def checkpoint(network: nn.Sequential, layers: int = 2) -> dict[str, Tensor]:
    """The network's weights as Hugging Face names and lays them out: written down, not taken from the code."""
    p = {name: t.detach() for name, t in network.named_parameters()}
    found = {
        "wte.weight": p["embedding.body.token.weight"],
        "wpe.weight": p["embedding.body.position.weight"],
        "ln_f.weight": p[f"mlp{layers}.body.last_norm.weight"],
        "ln_f.bias": p[f"mlp{layers}.body.last_norm.bias"],
        "lm_head.weight": p["readout.weight"],
    }
    for i in range(layers):
        for part in ("weight", "bias"):
            found[f"h.{i}.ln_1.{part}"] = p[f"attention{i + 1}.body.norm.{part}"]
            found[f"h.{i}.ln_2.{part}"] = p[f"mlp{i + 1}.body.norm.{part}"]
        for theirs, ours in {
            "attn.c_attn": f"attention{i + 1}.body.qkv",
            "attn.c_proj": f"attention{i + 1}.body.out",
            "mlp.c_fc": f"mlp{i + 1}.body.up",
            "mlp.c_proj": f"mlp{i + 1}.body.down",
        }.items():
            found[f"h.{i}.{theirs}.weight"] = p[f"{ours}.weight"].T
            found[f"h.{i}.{theirs}.bias"] = p[f"{ours}.bias"]
    return {name: t.clone().contiguous() for name, t in found.items()}


def by_hand(w: dict[str, Tensor], x: Tensor, layers: int, heads: int) -> list[Tensor]:
    """Residual stream (positions, width) after each unit for one sequence `x`, from weights named as Hugging Face does,
    a head and a position at a time.
    """

    def norm(h: Tensor, name: str) -> Tensor:
        mean = h.mean(1, keepdim=True)
        return (h - mean) / ((h - mean) ** 2).mean(1, keepdim=True).add(1e-5).sqrt() * w[f"{name}.weight"] + w[
            f"{name}.bias"
        ]

    def affine(h: Tensor, name: str) -> Tensor:
        return h @ w[f"{name}.weight"] + w[f"{name}.bias"]

    h = torch.stack([w["wte.weight"][t] + w["wpe.weight"][i] for i, t in enumerate(x.tolist())])
    seen = [h]
    width = h.shape[1]
    d = width // heads
    for i in range(layers):
        qkv = affine(norm(h, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn")
        rows = []
        for t in range(len(h)):
            parts = []
            for head in range(heads):
                q, k, v = (qkv[:, j * width + head * d : j * width + (head + 1) * d] for j in range(3))
                e = torch.stack([(q[t] * k[s]).sum() / d**0.5 for s in range(t + 1)]).exp()
                parts.append(sum(e[s] / e.sum() * v[s] for s in range(t + 1)))
            rows.append(torch.cat(parts))
        h = h + affine(torch.stack(rows), f"h.{i}.attn.c_proj")
        seen.append(h)
        a = affine(norm(h, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")
        gelu = 0.5 * a * (1 + torch.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))
        h = h + affine(gelu, f"h.{i}.mlp.c_proj")
        seen.append(h)
    seen[-1] = norm(h, "ln_f")
    return seen


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


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_a_checkpoint_gives_the_logits_of_hugging_faces_gpt2(tmp_path: Path, prefix: str) -> None:
    transformers = pytest.importorskip("transformers", reason="the `transformers` package is not installed")
    config = transformers.GPT2Config(vocab_size=7, n_positions=20, n_embd=16, n_layer=2, n_head=4)
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.3 * torch.randn_like(p))
    named = {name.removeprefix("transformer."): t for name, t in theirs.state_dict().items()}
    named.pop("lm_head.weight")  # tied
    save_file({prefix + name: t.contiguous() for name, t in named.items()}, tmp_path / "model.safetensors")
    network = build(checkpoint=str(tmp_path / "model.safetensors"))
    x = tokens()
    with torch.no_grad():
        expected = theirs(x, output_hidden_states=True)
        torch.testing.assert_close(network(x), expected.logits[:, -1], rtol=0, atol=1e-5)
        h = x
        for i, block in enumerate(list(network)[:-1]):
            h = block.body(h)
            if i % 2 == 0:  # the embedding and each layer's end
                torch.testing.assert_close(h.mT, expected.hidden_states[i // 2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_a_checkpoint_is_what_is_computed_from_it(tmp_path: Path, tied: bool, tie: bool) -> None:
    longer = Task((30,), 7, 0.0, 6.0, tokens=7)
    w = checkpoint(shaken(build(1, longer)).float())
    if tied:
        del w["lm_head.weight"]
    older = {"h.0.attn.bias": torch.ones(1, 1, 30, 30), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    save_file({f"transformer.{n}" if tied else n: t for n, t in (w | older).items()}, tmp_path / "m.safetensors")
    if tie and not tied:
        with pytest.raises(ValueError, match=r"lm_head\.weight that is not its wte\.weight: give tie=false"):
            build(checkpoint=str(tmp_path / "m.safetensors"), tie=True)
        return
    network = build(checkpoint=str(tmp_path / "m.safetensors"), tie=tie).double()
    x = tokens(1)
    double = {name: t.double() for name, t in w.items()}
    head = double["wte.weight"] if tied else double["lm_head.weight"]
    torch.testing.assert_close(network(x)[0], head @ by_hand(double, x[0], 2, 4)[-1][-1], rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("change", "keys", "message"),
    [
        ({"h.1.mlp.c_fc.weight": None}, {}, r"has no h\.1\.mlp\.c_fc\.weight: is it a GPT-2"),
        ({"wte.weight": None, "lm_head.weight": None}, {}, r"has no wte\.weight"),
        ({"h.2.ln_1.bias": torch.zeros(16)}, {}, r"has h\.2\.ln_1\.bias, for which this network has no place"),
        ({}, {"layers": 1}, r"has h\.1\..*is architecture\.layers right\?"),
        ({}, {"layers": 3}, r"has no h\.2\.ln_1\.weight"),
        ({}, {"width": 8}, r"wte\.weight is \(7, 16\) and does not fit embedding\.body\.token\.weight, \(7, 8\)"),
        ({"wte.weight": torch.zeros(50, 16)}, {}, r"wte\.weight is \(50, 16\) and does not fit.*tokens and context"),
        ({"wpe.weight": torch.zeros(11, 16)}, {}, r"wpe\.weight is \(11, 16\) and does not fit"),
        ({"h.0.attn.c_attn.weight": torch.zeros(48, 16)}, {}, r"c_attn\.weight is \(48, 16\) and does not fit"),
    ],
)
def test_a_checkpoint_that_does_not_fit(tmp_path: Path, change: dict, keys: dict, message: str) -> None:
    w = {name: t for name, t in (checkpoint(build()) | change).items() if t is not None}
    save_file(w, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=message):
        build(checkpoint=str(tmp_path / "m.safetensors"), **keys)


def test_a_checkpoint_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="there is no such file"):
        build(checkpoint=str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        build(checkpoint=str(tmp_path / "m.safetensors"))


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
    made = partial(plan(f"optimiser={optimiser}").config["optimiser"])(groups)
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
        with pytest.raises(ValueError, match="inputs are tokens, which are no numbers: take another algorithm"):
            partial(node)(network, TASK, draw, torch.Generator())
        return
    rule = partial(node)(network, TASK, draw, seeding.generator(0, "feedback"))
    optimiser = torch.optim.AdamW([*network.parameters(), *rule.parameters()], lr=0.01, weight_decay=0.0)
    x, y = recall(32)
    moved: set[str] = set()
    losses = []
    for number in range(50):
        readings = rule.assign(network, x, y, generator=seeding.generator(0, "algorithm", number), progress=number / 50)
        moved |= {name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
        losses.append(readings.loss.item())
        optimiser.step()
    assert moved == {name for name, _ in network.named_parameters()}
    slow = ("es", "dfa", "spsa", "forward_gradient", "weight_perturbation", "node_perturbation")
    assert min(losses[25:]) < (0.9 if algorithm in slow else 0.5) * losses[0]


def test_low_rank_perturbations_reach_embeddings_too(plan: Any) -> None:
    """Members evaluated together, by factors, have the losses of members evaluated one by one, by full weights."""
    found = []
    for chunk in (1, 8):
        keys = {"population": 16, "rank": 2, "sigma": 0.5, "shaping": "raw", "chunk": chunk}
        rule = partial(plan("algorithm=es").config["algorithm"] | keys)(build(), TASK, None, torch.Generator())
        network = shaken(build())
        rule.assign(network, *recall(16), generator=seeding.generator(0, "algorithm"))
        found.append({name: p.grad for name, p in network.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-9, atol=1e-12)


def test_feedback_that_would_be_the_forward_weights_is_refused(plan: Any, tmp_path: Path) -> None:
    save_file(checkpoint(build(3)), tmp_path / "m.safetensors")
    keys = {"checkpoint": str(tmp_path / "m.safetensors")}

    def draw(generator: torch.Generator) -> nn.Sequential:
        return transformer(TASK, generator, **(KEYS | keys))

    with pytest.raises(ValueError, match=r"attention1.qkv, drawn anew, is the forward weight itself"):
        partial(plan("algorithm=fa").config["algorithm"])(build(**keys), TASK, draw, torch.Generator())


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
    with pytest.raises(ConfigError, match=r"inputs are tokens of 11 kinds, not numbers: take architecture=transformer"):
        assemble(plan(*SMALL, *only, f"architecture={architecture}").config)


def test_targets_at_every_token_are_predicted_from_what_is_before() -> None:
    """Loss and gradient are the mean of those of all beginnings of the windows, each with one target."""
    network, several = shaken(build()), shaken(build(task=EVERY))
    x, y = tokens(), tokens(6)[1:]
    loss = torch.stack([cross_entropy(network(x[:, : i + 1]), y[:, i]) for i in range(12)]).mean()
    loss.backward()
    rule = Backpropagation(several, EVERY, build, torch.Generator())
    readings = rule.assign(several, x, y.flatten(), generator=torch.Generator(), probe=True)
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
        with pytest.raises(ValueError, match=r"targets=all, and .* take dataset.targets=last|inputs are tokens"):
            partial(node)(network, EVERY, draw, torch.Generator())
        return
    rule = partial(node)(network, EVERY, draw, seeding.generator(0, "feedback"))
    optimiser = torch.optim.AdamW([*network.parameters(), *rule.parameters()], lr=0.01, weight_decay=0.0)
    x = tokens(32)
    losses = []
    for number in range(40):
        step = seeding.generator(0, "algorithm", number)
        losses.append(rule.assign(network, x, x.flatten(), generator=step, progress=number / 40).loss.item())
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
    rule = partial(plan("algorithm=fa").config["algorithm"])(network, TASK, draw, torch.Generator()).double()
    x, y = recall(5)
    errors = rule.assign(network, x, y, generator=torch.Generator(), probe=True).errors
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

    found = []
    for folder, report in ((tmp_path / "whole", None), (tmp_path / "stopped", stop)):
        if report:
            with pytest.raises(KeyboardInterrupt):
                train(run.config, folder, report, {})
            assert (folder / "checkpoint.pt").exists()
        assert train(run.config, folder, lambda *_: None, {}).status == "complete"
        found.append((folder / "weights.safetensors").read_bytes())
    assert found[0] == found[1]
    kept = {name.partition("/")[2] for name in load_file(tmp_path / "whole" / "weights.safetensors")}
    assert kept == {name for name, _ in assemble(run.config).network.named_parameters()}


def test_keys_that_cannot_work(plan: Any, text: list[str]) -> None:
    with pytest.raises(ConfigError, match="heads=3 does not divide width=8: give a divisor"):
        assemble(plan(*SMALL, *text, "architecture.heads=3").config)
    with pytest.raises(ValueError, match="tie=true, and 3 classes are not 7 tokens: give tie=false"):
        build(tie=True, task=replace(TASK, classes=3))
    with pytest.raises(ConfigError, match=r"inputs of shape \(1, 8, 8\) are not tokens: take dataset=text"):
        assemble(plan(*SMALL, "architecture=transformer").config)
