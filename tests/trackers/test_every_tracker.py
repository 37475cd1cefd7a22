"""What every tracker does: mirrors history and summary, goes on where a run goes on, and stops no run."""

import math
import sys

import pytest

from creditlab import interrupt, records
from creditlab.config import ConfigError
from creditlab.sweep.plan import preflight
from creditlab.trackers.base import Tracker
from creditlab.training import train
from tests.common import SMALL, options
from tests.trackers import mirrors

KEYS = ["architecture.widths=[16]", "training.evaluations=6", "metrics.points=0"]
LIBRARY = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}


def silent(step, steps, metrics):
    pass


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """MLflow takes seconds to make a local store, so tests share one."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture(params=[name for name in options("tracker") if name != "none"])
def tracker(request, store, tmp_path):
    """The overrides that choose it, and what reads its mirror of a run's folder."""
    if request.param == "mlflow":
        keys = [f"tracker.uri={store}", f"tracker.experiment={tmp_path.name}"]
        return ["tracker=mlflow", *keys], lambda folder: mirrors.mlflow(folder, store, tmp_path.name)
    keys = ["tracker.mode=offline"] if request.param == "wandb" else []
    return [f"tracker={request.param}", *keys], getattr(mirrors, request.param)


def mirrored(name):
    """As the tracker calls it."""
    return name, name.replace("@", ".")


def same(mirror, folder):
    """Whether a mirror shows just what the record does."""
    run = records.read_run(folder)
    lines = {line["step"]: {**line["metrics"], "epoch": line["epoch"]} for line in run.history()}
    assert mirror.history.keys() == lines.keys()
    for step, metrics in lines.items():
        assert {k: pytest.approx(v, rel=1e-6, nan_ok=True) for k, v in metrics.items()} == mirror.history[step]
    assert mirror.outcome == run.status
    for name, value in run.metrics.items():
        mirrored_value = next(mirror.summary[k] for k in mirrored(name) if k in mirror.summary)
        assert mirrored_value == pytest.approx(value, nan_ok=True)
    assert mirror.config["algorithm"] == "bp"
    assert float(mirror.config["optimiser.lr"]) == run.config["optimiser"]["lr"]


def test_history_and_summary_are_mirrored_and_the_run_is_the_same(plan, tracker, tmp_path):
    overrides, read = tracker
    planned, plain = plan(*SMALL, *KEYS, *overrides), plan(*SMALL, *KEYS)
    assert planned.folder.name == plain.folder.name
    folder = tmp_path / "tracked" / planned.folder.name
    run = train(planned.config, folder, silent, {})
    same(read(folder), folder)
    assert run.broken == {}
    other = train(plain.config, tmp_path / "plain" / plain.folder.name, silent, {})
    for name in ("history.jsonl", "weights.safetensors", "arrays.npz"):
        assert (folder / name).read_bytes() == (other.folder / name).read_bytes()
    assert run.metrics == other.metrics


@pytest.mark.parametrize("stop", ["asked", "failed"])
def test_a_run_that_goes_on_has_one_mirror_with_each_step_once(plan, tracker, tmp_path, monkeypatch, stop):
    overrides, read = tracker
    planned = plan(*SMALL, *KEYS, *overrides)
    folder = tmp_path / "tracked" / planned.folder.name
    monkeypatch.setattr(interrupt, "_asked", [])

    def stopping(step, steps, metrics):
        if step == 3 and stop == "asked":
            interrupt._asked.append(15)
        if step == 4 and stop == "failed":  # a step after the checkpoint, which it does again
            raise RuntimeError("broken off")

    config = planned.config | {"training": planned.config["training"] | {"checkpoint_seconds": 1e-9}}
    with pytest.raises(interrupt.Interrupted if stop == "asked" else RuntimeError):
        train(config, folder, stopping, {})
    assert read(folder).outcome == {"asked": "interrupted", "failed": "failed"}[stop]
    monkeypatch.setattr(interrupt, "_asked", [])
    train(config, folder, silent, {})
    same(read(folder), folder)


def test_a_diverged_run_is_mirrored_as_such(plan, tracker, tmp_path):
    overrides, read = tracker
    keys = [*KEYS, "optimiser=sgd", "optimiser.lr=1e30"]
    planned = plan(*SMALL, *keys, *overrides)
    folder = tmp_path / "tracked" / planned.folder.name
    assert train(planned.config, folder, silent, {}).status == "diverged"
    mirror = read(folder)
    assert mirror.outcome == "diverged"
    assert not math.isfinite(mirror.history[max(mirror.history)]["test/loss"])


def test_without_its_library_it_is_refused_with_the_cure(plan, tracker, monkeypatch):
    overrides, _ = tracker
    name = overrides[0].removeprefix("tracker=")
    monkeypatch.setitem(sys.modules, LIBRARY[name], None)  # what Python has for a module that cannot be imported
    with pytest.raises(ConfigError, match=rf"needs {name}, .*pip install 'creditlab\[{name}\]'"):
        preflight([plan(*SMALL, *overrides)])


def test_a_server_that_does_not_answer_stops_no_run_and_is_told(plan, tmp_path):
    planned = plan(*SMALL, *KEYS, "tracker=mlflow", "tracker.uri=http://127.0.0.1:9")
    run = train(planned.config, tmp_path / "run", silent, {})
    assert run.status == "complete"
    assert run.broken["tracker"].startswith("step 0: MlflowException: API request to http://127.0.0.1:9")


class Faulty(Tracker):
    """Fails where it is told to."""

    def __init__(self, *, at: str) -> None:
        self.at = at

    def open(self, *run):
        self._fail("open")

    def record(self, step, epoch, metrics):
        if step:
            self._fail("record")

    def close(self, outcome, summary):
        self._fail("close")

    def _fail(self, where):
        if where == self.at:
            raise OSError(f"no route to {where}")


@pytest.mark.parametrize(("at", "step"), [("open", 0), ("record", 1), ("close", 6)])
def test_a_tracker_that_fails_stops_no_run_and_is_told(plan, tmp_path, at, step):
    planned = plan(*SMALL, *KEYS)
    config = planned.config | {"tracker": {"_target_": "tests.trackers.test_every_tracker.Faulty", "at": at}}
    run = train(config, tmp_path / "run", silent, {})
    assert run.status == "complete"
    assert run.broken == {"tracker": f"step {step}: OSError: no route to {at}; the run continued without it"}
