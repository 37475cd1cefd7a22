"""What a command changes in its process, and what a call of the library leaves alone."""

import os
import sys

import pytest
import torch

from creditlab.process import prepare_process
from creditlab.training import train
from tests.common import SMALL
from tests.sweep.conftest import call

NEEDS_TWO_CORES = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")

RULE = """
import torch
from creditlab.algorithms.bp import Backpropagation

class Counting(Backpropagation):
    def assign(self, network, batch):
        with open("threads.txt", "a") as file:
            file.write(f"{torch.get_num_threads()}\\n")
        return super().assign(network, batch)
"""


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_library_changes_neither_threads_nor_the_path_of_modules(plan, monkeypatch, two_threads, capfd):
    monkeypatch.setattr("creditlab.process.keep_memory", pytest.fail)
    planned, path = plan(*SMALL, "threads=1"), list(sys.path)
    assert train(planned.config, planned.folder, lambda *_: None, {}).status == "complete"
    assert torch.get_num_threads() == 2
    assert sys.path == path
    assert "the config says threads=1, but this process computes with 2" in capfd.readouterr().err


def test_a_prepared_process_computes_with_the_threads_of_the_config(plan, two_threads, capfd):
    planned = plan(*SMALL, "threads=1")
    prepare_process(planned.config["threads"])
    train(planned.config, planned.folder, lambda *_: None, {})
    assert torch.get_num_threads() == 1
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("sweep", "threads"),  # each another number than the process would take by itself
    [([], 1), pytest.param(["-m", "sweep=s", "seed=0,1"], 2, marks=NEEDS_TWO_CORES)],
    ids=["one run", "sweep"],
)
def test_a_command_computes_with_the_threads_of_the_config(tmp_path, monkeypatch, sweep, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    (tmp_path / "my_rules.py").write_text(RULE)
    (tmp_path / "my_conf" / "algorithm").mkdir(parents=True)
    (tmp_path / "my_conf" / "algorithm" / "counting.yaml").write_text("_target_: my_rules.Counting\n")
    answer = call(tmp_path, "--config-dir=my_conf", *sweep, "algorithm=counting", f"threads={threads}")
    assert answer.code == 0, answer.err
    assert set((tmp_path / "threads.txt").read_text().split()) == {str(threads)}
    assert "this process computes with" not in answer.err
