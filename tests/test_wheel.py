"""The built wheel, installed outside the source tree, configs included."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The `bin` of an environment with the wheel and creditlab's dependencies, and without the source tree."""
    home = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / "bin" / "python"
    (site,) = home.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # a .pth in there is not followed
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--quiet", str(wheel)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return home / "bin"


def test_the_wheel_holds_every_config_and_nothing_of_the_workshop(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    configs = {p.relative_to(SOURCE / "conf").as_posix() for p in (SOURCE / "conf").rglob("*.y*ml")}
    assert {n.removeprefix("creditlab/conf/") for n in names if n.startswith("creditlab/conf/")} == configs
    assert {n.split("/")[0] for n in names if ".dist-info" not in n} == {"creditlab", "hydra_plugins"}


def test_its_commands_run_from_any_folder(installed, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def call(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    (tmp_path / "analysis.py").write_text("raise ImportError('a module of the researcher, which nobody asked for')\n")
    code = "import creditlab.analysis; print(creditlab.__file__, creditlab.analysis.__file__)"
    where = call(str(installed / "python"), "-c", code)
    assert str(SOURCE) not in where
    keys = ["training.steps=20", "training.evaluations=1", "device=cpu"]
    call(str(installed / "creditlab"), "-m", "sweep=s", "algorithm=bp,fa", "seed=range(2)", *keys)
    assert "4 complete" in call(str(installed / "creditlab-status"), "multirun/s")
    printed = call(str(installed / "python"), "-m", "creditlab.analysis", "multirun/s")
    assert "test/accuracy" in printed
    assert (tmp_path / "multirun" / "s" / "report" / "anova.csv").exists()
