"""What builds and cannot train is refused before the first run of a sweep, with the part that is to blame."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from creditlab.algorithms.bp import Backpropagation
from creditlab.config import ConfigError
from creditlab.parts import assemble
from creditlab.rehearsal import rehearse
from tests.common import SMALL, options


class NeedsMode(torch.optim.SGD):
    """As schedule-free optimisers: a step needs `train()` first."""

    def step(self, closure=None):
        raise RuntimeError("not in train mode: call optimizer.train() first")


class Wrapped(torch.optim.Optimizer):
    """An optimiser around another one, which keeps the learning rate that it was made with."""

    def __init__(self, params, *, lr: float = 0.1):
        super().__init__(params, {"lr": lr})
        self.inner = torch.optim.SGD([p for group in self.param_groups for p in group["params"]], lr=lr)

    def step(self, closure=None):
        self.inner.step()


class Forgetful(torch.optim.SGD):
    """Its state cannot be loaded."""

    def load_state_dict(self, state_dict):
        raise KeyError("momentum_buffer")


def config_of(plan, *overrides: str, **targets: str) -> dict:
    config = plan(*SMALL, *overrides).config
    for group, target in targets.items():
        config[group] = {"_target_": target}
    return config


def rehearsed(config: dict) -> None:
    rehearse(config, assemble(config))


@pytest.mark.parametrize("algorithm", options("algorithm"))
@pytest.mark.parametrize("optimiser", options("optimiser"))
def test_every_rule_with_every_optimiser_passes(plan, algorithm, optimiser):
    rehearsed(config_of(plan, f"algorithm={algorithm}", f"optimiser={optimiser}", "training.schedule=cosine"))


@pytest.mark.parametrize(
    ("target", "overrides", "message"),
    [
        ("torch.optim.LBFGS", [], r"optimiser=adamw: TypeError: .*closure"),
        (f"{__name__}.NeedsMode", [], r"optimiser=adamw: RuntimeError: not in train mode"),
        (f"{__name__}.Forgetful", [], r"optimiser=adamw, loading its saved state: KeyError"),
        (f"{__name__}.Wrapped", ["training.schedule=cosine"], r"training.schedule=cosine: has no effect on optimiser"),
        (f"{__name__}.Wrapped", ["training.warmup=2"], r"has no effect on optimiser=adamw, which moves the weights"),
    ],
)
def test_an_optimiser_that_cannot_do_it_is_refused(plan, target, overrides, message):
    if target.endswith("LBFGS"):  # which takes one group
        config = config_of(plan, *overrides, optimiser=f"{__name__}.lbfgs")
    else:
        config = config_of(plan, *overrides, optimiser=target)
    with pytest.raises(ConfigError, match=message):
        rehearsed(config)


def lbfgs(groups):
    return torch.optim.LBFGS([p for group in groups for p in group["params"]])


def test_a_wrapped_optimiser_without_a_schedule_is_accepted(plan):
    rehearsed(config_of(plan, "training.schedule=constant", optimiser=f"{__name__}.Wrapped"))


def test_the_rule_takes_no_part(plan, monkeypatch):
    """One that takes its process down must stop its own run only."""
    parts = assemble(config := config_of(plan))
    monkeypatch.setattr(Backpropagation, "assign", lambda self, network, batch: pytest.fail("the rule was called"))
    rehearse(config, parts)


def test_a_sweep_refuses_before_the_first_run(tmp_path):
    """And leaves nothing behind."""
    (tmp_path / "my_optimiser.py").write_text(
        "import torch\n\n\nclass Moody(torch.optim.SGD):\n"
        "    def step(self, closure=None):\n        raise RuntimeError('call train() first')\n"
    )
    conf = tmp_path / "conf" / "optimiser"
    conf.mkdir(parents=True)
    (conf / "moody.yaml").write_text("_target_: my_optimiser.Moody\nlr: 0.1\n")
    command = ["--config-dir=conf", "-m", "optimiser=adamw,moody", "seed=0,1", "sweep=s", "training.steps=5"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "creditlab", *command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "creditlab: optimiser=moody: RuntimeError: call train() first"
    assert not (tmp_path / "multirun").exists()
