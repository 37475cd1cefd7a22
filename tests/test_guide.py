"""What the guide has the reader write: its files, put in a folder, work together in one run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from creditlab import records

GUIDE = (Path(__file__).parents[1] / "docs" / "guide.md").read_text()
FILES = dict(re.findall(r"^`(my_[\w/.]+)`\n\n```(?:python|yaml)\n(.*?)```", GUIDE, re.M | re.S))


def test_the_guide_shows_one_of_each():
    groups = {name.split("/")[1] for name in FILES if name.endswith(".yaml")}
    assert groups == {"algorithm", "optimiser", "metrics", "architecture", "dataset"}


@pytest.mark.parametrize("name", FILES)
def test_each_is_done_in_under_thirty_lines(name):
    assert len(FILES[name].splitlines()) < 30


def test_they_run(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    options = ["algorithm=manhattan", "optimiser=signum", "metrics=mine", "architecture=shallow", "dataset=bars"]
    keys = ["training.steps=300", "training.evaluations=1", "optimiser.lr=0.01", "device=cpu"]
    command = [sys.executable, "-m", "creditlab", "--config-dir=my_conf", *options, *keys]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = records.read_sweep(tmp_path / "multirun" / "single")
    assert run.status == "complete"
    assert run.metrics["test/accuracy"] > 0.8
    assert 0 < run.metrics["weights/hidden/row_inequality"] < 1
    wrong = subprocess.run([*command, "algorithm.size=-1"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2
    assert "algorithm.size=-1: must be a number more than 0" in wrong.stderr
