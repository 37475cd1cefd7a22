"""Tab completion offers nothing that creditlab rejects."""

import os
import subprocess
import sys

import pytest

from creditlab.command_line.completion import is_accepted


def suggestions(line: str, shell: str = "bash") -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "creditlab", "-sc", f"query={shell}"],
        capture_output=True, text=True, env={**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))},
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr == ""
    return done.stdout.split()


def test_only_what_is_accepted_is_offered():
    """What each of these leads to was rejected: an experiment without its plus, an option chosen twice, a part of a
    sweep in a single run.
    """
    offered = suggestions("creditlab ")
    assert {"algorithm=", "seed=", "training."} <= {*offered}
    assert "experiment" not in offered
    assert suggestions("creditlab +") == ["+experiment"]
    assert suggestions("creditlab ~") == []
    assert suggestions("creditlab hydra/launcher=") == []
    assert "hydra/launcher=slurm" in suggestions("creditlab -m hydra/launcher=")
    assert "algorithm=fa" in suggestions("creditlab algorithm=", "fish")


def test_a_mistake_before_the_cursor_writes_nothing_into_the_line():
    assert suggestions("creditlab algorithm = fa op") == []


@pytest.mark.parametrize(
    ("suggestion", "in_sweep", "accepted"),
    [
        ("experiment=demo", True, False),
        ("+experiment/mnist=bp", False, True),
        ("+hydra/launcher=basic", True, False),
        ("hydra.launcher.workers=", False, False),
        ("hydra.sweep.dir=", False, False),
        ("hydra.run.dir=", False, True),
        ("hydra/sweeper=basic", True, True),
    ],
)
def test_is_accepted(suggestion, in_sweep, accepted):
    assert is_accepted(suggestion, in_sweep) == accepted


def test_each_plugin_is_listed_once():
    command = [sys.executable, "-m", "creditlab", "--info", "plugins"]
    listed = subprocess.run(command, capture_output=True, text=True).stdout.split()
    assert [listed.count(name) for name in ("PoolLauncher", "SlurmLauncher", "GridSweeper")] == [1, 1, 1]
