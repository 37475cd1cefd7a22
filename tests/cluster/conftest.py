"""A real SLURM, if `tests/cluster/up.sh` has started one; without it the tests of this folder are skipped."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from creditlab import records
from tests.sweep.conftest import call

HERE = Path(__file__).parent
PATIENCE = 240  # seconds


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def is_up() -> bool:
    """Whether the SLURM of the tests is there for this process alone: they set its nodes down, one test at a time."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return False
    try:
        return "ClusterName             = creditlab" in slurm("scontrol", "show", "config")
    except (OSError, subprocess.SubprocessError):
        return False


def shell(command: str) -> None:
    """A line of shell with the functions of common.sh; the daemons that it starts do not keep our pipes open."""
    subprocess.run(["bash", "-c", f". {HERE}/common.sh; {command}"], check=True, timeout=120, stdout=subprocess.DEVNULL)


def until(condition, patience=PATIENCE):
    deadline = time.monotonic() + patience
    while not (result := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)
    return result


def queued() -> list[str]:
    return slurm("squeue", "-h", "-r", "-o", "%i").split()


def drained() -> bool:
    """Whether the queue is empty, and not only while a job that is queued again shows in no state."""
    if queued():
        return False
    time.sleep(3)
    return not queued()


def daemon(name: str) -> int:
    """The process that up.sh started under this name last."""
    lines = Path("/run/creditlab-cluster/started").read_text().splitlines()
    return int(next(line.split()[1] for line in reversed(lines) if line.split()[0] == name))


@pytest.fixture(scope="session")
def cluster():
    if not is_up():
        pytest.skip("no SLURM of the tests is up: tests/cluster/up.sh starts one, as root")


@pytest.fixture
def nodes(cluster):
    """The cluster, with every node in order before and after."""

    def mend():
        if queued():
            subprocess.run(["scancel", "-u", "root"], check=True, timeout=60)
            until(drained, 60)
        for name in ("slurmctld", "node1", "node2", "node3"):
            start = "start_slurmctld" if name == "slurmctld" else f"start_node {name}"
            shell(f"running {name} || {start}")
        shell("await nodes nodes_ready")

    mend()
    yield
    mend()


RULE = '''
"""Backpropagation that takes its time, or more memory than it asked for."""
import os
import time

from creditlab.algorithms.bp import Backpropagation


class Slow(Backpropagation):
    def __init__(self, network, task, draw, generator, *, pause: float, greedy: bool):
        super().__init__(network, task, draw, generator)
        self.pause, self.greedy = pause, greedy

    def assign(self, network, batch):
        time.sleep(self.pause)
        if self.greedy and os.path.exists("greed"):
            self.hoard = bytearray(os.urandom(1) * 3_000_000_000)
            time.sleep(30)
        return super().assign(network, batch)
'''
FILES = ("history.jsonl", "weights.safetensors", "arrays.npz")
SWEEP = ["--config-dir=my_conf", "-m", "sweep=s", "algorithm=slow", "seed=range(4)", "architecture.widths=[16,12]",
         "training.steps=120", "training.evaluations=12", "training.checkpoint_seconds=0.5"]  # fmt: skip
SLURM = ["hydra/launcher=slurm", "hydra.launcher.runs_per_task=2", "hydra.launcher.mem=1500M"]


class Place:
    """A folder in which sweeps are given, with a rule of the user's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "my_rules.py").write_text(RULE)
        (folder / "my_conf" / "algorithm").mkdir(parents=True)
        text = "_target_: my_rules.Slow\npause: 0.05\ngreedy: false\n"
        (folder / "my_conf" / "algorithm" / "slow.yaml").write_text(text)

    @property
    def sweep(self) -> Path:
        return self.folder / "multirun" / "s"

    def give(self, *arguments, launcher=SLURM, sweep=SWEEP):
        words = {word.partition("=")[0]: word for word in (*sweep, *launcher, *arguments)}  # the last of a key counts
        return call(self.folder, *words.values(), last=LAST)

    def submit(self, *arguments, **keys) -> None:
        answer = self.give(*arguments, **keys)
        assert answer.code == 0, answer.err

    def under_way(self):
        """Folders of runs that have checkpoints and are not finished, once there are some."""
        return until(
            lambda: [p.parent for p in self.sweep.glob("*/checkpoint.pt") if not (p.parent / "summary.json").exists()]
        )

    def runs(self):
        return {run.name: run for run in records.read_sweep(self.sweep)}

    def content(self):
        """What must be the same in every sweep: all but times and places."""
        runs = self.runs()
        assert {run.status for run in runs.values()} == {"complete"}, [r.problem for r in runs.values()]
        return {name: ([(r.folder / f).read_bytes() for f in FILES], r.metrics) for name, r in runs.items()}

    def finish(self, *arguments):
        """Give the command again until its end, and see that every run was finished, once."""
        stamps = {
            name: r.folder.joinpath("summary.json").stat().st_mtime_ns for name, r in self.runs().items() if r.finished
        }
        answer = self.give("hydra.launcher.wait=true", *arguments)
        assert answer.code == 0, answer.err
        for name, stamp in stamps.items():
            assert (self.sweep / name / "summary.json").stat().st_mtime_ns == stamp
        assert not list(self.sweep.glob("*/lock"))
        return self.content()


LAST = ["training.batch_size=32", "metrics=none", "device=cpu"]


@pytest.fixture(scope="session")
def undisturbed(cluster, tmp_path_factory):
    """What the pool makes of SWEEP."""
    place = Place(tmp_path_factory.mktemp("undisturbed"))
    answer = place.give(launcher=[])
    assert answer.code == 0, answer.err
    return place.content()


@pytest.fixture
def place(nodes, tmp_path):
    return Place(tmp_path)


@pytest.fixture
def hidden(nodes):
    """A folder that node3 has another one instead of."""
    folder = Path("/var/lib/creditlab-cluster/hidden/test")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)
