import hashlib
import itertools
import json
import math

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from creditlab import records, training
from creditlab.config import ConfigError
from creditlab.parts import assemble
from creditlab.training import evaluate, train
from tests.common import SMALL, options


def silent(step, steps, metrics):
    pass


def run(plan, *overrides, report=silent):
    planned = plan(*SMALL, *overrides)
    return train(planned.config, planned.folder, report, planned.hydra)


def weights(run):
    return load_file(run.folder / "weights.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


def test_a_run_leaves_what_the_record_format_promises(plan):
    done = run(plan, "dataset.validation=0.2")
    files = {p.name for p in done.folder.iterdir()}
    assert files == {".hydra", "run.json", "history.jsonl", "arrays.npz", "weights.safetensors", "summary.json"}
    assert {p.name for p in (done.folder / ".hydra").iterdir()} == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    arrays = done.arrays()
    n = len(arrays["test/label"])
    assert {k: v.shape for k, v in arrays.items() if k.startswith("test/")} == {
        **dict.fromkeys(["test/loss", "test/correct", "test/predicted", "test/label"], (n,)),
        "test/confusion": (10, 10),
    }
    assert np.trace(arrays["test/confusion"]) == arrays["test/correct"].sum()
    assert arrays["test/confusion"].sum(1).tolist() == np.bincount(arrays["test/label"]).tolist()
    assert arrays["representation/fc1"].shape == (10, 256)
    assert arrays["spectrum/fc1"].shape == (64,)
    assert arrays["test/correct"].mean() == pytest.approx(done.metrics["test/accuracy"])
    assert arrays["test/loss"].mean() == pytest.approx(done.metrics["test/loss"])
    for name in (
        "test/accuracy",
        "test/loss",
        "validation/accuracy",
        "weights/fc1/stable_rank",
        "activations/fc2/dead_fraction",
    ):
        assert {name, f"{name}@init"} <= done.metrics.keys()
    assert done.metrics["changes/fc1/stable_rank"] >= 1
    assert done.metrics["weights/fc1/relative_change@init"] == 0
    history = done.history()
    assert [row["step"] for row in history] == [0, 1, 3, 6]
    assert history[-1]["metrics"]["test/accuracy"] == done.metrics["test/accuracy"]
    kept = weights(done)
    assert {k.split("/")[0] for k in kept} == {"init", "final"}
    assert not np.array_equal(kept["init/readout.weight"], kept["final/readout.weight"])


def test_the_record_is_of_the_weights_that_were_kept(plan):
    """Accuracy and loss again, from the kept weights by plain operations."""
    done = run(plan)
    parts = assemble(done.config)
    w = {k.removeprefix("final/"): torch.tensor(v) for k, v in weights(done).items() if k.startswith("final/")}
    h = parts.dataset.normalise(parts.dataset.test_x).flatten(1)
    for block in ("fc1", "fc2"):
        h = torch.relu(h @ w[f"{block}.body.linear.weight"].T + w[f"{block}.body.linear.bias"])
    scores = (h @ w["readout.weight"].T + w["readout.bias"]).double()
    y = parts.dataset.test_y
    assert (scores.argmax(1) == y).double().mean().item() == done.metrics["test/accuracy"]
    loss = scores.logsumexp(1) - scores[torch.arange(len(y)), y]
    np.testing.assert_allclose(loss, done.arrays()["test/loss"], rtol=1e-5, atol=1e-6)


def test_a_finished_run_is_not_computed_again(plan):
    done = run(plan)
    reports = []
    stamp = (done.folder / "summary.json").stat().st_mtime_ns
    assert run(plan, report=lambda *a: reports.append(a)).summary == done.summary
    assert not reports
    assert (done.folder / "summary.json").stat().st_mtime_ns == stamp


def test_a_run_after_others_in_one_process_equals_the_run_alone(plan, tmp_path):
    overrides = [*SMALL, "algorithm=fa", "seed=5"]
    alone = plan(*overrides)
    train(alone.config, tmp_path / "alone", silent, {})
    for other in ("algorithm=dfa", "optimiser=muon", "seed=6"):
        run(plan, other)
    torch.manual_seed(1234)
    np.random.seed(99)  # noqa: NPY002 (the global state is what must not matter)
    train(alone.config, tmp_path / "after", silent, {})
    one, two = records.read_run(tmp_path / "alone"), records.read_run(tmp_path / "after")
    assert same(weights(one), weights(two))
    assert one.summary["history_sha256"] == two.summary["history_sha256"]
    assert one.summary["metrics"] == two.summary["metrics"]


PAIRS = [("algorithm", o) for o in options("algorithm")] + [("optimiser", o) for o in options("optimiser")]


@pytest.mark.parametrize(("group", "option"), PAIRS)
def test_a_seed_means_the_same_weights_and_batches_for_every_algorithm_and_optimiser(
    plan, tmp_path, monkeypatch, group, option
):
    numbers = itertools.count()

    def hashes(*overrides):
        seen = hashlib.sha256()
        parts_of = training.assemble

        def spied(config):
            parts = parts_of(config)
            for name, tensor in parts.network.state_dict().items():
                seen.update(name.encode() + tensor.numpy().tobytes())
            batch = parts.dataset.batch

            def spied_batch(*args):
                x, y = batch(*args)
                seen.update(x.numpy().tobytes() + y.numpy().tobytes())
                return x, y

            parts.dataset.batch = spied_batch
            return parts

        monkeypatch.setattr(training, "assemble", spied)
        planned = plan(*SMALL, "metrics=none", *overrides)
        train(planned.config, tmp_path / str(next(numbers)), silent, {})
        monkeypatch.setattr(training, "assemble", parts_of)
        return seen.hexdigest()

    keys = ["training.steps=3", "architecture.widths=[16,12]"]
    assert hashes(*keys, f"{group}={option}") == hashes(*keys)
    assert hashes(*keys, f"{group}={option}", "seed=1") != hashes(*keys)


@pytest.mark.parametrize("algorithm", options("algorithm"))
def test_instruments_leave_the_trajectory_untouched(plan, algorithm):
    keys = [f"algorithm={algorithm}", "architecture.widths=[16,12]", "architecture.norm=batch"]
    with_them, without = run(plan, *keys, "metrics=full", "metrics.samples=50"), run(plan, *keys, "metrics=none")
    assert same(weights(with_them), weights(without))


class Stopped(Exception):
    pass


@pytest.mark.parametrize(
    "overrides",
    [
        *([f"algorithm={a}"] for a in options("algorithm")),
        *([f"optimiser={o}"] for o in options("optimiser")),
        ["architecture=convnet", "architecture.depth=2", "architecture.norm=batch", "architecture.channels=[4]"],
        ["training.update_noise=0.1", "training.schedule=cosine", "training.warmup=2"],
        ["dataset=synthetic", "dataset.validation=0.25"],
        ["metrics=full", "metrics.epochs=0.07", "algorithm=fa", "architecture.norm=batch"],  # they look at step 3 too
    ],
    ids=lambda o: o[0],
)
def test_an_interrupted_run_resumes_bit_identically(plan, tmp_path, overrides):
    """Stopped at every recorded point, right after a checkpoint; the end is that of an undisturbed run."""
    small = ["training.checkpoint_seconds=1e-9", "metrics.points=0", "training.evaluations=3"]
    if not any(o.startswith("architecture=") for o in overrides):
        small += ["architecture.widths=[16,12]"]
    planned = plan(*SMALL, *overrides, *small)
    train(planned.config, tmp_path / "undisturbed", silent, {})

    def stop(step, steps, metrics):
        if step > 1 and step not in stopped_at and len(stopped_at) < 2:
            stopped_at.append(step)
            raise Stopped

    stopped_at: list[int] = []
    for _ in range(2):
        with pytest.raises(Stopped):
            train(planned.config, tmp_path / "disturbed", stop, {})
        assert records.read_run(tmp_path / "disturbed").status == "failed"
        assert (tmp_path / "disturbed" / "checkpoint.pt").exists()
    train(planned.config, tmp_path / "disturbed", stop, {})
    one, two = records.read_run(tmp_path / "undisturbed"), records.read_run(tmp_path / "disturbed")
    assert stopped_at == ([2, 3] if "metrics=full" in overrides else [2, 4])
    assert same(weights(one), weights(two))
    assert (one.folder / "history.jsonl").read_bytes() == (two.folder / "history.jsonl").read_bytes()
    assert one.metrics == two.metrics
    assert same(one.arrays(), two.arrays())
    assert not (two.folder / "checkpoint.pt").exists()
    assert not (two.folder / "error.txt").exists()


def test_resuming_without_the_optimisers_state_is_noticed(plan, tmp_path, monkeypatch):
    """The negative control: were the checkpoint to lose something, the test above would fail."""
    planned = plan(*SMALL, "training.checkpoint_seconds=1e-9")
    train(planned.config, tmp_path / "undisturbed", silent, {})
    restore = training.restore

    def forgetful(path, parts, state):
        fresh = parts.optimiser.state_dict()
        restore(path, parts, state)
        parts.optimiser.load_state_dict(fresh)

    def stop(step, steps, metrics):
        if step == 3:
            raise Stopped

    with pytest.raises(Stopped):
        train(planned.config, tmp_path / "disturbed", stop, {})
    monkeypatch.setattr(training, "restore", forgetful)
    train(planned.config, tmp_path / "disturbed", silent, {})
    assert not same(*(weights(records.read_run(tmp_path / n)) for n in ("undisturbed", "disturbed")))


def test_divergence_is_an_outcome(plan):
    done = run(plan, "optimiser=sgd", "optimiser.lr=1e30")
    assert done.status == "diverged"
    assert done.summary["steps"] < 6
    assert math.isnan(done.metrics["test/loss"]) or done.metrics["test/loss"] > 1e10
    assert done.metrics["test/accuracy"] == 0
    assert not any(name.startswith("weights/") and not name.endswith("@init") for name in done.metrics)


def test_a_run_that_breaks_says_why(plan, monkeypatch):
    planned = plan(*SMALL)

    def broken(*args, **keys):
        raise RuntimeError("the batch is haunted")

    monkeypatch.setattr("creditlab.algorithms.bp.Backpropagation.assign", broken)
    with pytest.raises(RuntimeError, match="haunted"):
        train(planned.config, planned.folder, silent, {})
    failed = records.read_run(planned.folder)
    assert (failed.status, failed.problem) == ("failed", "RuntimeError: the batch is haunted")
    monkeypatch.undo()
    assert train(planned.config, planned.folder, silent, {}).status == "complete"
    assert not (planned.folder / "error.txt").exists()


def test_stopping_at_an_accuracy(plan):
    done = run(plan, "training.steps=400", "training.evaluations=80", "training.stop_at_accuracy=0.6")
    assert done.status == "complete"
    assert done.summary["steps"] < 400
    accuracies = [row["metrics"]["test/accuracy"] for row in done.history()]
    assert accuracies[-1] >= 0.6 > max(accuracies[:-1])
    assert "weights/fc1/stable_rank" in done.metrics  # instruments look at the end, wherever it is


def test_more_evaluations_than_steps_are_one_a_step(plan):
    done = run(plan, "training.steps=7", f"training.evaluations={10**15}", "metrics=none")
    assert [row["step"] for row in done.history()] == list(range(8))


def test_epochs_and_schedule(plan):
    done = run(plan, "dataset.limit=200", "training.epochs=2.5", "training.batch_size=50")
    assert done.summary["steps"] == 10  # 200 samples make 4 steps
    assert done.history()[-1]["epoch"] == 2.5


def test_every_sample_is_seen_once_an_epoch(plan, monkeypatch):
    parts_of, seen = training.assemble, []

    def spied(config):
        parts = parts_of(config)
        batch = parts.dataset.batch
        parts.dataset.batch = lambda indices, generator: (seen.append(indices), batch(indices, generator))[1]
        return parts

    monkeypatch.setattr(training, "assemble", spied)
    run(plan, "dataset.limit=200", "training.epochs=2", "training.batch_size=40")
    first, second = torch.cat(seen[:5]), torch.cat(seen[5:])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(200))
    assert first.tolist() != second.tolist()


def test_update_noise_changes_weights_but_is_reproducible(plan, tmp_path):
    noisy = plan(*SMALL, "training.update_noise=0.5")
    for name in ("a", "b"):
        train(noisy.config, tmp_path / name, silent, {})
    a, b = (weights(records.read_run(tmp_path / n)) for n in ("a", "b"))
    assert same(a, b)
    assert not same(a, weights(run(plan)))


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_precision(plan, precision):
    done = run(plan, f"precision={precision}", "algorithm=fa", "training.steps=30")
    assert weights(done)["final/readout.weight"].dtype == (np.float64 if precision == "float64" else np.float32)
    assert done.metrics["test/accuracy"] > done.metrics["test/accuracy@init"] + 0.2


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["architecture=lenet"], "architecture=lenet on dataset=digits: .*18 × 18"),
        (["dataset=synthetic", "architecture=convnet"], "architecture=convnet on dataset=synthetic"),
        (
            ["training.batch_size=1", "architecture.norm=batch"],
            "training.batch_size=1 with algorithm=bp and mlp: Expected more than 1 value per channel .* Give 2 or more",
        ),
        (["training.batch_size=5000"], "training.batch_size=5000: dataset=digits has 1438 training samples"),
        (["device=cuda:63"], "device=cuda:63: not on this machine, which has cpu"),
        (["dataset=mnist", "dataset.root=/nowhere"], "MNIST is not on this machine.*download=true"),
        (["optimiser.lr=-1"], "optimiser=adamw: Invalid learning rate"),
    ],
)
def test_parts_that_do_not_fit_together_are_named(plan, overrides, message):
    with pytest.raises(ConfigError, match=message):
        assemble(plan(*SMALL, *overrides).config)


def test_scores_that_are_not_finite_count_as_wrong(plan):
    parts = assemble(plan(*SMALL).config)
    with torch.no_grad():
        parts.network[-1].bias.fill_(torch.nan)
    means, by_sample = evaluate(parts)
    assert means["test/accuracy"] == 0
    assert not by_sample["test/correct"].any()


def test_the_summary_holds_no_number_that_json_lacks(plan):
    done = run(plan, "optimiser=sgd", "optimiser.lr=1e30")
    for name in ("summary.json", "run.json"):
        json.loads((done.folder / name).read_text(), parse_constant=pytest.fail)


def test_where_a_run_diverges_does_not_depend_on_its_instruments(plan):
    keys = ["optimiser=sgd", "optimiser.lr=1e30"]
    with_them, without = run(plan, *keys, "metrics=full"), run(plan, *keys, "metrics=none")
    assert with_them.status == without.status == "diverged"
    assert with_them.summary["steps"] == without.summary["steps"]
    kept = [(r.folder / "weights.safetensors").read_bytes() for r in (with_them, without)]
    assert kept[0] == kept[1]
