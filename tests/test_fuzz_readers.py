"""Mutants of every file of a small real sweep, through every reader: no reader fails, and no altered number counts.

`CREDITLAB_FUZZ=5000` takes so many mutants of each kind; by default there are few.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from rich.console import Console

from creditlab import records
from creditlab.__main__ import CONF
from creditlab.analysis import load
from creditlab.analysis.agreement.similarity import similarity
from creditlab.analysis.data.histories import histories
from creditlab.analysis.data.ratings import rate
from creditlab.analysis.data.sweep import runs as runs_table
from creditlab.analysis.names import AnalysisError
from creditlab.analysis.report.export import SUFFIXES, as_bytes
from creditlab.analysis.report.html import page
from creditlab.analysis.report.terminal import print_runs
from creditlab.config import ConfigError
from creditlab.parts import assemble
from creditlab.surrogate import scores
from creditlab.sweep.plan import planned, sweep_name
from creditlab.sweep.status import report, survey
from creditlab.training import train
from tests.common import SMALL

AT_LENGTH = "CREDITLAB_FUZZ" in os.environ  # then each run draws other mutants, and shows the first failure as it is
MUTANTS = settings(
    max_examples=int(os.environ.get("CREDITLAB_FUZZ", "12")),
    derandomize=not AT_LENGTH,
    phases=[Phase.generate] if AT_LENGTH else list(Phase),
    database=None,
)
RUN = "a"  # the run whose files are changed
TEXTS = ("run.json", "summary.json", "history.jsonl", "error.txt", "lock")
FILES = (*TEXTS, *records.KEPT)
KEYS = ["metrics=light", "dataset.limit=200", "architecture.widths=[8]"]


@pytest.fixture(scope="module")
def config() -> dict:
    if not OmegaConf.has_resolver("sweep_name"):
        OmegaConf.register_new_resolver("sweep_name", sweep_name)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return planned(compose("config", [*SMALL, *KEYS], return_hydra_config=True), Path("s")).config


@pytest.fixture(scope="module")
def pristine(config, tmp_path_factory) -> Path:
    """A sweep with its plan: two finished runs, one that failed, one that a dead process left."""
    sweep = tmp_path_factory.mktemp("pristine") / "sweep"
    train(config, sweep / RUN, lambda *_: None, {})
    train(config | {"seed": 1}, sweep / "b", lambda *_: None, {})
    for name in ("failed", "dead"):
        shutil.copytree(sweep / RUN, sweep / name)
        (sweep / name / "summary.json").unlink()
    (sweep / "failed" / "error.txt").write_text("RuntimeError: out of luck\n")
    holder = {"host": "far", "place": "p", "pid": 1, "born": "1", "job_id": None, "restarts": 0, "token": "t"}
    for name in (RUN, "dead"):
        (sweep / name / "lock").write_text(json.dumps(holder))
    (sweep / RUN / "error.txt").write_text("RuntimeError: once\n")
    levels = {"seed": 0}
    entries = [{"name": name, "identity": "0", "levels": levels} for name in (RUN, "b", "failed", "dead", "gone")]
    plan = {"schema": 1, "command": "creditlab", "factors": {"seed": [0, 1]}, "runs": entries}
    records.write_json(sweep / "sweep.json", plan)
    return sweep


@contextlib.contextmanager
def copy_of(pristine: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield shutil.copytree(pristine, Path(folder) / "sweep")


def read_everything(sweep: Path, whole_report: bool) -> None:
    """Every reader, on every run; what is wrong is said by RecordError, AnalysisError or in the results."""
    with contextlib.suppress(records.RecordError):
        records.read_plan(sweep)
    for folder in records.run_folders(sweep):
        run = records.read_run(folder)
        assert run.problem.isprintable()
        assert bool(run.metrics) <= run.finished
        for reader in (
            run.history,
            run.arrays,
            lambda run=run: run.verified(records.WEIGHTS),
            lambda run=run: run.broken,
        ):
            with contextlib.suppress(records.RecordError):
                reader()
    console = Console(file=open(os.devnull, "w"), width=100)  # noqa: SIM115
    with console.capture() as capture, contextlib.suppress(records.RecordError):
        console.print(report(survey(sweep)))
    assert not set(capture.get()) & {"\x1b", "\x07", "\x00", "\u202e"}
    for _ in range(2):  # fresh, then from the cache
        with contextlib.suppress(records.RecordError, AnalysisError):
            analyse(sweep, whole_report)
            whole_report = False


def analyse(folder: Path, whole_report: bool) -> None:
    sweep = load(folder)
    histories(sweep)
    if not sweep.usable.empty:
        similarity(sweep)
    if not whole_report:
        return
    if not sweep.usable.empty:
        rate(sweep.complete, sweep.named, ["algorithm", *sweep.factors], [])
    for form in SUFFIXES:
        as_bytes(sweep.runs, form)
    text = page(sweep, "", [runs_table(sweep)], [], [], folder)
    text.encode()
    assert not set(text) & {"\x1b", "\x07", "\x00", "\u202e"}
    print_runs(Console(file=open(os.devnull, "w"), width=100), sweep)  # noqa: SIM115


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k], equal_nan=a[k].dtype.kind == "f") for k in a)


def check_no_number_changed(pristine: Path, sweep: Path) -> None:
    """Whatever still counts is what was written."""
    for name in (RUN, "b"):
        before, after = records.read_run(pristine / name), records.read_run(sweep / name)
        if not after.finished:
            continue
        assert (after.status, after.metrics, after.config) == (before.status, before.metrics, before.config)
        assert after.history() == before.history()
        with contextlib.suppress(records.RecordError):
            assert same(after.arrays(), before.arrays())
        with contextlib.suppress(records.RecordError):
            weights = after.verified(records.WEIGHTS)
            assert weights.read_bytes() == (pristine / name / records.WEIGHTS).read_bytes()


WHOLE = st.integers(0, 7).map(lambda number: number == 3)  # the slow part of the analysis, now and then
DAMAGE = ("flip", "cut", "grow", "delete", "pipe", "link", "device", "folder", "zeros")


@MUTANTS
@given(st.data())
def test_a_faulty_disk_changes_no_number_and_stops_no_reader(pristine, config, data):
    name = data.draw(st.sampled_from([*FILES, "../sweep.json", "../.analysis-cache.npz"]))
    damage = data.draw(st.sampled_from(DAMAGE))
    with copy_of(pristine) as sweep, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(sweep)  # makes the cache
        path = sweep / RUN / name
        content = bytearray(path.read_bytes())
        if damage == "flip":
            for _ in range(data.draw(st.integers(1, 3))):
                content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        elif damage == "cut":
            del content[data.draw(st.integers(0, len(content) - 1)) :]
        elif damage == "grow":
            content += data.draw(st.binary(min_size=1, max_size=20))
        elif damage == "zeros":
            start = data.draw(st.integers(0, len(content) - 1))
            content[start : start + 512] = bytes(len(content[start : start + 512]))
        path.unlink()
        if damage == "pipe":
            os.mkfifo(path)
        elif damage == "link":
            path.symlink_to("/etc/hostname")
        elif damage == "device":
            path.symlink_to("/dev/zero")
        elif damage == "folder":
            path.mkdir()
        elif damage != "delete":
            path.write_bytes(content)
        read_everything(sweep, data.draw(WHOLE))
        check_no_number_changed(pristine, sweep)
        if name in (records.WEIGHTS, "run.json"):
            with contextlib.suppress(ConfigError):
                scores(config | {"metrics": config["metrics"] | {"surrogate": str(sweep / RUN)}}, assemble)


ODD = st.sampled_from(
    [
        10**400,
        -(10**30),
        1e308,
        float("nan"),
        float("inf"),
        True,
        None,
        "",
        "=1+1",
        "\x1b[2J\u202e\x00",
        "\ud800",
        "NaN",
    ]
)
VALUES = st.recursive(
    ODD | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
) | st.integers(1, 900).map(lambda depth: json.loads("[" * depth + "]" * depth))


def places(node, path=()) -> Iterator[tuple]:
    """The path of every value within a JSON value."""
    yield path
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def write_as_a_stranger(folder: Path, name: str, text: str) -> None:
    """The text, with the digests and the identity that a stranger would make for it."""
    (folder / name).write_text(text)
    summary = json.loads((folder / "summary.json").read_text())
    if name == "run.json":
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError, AttributeError):
            record = json.loads(text)
            record["identity"] = summary["identity"] = records.identity(record["config"])
            (folder / name).write_text(json.dumps(record))
    if name in records.KEPT:
        summary["files"][name] = (folder / name).stat().st_size
    if name != "summary.json":
        summary.pop("sha256", None)
        summary.pop("files_sha256", None)
        summary["history_sha256"] = records.digest(folder / "history.jsonl")
        (folder / "summary.json").write_text(json.dumps(summary))


@MUTANTS
@given(st.data())
def test_what_a_stranger_writes_into_a_record_stops_no_reader(pristine, config, data):
    name = data.draw(st.sampled_from(["run.json", "summary.json", "history.jsonl", "lock", "../sweep.json"]))
    with copy_of(pristine) as sweep, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = sweep / RUN / name
        lines = path.read_text().splitlines() if name == "history.jsonl" else [path.read_text()]
        number = data.draw(st.integers(0, len(lines) - 1))
        content = json.loads(lines[number])
        content.pop("sha256", None)
        for _ in range(data.draw(st.integers(1, 3))):
            *parents, last = data.draw(st.sampled_from(list(places(content))[1:] or [("x",)]))
            node = content
            for key in parents:
                node = node[key]
            if data.draw(st.integers(0, 9)) == 0:
                del node[last]
            elif isinstance(node, dict) and data.draw(st.integers(0, 9)) == 0:
                node[data.draw(st.text(max_size=9) | ODD.map(str))] = node.pop(last)
            else:
                node[last] = data.draw(VALUES)
        text = json.dumps(content)
        if data.draw(st.integers(0, 9)) == 0:  # a key twice
            text = text.replace("{", '{"metrics": 3, "config": {}, "metrics": {"a": 1}, ', 1)
        lines[number] = text
        write_as_a_stranger(sweep / RUN, name, "\n".join(lines) + "\n" * (name == "history.jsonl"))
        read_everything(sweep, data.draw(WHOLE))
        if name == "run.json":
            with contextlib.suppress(ConfigError):
                run = records.read_run(sweep / RUN)
                if run.config and run.config.get("architecture") == config["architecture"]:  # else it may be huge
                    scores(config | {"metrics": config["metrics"] | {"surrogate": str(sweep / RUN)}}, assemble)


KINDS = ["f8", "f4", "i8", "u1", "i1", "?", "c16", "U3", "S2", "M8[s]", "f2"]


@MUTANTS
@given(st.data())
def test_what_a_stranger_writes_into_arrays_stops_no_reader(pristine, data):
    with copy_of(pristine) as sweep, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = sweep / RUN / records.ARRAYS
        arrays = records.read_run(sweep / RUN).arrays()
        for name in data.draw(st.lists(st.sampled_from([*arrays, "representation/x"]), min_size=1, max_size=3)):
            shape = data.draw(st.lists(st.integers(0, 12), max_size=3))
            bits = np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, 256, 16 * 12**3, dtype="u1")
            kind = np.dtype(data.draw(st.sampled_from(KINDS)))
            size = int(np.prod(shape))
            raw = bits[: size * kind.itemsize].tobytes()
            arrays[name] = np.zeros(shape, kind) if kind.kind in "U?" else np.frombuffer(raw, kind).reshape(shape)
        np.savez(path, **arrays)
        summary = sweep / RUN / "summary.json"
        content = json.loads(summary.read_text())
        del content["sha256"], content["files_sha256"]
        content["files"][records.ARRAYS] = path.stat().st_size
        summary.write_text(json.dumps(content))
        assert records.read_run(sweep / RUN).finished
        read_everything(sweep, data.draw(WHOLE))
