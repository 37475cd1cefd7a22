"""A surrogate comes from a folder that may be a stranger's: none of its code runs, only its own weights are used."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from creditlab import records
from creditlab.config import ConfigError
from creditlab.parts import assemble
from creditlab.training import train
from tests.common import SMALL

KEYS = ["architecture.widths=[8]", "dataset.limit=200", "metrics=none"]


@pytest.fixture
def other(plan, tmp_path):
    config = plan(*SMALL, *KEYS).config
    return train(config, tmp_path / "other", lambda *_: None, {}).folder


@pytest.fixture
def refused(plan, other):
    """Asserts that a command with the surrogate is refused with a message."""

    def check(match, *overrides):
        with pytest.raises(ConfigError, match=match):
            assemble(plan(*SMALL, *KEYS, *overrides, f"metrics.surrogate={other}").config)

    return check


def plant(folder, group, **keys):
    """Give the run another config, with the identity and without the digest, as a stranger can."""
    record, summary = (json.loads((folder / name).read_text()) for name in ("run.json", "summary.json"))
    record["config"][group] |= keys
    record["identity"] = summary["identity"] = records.identity(record["config"])
    for name, content in (("run.json", record), ("summary.json", summary)):
        del content["sha256"]
        (folder / name).write_text(json.dumps(content))
    assert records.read_run(folder).status == "complete"


@pytest.mark.parametrize("group", ["algorithm", "architecture", "optimiser"])
def test_code_that_a_strangers_run_names_is_never_imported(other, refused, tmp_path, monkeypatch, group):
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')\ndef call(*a, **k): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    plant(other, group, _target_="planted.call")
    refused(rf"{group}\._target_=planted\.call, which is not creditlab's")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("group", "target"),
    [
        ("algorithm", "os.system"),
        ("algorithm", "creditlab.files.write_whole"),
        ("algorithm", "creditlab.algorithms.es.torch"),
        ("architecture", "creditlab.architectures.gpt2.load_file"),
        ("optimiser", "torch.load"),
        ("optimiser", "torch.optim.lr_scheduler.cast"),
        ("optimiser", "creditlab.algorithms.fa.FeedbackAlignment"),
    ],
)
def test_what_a_trusted_package_imports_is_not_trusted(other, refused, group, target):
    plant(other, group, _target_=target)
    refused(rf"{group}\._target_={target}, which is not creditlab's")


def test_a_target_within_another_key_is_found(other, refused):
    plant(other, "architecture", activation={"_target_": "os.system"})
    refused(r"architecture\._target_=os\.system")


def test_a_class_that_the_command_names_itself_is_allowed(plan, other, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("from creditlab.architectures.mlp import mlp\n")
    monkeypatch.syspath_prepend(tmp_path)
    plant(other, "architecture", _target_="mine.mlp")
    config = plan(*SMALL, *KEYS, f"metrics.surrogate={other}").config
    config["architecture"]["_target_"] = "mine.mlp"
    assert assemble(config).instruments.surrogate is not None


def test_a_checkpoint_that_a_strangers_run_names_is_not_read(plan, other, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    record = records.read_run(other).config
    plant(other, "architecture", **record["architecture"], checkpoint=str(tmp_path / "pipe"))
    with pytest.raises(
        ConfigError, match="unexpected keyword argument 'checkpoint'"
    ):  # of mlp: it got null, not a path
        assemble(plan(*SMALL, *KEYS, f"metrics.surrogate={other}").config)


def test_weights_that_were_changed_removed_or_do_not_fit_are_refused(other, refused):
    path = other / "weights.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused(r"weights\.safetensors: was changed after it was written")
    path.write_bytes(content)
    tensors = load_file(path)
    name = next(name for name in tensors if name.startswith("final/"))
    save_file(tensors | {name: torch.zeros(3)}, path)
    summary = json.loads((other / "summary.json").read_text())
    del summary["sha256"], summary["files_sha256"], summary["files"]
    (other / "summary.json").write_text(json.dumps(summary))
    refused("does not fit the network")
    path.write_bytes(b"\xff" * 100)
    refused("its weights cannot be read")
    path.unlink()
    path.symlink_to("/dev/zero")
    refused("is a link")


def test_removed_weights_are_named_as_the_cause(other, refused):
    (other / "weights.safetensors").unlink()
    refused("its weights were removed")
