import functools
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.common import SMALL


@dataclass
class Answer:
    code: int
    out: str
    err: str


def call(folder: Path, *arguments: str, module: str = "creditlab", last: list[str] = SMALL) -> Answer:
    """A command line given in `folder`; the keys of a small run, or `last`, are added where it does not give them."""
    given = {word.partition("=")[0] for word in arguments}
    keys = [word for word in last if module == "creditlab" and word.partition("=")[0] not in given]
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments, *keys],
        cwd=folder, capture_output=True, text=True, timeout=240, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    return Answer(done.returncode, done.stdout, done.stderr)


SWEEP = ["-m", "sweep=s", "algorithm=bp,fa", "seed=range(2)"]


@pytest.fixture(scope="session")
def finished_sweep(tmp_path_factory) -> Path:
    """A folder in which SWEEP was given; for reading only."""
    folder = tmp_path_factory.mktemp("finished")
    answer = call(folder, *SWEEP)
    assert answer.code == 0, answer.err
    assert "4 runs to do" in answer.err
    return folder


@pytest.fixture
def swept(finished_sweep, tmp_path) -> Path:
    """A copy of it to play with."""
    return shutil.copytree(finished_sweep, tmp_path, dirs_exist_ok=True)


@pytest.fixture
def creditlab(tmp_path):
    """The command line, in a folder of its own."""
    return functools.partial(call, tmp_path)


@pytest.fixture
def own_package(tmp_path) -> Path:
    """A user's own rule in the user's own package, beside their configs; it can be told to fail."""
    (tmp_path / "my_rules.py").write_text(
        textwrap.dedent(
            '''
            """Backpropagation that can be made to fail."""
            import os
            import signal

            from creditlab.algorithms.bp import Backpropagation
            from creditlab.keys import Positive


            class Mine(Backpropagation):
                def __init__(self, network, task, draw, generator, *, gain: Positive, fate: str):
                    super().__init__(network, task, draw, generator)
                    self.gain, self.fate = gain, fate

                def assign(self, network, batch):
                    if self.fate == "raise" and batch.progress:  # not in the step that is tried before a sweep
                        raise RuntimeError("out of luck [with] markup")
                    if self.fate == "die":
                        os.kill(os.getpid(), signal.SIGKILL)
                    print("said by a user's own code")
                    return super().assign(network, batch)
            '''
        )
    )
    (tmp_path / "my_conf" / "algorithm").mkdir(parents=True)
    (tmp_path / "my_conf" / "algorithm" / "mine.yaml").write_text("_target_: my_rules.Mine\ngain: 1.0\nfate: well\n")
    return tmp_path
