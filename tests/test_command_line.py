"""The command line: what a user sees, and how soon."""

import os
import subprocess
import sys

import pytest

IMPORTS = (
    "import sys; from creditlab.__main__ import main; sys.argv[1:] = sys.argv[1:]\n"
    "try: main()\n"
    "except SystemExit as end: code = end.code\n"
    "heavy = {'torch', 'pandas', 'statsmodels', 'matplotlib', 'sklearn', 'scipy'} & set(sys.modules)\n"
    "print('HEAVY', sorted(heavy))"
)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--help"], "creditlab algorithm=fa optimiser=muon"),
        (["algorithm=bpp"], "did you mean bp?"),
        (["optimiser.lrr=3"], "did you mean optimiser.lr?"),
        (["algorithm.scale=2"], "algorithm=dfa and algorithm=fa have it"),
        (["seed=x"], "seed='x': must be a whole number"),
        (["-m", "seed=1,x"], "seed='x': must be a whole number"),
        (["algorithm=["], "cannot read the override"),
        (["--cfg", "job"], "_target_: creditlab.algorithms.bp.Backpropagation"),
    ],
)
def test_help_and_mistakes_answer_without_torch(tmp_path, arguments, expected):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert expected in done.stdout + done.stderr
    assert "HEAVY []" in done.stdout
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "multirun" / "seed").exists()


def test_mistakes_have_an_exit_status_of_their_own(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "creditlab", "seed=x"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stdout == ""


def test_training_imports_nothing_of_the_analysis(tmp_path):
    code = (
        "import sys, creditlab.training, creditlab.datasets.digits, creditlab.algorithms.ff\n"
        "assert not {'pandas', 'statsmodels', 'matplotlib', 'analysis'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_single_run_prints_where_its_record_is(tmp_path):
    keys = ["training.steps=5", "training.evaluations=1", "device=cpu"]
    environment = {**os.environ, "HYDRA_FULL_ERROR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "creditlab", *keys],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert "complete: multirun/single/bp-adamw-digits-mlp-s0-" in done.stdout
    assert "test/accuracy" in done.stdout
