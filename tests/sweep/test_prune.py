"""Weights are removed from finished runs that nobody works on, and from nothing else."""

import json

import pytest

from creditlab import records
from creditlab.lock import claim, hold
from creditlab.sweep.launcher import must_run
from creditlab.sweep.prune import main
from tests.records.common import CONFIG, changed, finished, unsealed

WEIGHTS = "weights.safetensors"


@pytest.fixture
def sweep(tmp_path):
    """Two finished runs; an unfinished, a corrupt and an earlier one; one whose weights are a link."""
    path = tmp_path / "sweep"
    names = ("complete", "diverged", "unfinished", "corrupt", "earlier", "link")
    runs = {n: finished(path / n, config=changed(seed=i)).folder for i, n in enumerate(names)}
    summary = unsealed(runs["diverged"] / "summary.json") | {"status": "diverged"}
    (runs["diverged"] / "summary.json").write_text(json.dumps(summary))
    (runs["unfinished"] / "summary.json").unlink()
    (runs["corrupt"] / WEIGHTS).write_bytes(b"another size")
    summary = unsealed(runs["earlier"] / "summary.json")
    del summary["files"], summary["files_sha256"]
    (runs["earlier"] / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "elsewhere").write_bytes(b"weights")
    (runs["link"] / WEIGHTS).unlink()
    (runs["link"] / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    return path


def left(sweep):
    return sorted(path.parent.name for path in sweep.glob(f"*/{WEIGHTS}"))


def test_only_what_a_finished_summary_names_is_removed(sweep, capsys):
    before = left(sweep)
    with pytest.raises(SystemExit, match="0"):
        main([str(sweep), "--dry-run"])
    assert capsys.readouterr().out == "would remove the weights of 2 runs, 0.0 MiB\n"
    assert left(sweep) == before
    with pytest.raises(SystemExit, match="0"):
        main([str(sweep)])
    assert capsys.readouterr().out == "removed the weights of 2 runs, 0.0 MiB\n"
    assert left(sweep) == ["corrupt", "earlier", "link", "unfinished"]
    for name in ("complete", "diverged"):
        run = records.read_run(sweep / name)
        assert (run.status, run.weights_removed) == (name, True)
        assert claim(run.folder) is None
    with pytest.raises(SystemExit, match="0"):
        main([str(sweep)])
    assert capsys.readouterr().out == "removed the weights of 0 runs, 0.0 MiB\n"


def test_a_run_that_a_process_works_on_is_left_alone(sweep, capsys):
    with hold(sweep / "complete"), pytest.raises(SystemExit, match="1"):
        main([str(sweep / "complete"), str(sweep / "diverged")])
    output = capsys.readouterr()
    assert output.out == "removed the weights of 1 run, 0.0 MiB\n"
    assert "left alone, complete: " in output.err
    assert "complete" in left(sweep)


def test_a_folder_without_runs_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path)])
    assert capsys.readouterr().err.startswith("creditlab-prune: ")


@pytest.mark.parametrize("status", ["complete", "diverged"])
def test_a_run_without_its_weights_is_trained_again_only_if_that_is_asked_for(tmp_path, status):
    run = finished(tmp_path / "run", status=status)
    (run.folder / WEIGHTS).unlink()
    run = records.find_run(run.folder, CONFIG)
    assert [must_run(run, retry) for retry in ("none", "failed", "all")] == [False, False, True]
