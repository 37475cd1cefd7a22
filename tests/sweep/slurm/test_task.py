"""The exit status of a task of SLURM."""

from collections import Counter

import pytest

from creditlab.sweep.slurm import task
from tests.common import SMALL


@pytest.mark.parametrize(
    ("ended", "held", "status"),
    [({"complete": 1}, False, 0), ({"failed": 1}, True, 1), ({"lost": 1}, False, 1), ({"held": 1}, True, 4)],
)
def test_a_task_that_leaves_runs_to_others_says_so(plan, tmp_path, monkeypatch, capfdbinary, ended, held, status):
    """As the command does: status 4."""
    run, submission = plan(*SMALL), tmp_path / "sweep" / "slurm" / "1"
    (submission / "tasks").mkdir(parents=True)
    task.write_task(submission / "tasks" / "0.json", [run])

    def run_all(worklist, *_, **__):
        worklist.elsewhere += [(worklist.to_do[0], "process 1 on far")] if held else []
        return Counter(ended)

    monkeypatch.setattr(task, "run_all", run_all)
    monkeypatch.setattr("sys.argv", ["task", str(submission), "0", "1", "3"])
    with capfdbinary.disabled():
        assert task.main() == status
