"""Several folders as one sweep: names that cannot collide, one experiment counted once, contradictions refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from creditlab.analysis import load
from creditlab.analysis.__main__ import main
from creditlab.analysis.names import AnalysisError
from tests.analysis.conftest import Folder

RNG = np.random.default_rng(0)


def random_accuracy(**_) -> dict:
    return {"metrics": {"test/accuracy": float(RNG.random())}}


@pytest.fixture
def laptop_and_cluster(tmp_path: Path) -> tuple[Folder, Folder]:
    """Two sweeps in folders of one name, with other algorithms."""
    folders = tmp_path / "laptop" / "demo", tmp_path / "cluster" / "demo"
    for path in folders:
        path.mkdir(parents=True)
    laptop, cluster = map(Folder, folders)
    laptop.cross(random_accuracy, 3, algorithm=["bp", "fa"])
    cluster.cross(random_accuracy, 3, algorithm=["es", "ff"])
    return laptop, cluster


def test_folders_of_one_name_keep_all_their_runs(laptop_and_cluster):
    sweep = load(*(folder.path for folder in laptop_and_cluster))
    assert len(sweep.runs) == len(sweep.usable) == 12
    assert {name.rpartition("/")[0] for name in sweep.runs["run"]} == {"laptop/demo", "cluster/demo"}
    assert set(sweep.runs["algorithm"]) == {"bp", "fa", "es", "ff"}


def test_folders_of_other_names_are_told_apart_by_these(folder, tmp_path):
    folder.cross(random_accuracy, 2, algorithm=["bp", "fa"])
    (tmp_path / "more").mkdir()
    Folder(tmp_path / "more").cross(random_accuracy, 2, algorithm=["es"])
    sweep = load(folder.path, tmp_path / "more")
    assert {name.partition("/")[0] for name in sweep.runs["run"]} == {"sweep", "more"}


def test_two_paths_of_one_folder_are_one(folder, tmp_path):
    folder.cross(random_accuracy, 2, algorithm=["bp", "fa"])
    (tmp_path / "link").symlink_to(folder.path)
    sweep = load(folder.path, tmp_path / "link")
    assert len(sweep.runs) == 4
    assert len(sweep.folders) == 1  # analysis.json lists it once


def test_identical_runs_are_one(laptop_and_cluster):
    laptop, cluster = laptop_and_cluster
    run = next(laptop.path.glob("bp-*"))
    shutil.copytree(run, cluster.path / run.name)
    sweep = load(laptop.path, cluster.path)
    assert len(sweep.usable) == 12
    assert len(sweep.repeats) == 1


def test_different_results_for_one_identity_are_an_error_that_names_both(laptop_and_cluster, capsys):
    laptop, cluster = laptop_and_cluster
    cluster.add({"test/accuracy": 0.25}, algorithm="bp", seed=1)
    with pytest.raises(
        AnalysisError, match=r"laptop/demo/bp.*cluster/demo/bp.*one experiment.*test/accuracy .* and 0.25"
    ):
        load(laptop.path, cluster.path)
    assert main([str(laptop.path), str(cluster.path)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("creditlab-analyse: laptop/demo/bp")
    assert message.count("\n") == 1


def test_rounding_is_no_difference_and_an_unfinished_run_contradicts_nobody(laptop_and_cluster):
    laptop, cluster = laptop_and_cluster
    accuracy = load(laptop.path).runs.set_index(["algorithm", "seed"])["test/accuracy"]
    cluster.add({"test/accuracy": float(accuracy["bp", 0]) * (1 + 1e-12)}, algorithm="bp", seed=0)
    cluster.add(status="failed", algorithm="bp", seed=1)
    assert len(load(laptop.path, cluster.path).usable) == 12
