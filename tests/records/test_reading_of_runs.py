"""Reading runs, sweeps and plans: what is spoilt is named, and never raised."""

import contextlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from creditlab import records
from tests.records.common import CONFIG, changed, finished, pipe_instead, unreadable, unsealed


def test_one_torn_last_line_is_accepted_and_no_other(tmp_path):
    run = finished(tmp_path / "run")
    path = run.folder / "history.jsonl"
    whole = path.read_text()
    path.write_text(whole + '{"step": 20, "epo')
    assert [row["step"] for row in run.history()] == [0, 10]
    path.write_text('{"step": 0, "epo\n' + whole)
    with pytest.raises(records.RecordError, match="line 1 of 3"):
        run.history()


def edit(path, **changes):
    path.write_text(json.dumps(unsealed(path) | changes))


def replace(path, old, new):
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def without(path, key):
    content = unsealed(path)
    del content["config"][key]
    path.write_text(json.dumps(content | {"identity": records.identity(content["config"])}))


def folder_instead(path):
    path.unlink(missing_ok=True)
    path.mkdir()


def linked(path):
    """Move the file out of the folder, and leave a link to it."""
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def device_instead(path):
    path.unlink()
    path.symlink_to("/dev/zero")


SPOILT = {
    "torn summary": (lambda f: (f / "summary.json").write_text('{"schema": 1, "sta'), "summary.json"),
    "deep summary": (lambda f: (f / "summary.json").write_text("[" * 100_000), "summary.json: nested"),
    "summary of bytes": (lambda f: (f / "summary.json").write_bytes(b"\xff\x00"), "summary.json"),
    "summary a folder": (lambda f: folder_instead(f / "summary.json"), "summary.json: Is a directory"),
    "longer history": (lambda f: (f / "history.jsonl").write_bytes(b"{}\n"), "digest"),
    "history a folder": (lambda f: folder_instead(f / "history.jsonl"), "Is a directory"),
    "other schema": (lambda f: edit(f / "summary.json", schema="x"), "schema 'x'"),
    "newer schema": (lambda f: edit(f / "run.json", schema=99), "schema 99, of a newer creditlab"),
    "other config": (lambda f: edit(f / "run.json", config=changed(seed=5)), "identity"),
    "config a list": (lambda f: edit(f / "run.json", config=[1]), "run.json: config is not a mapping"),
    "config a number": (lambda f: edit(f / "run.json", config=1), "run.json: config is not a mapping"),
    "no choices": (lambda f: without(f / "run.json", "choices"), "run.json: config is not a mapping with the choices"),
    "run.json a folder": (lambda f: folder_instead(f / "run.json"), "run.json: Is a directory"),
    "run.json a list": (lambda f: (f / "run.json").write_text("[]"), "run.json: not a JSON object"),
    "metrics a list": (lambda f: edit(f / "summary.json", metrics=[1, 2]), "metrics"),
    "no metrics": (lambda f: (f / "summary.json").write_text('{"schema": 1, "status": "complete"}'), "no 'identity'"),
    "one digit of a metric": (lambda f: replace(f / "summary.json", b"0.9", b"0.8"), "summary.json: was changed after"),
    "one letter of a choice": (lambda f: replace(f / "run.json", b'"bp"', b'"fp"'), "run.json: was changed after"),
    "a metric twice": (
        lambda f: replace(f / "summary.json", b'"test/accuracy"', b'"test/accuracy": 1, "test/accuracy"'),
        "summary.json: was changed after",
    ),
    "a choice a list": (
        lambda f: edit(f / "run.json", config=changed(choices__algorithm=[1])),
        "choices is not a mapping to names",
    ),
    "metrics of lists": (lambda f: edit(f / "summary.json", metrics={"a": [1]}), "to single values"),
    "too large a metric": (lambda f: edit(f / "summary.json", metrics={"a": 10**400}), "too large"),
    "absent a list": (lambda f: edit(f / "summary.json", absent=[1]), "absent is not"),
    "files elsewhere": (lambda f: edit(f / "summary.json", files={"../x": 1}), "files is not a mapping of"),
    "arrays deleted": (lambda f: (f / "arrays.npz").unlink(), "arrays.npz is missing"),
    "arrays cut": (lambda f: (f / "arrays.npz").write_bytes(b"PK"), "arrays.npz is not of the size"),
    "arrays a link": (lambda f: linked(f / "arrays.npz"), "arrays.npz: is a link"),
    "weights cut": (lambda f: (f / "weights.safetensors").write_bytes(b"8"), "weights.safetensors is not of the size"),
    "summary a link": (lambda f: linked(f / "summary.json"), "summary.json: is a link"),
    "history a link": (lambda f: linked(f / "history.jsonl"), "history.jsonl: is a link"),
    "run.json a pipe": (lambda f: pipe_instead(f / "run.json"), "run.json: is not a regular file"),
    "history a pipe": (lambda f: pipe_instead(f / "history.jsonl"), "history.jsonl: is not a regular file"),
    "summary a device": (lambda f: device_instead(f / "summary.json"), "summary.json: is a link"),
    "summary endless": (lambda f: os.truncate(f / "summary.json", 2**40), "summary.json: holds 1099511627776 bytes"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_run_is_corrupt_not_finished(tmp_path, case):
    run = finished(tmp_path / "run")
    spoil, problem = SPOILT[case]
    spoil(run.folder)
    again = records.read_run(run.folder)
    assert (again.status, again.finished, again.metrics) == ("corrupt", False, {})
    assert problem in again.problem


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["schema", "identity", "config", "status", "metrics", "files", "history_sha256", "runs", "factors"]


@given(st.sampled_from(["run.json", "summary.json", "sweep.json"]), st.sampled_from(KEYS), JSON)
def test_reading_never_raises_for_what_the_files_hold(tmp_path_factory, file, key, value):
    folder = tmp_path_factory.mktemp("any") / "run"
    finished(folder)
    records.write_json(folder / "sweep.json", {"schema": 1, "factors": {}, "runs": []})
    content = json.loads((folder / file).read_text()) | {key: value}
    (folder / file).write_text(json.dumps(content))
    assert records.read_run(folder).status in ("complete", "diverged", "corrupt")
    with contextlib.suppress(records.RecordError):
        records.read_plan(folder)


def test_a_run_of_a_newer_creditlab_is_not_written_over(tmp_path):
    run = finished(tmp_path / "run")
    edit(run.folder / "summary.json", schema=2)
    with pytest.raises(records.RecordError, match="of a newer creditlab"):
        records.open_run(run.folder, CONFIG)


def test_summaries_written_before_sizes_and_digests_were_kept_still_count(tmp_path):
    run = finished(tmp_path / "run")
    summary = unsealed(run.folder / "summary.json")
    del summary["files"], summary["files_sha256"]
    (run.folder / "summary.json").write_text(json.dumps(summary))
    edit(run.folder / "run.json")
    again = records.read_run(run.folder)
    assert again.status == "complete"
    assert again.arrays()["test/loss"].tolist() == [0, 1, 2]


def test_a_run_without_its_weights_stays_finished(tmp_path):
    for status in ("complete", "diverged"):
        run = finished(tmp_path / status, status=status)
        assert not run.weights_removed
        (run.folder / "weights.safetensors").unlink()
        again = records.find_run(run.folder, CONFIG)
        assert (again.status, again.weights_removed, again.problem) == (status, True, "")
        assert again.metrics == run.metrics


def test_arrays_that_were_changed_within_are_refused(tmp_path):
    run = finished(tmp_path / "run")
    path = run.folder / "arrays.npz"
    content = bytearray(path.read_bytes())
    content[10] ^= 1  # the time of an entry, which no checksum covers
    path.write_bytes(content)
    with pytest.raises(records.RecordError, match=r"arrays\.npz: was changed after it was written"):
        records.read_run(run.folder).arrays()


@pytest.mark.parametrize("file", ["", "run.json", "summary.json", "history.jsonl", "arrays.npz"])
def test_a_run_that_cannot_be_read_is_corrupt_and_the_others_are_read(tmp_path, monkeypatch, file):
    finished(tmp_path / "sweep" / "a")
    finished(tmp_path / "sweep" / "b")
    unreadable(tmp_path / "sweep" / "b" / file, monkeypatch)
    one, other = records.read_sweep(tmp_path / "sweep")
    assert (one.status, other.status) == ("complete", "corrupt")
    assert other.problem.endswith("Permission denied")


def test_a_folder_that_cannot_be_looked_into_counts_as_a_run(tmp_path, monkeypatch):
    (tmp_path / "shut").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert [folder.name for folder in records.run_folders(tmp_path)] == ["shut"]


def test_a_run_writes_through_no_link(tmp_path):
    (tmp_path / "victim").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".hydra").symlink_to(tmp_path / "victim")
    with pytest.raises(records.RecordError, match=r"\.hydra is a link"):
        records.begin(tmp_path / "run", CONFIG, {"config.yaml": "a: 1\n"})
    (tmp_path / "file").write_text("precious")
    (tmp_path / f".whole.{os.getpid()}.tmp").symlink_to(tmp_path / "file")
    records.write_json(tmp_path / "whole", {})
    assert (tmp_path / "file").read_text() == "precious"
    assert (tmp_path / "whole").read_text() == "{}\n"


def test_a_folder_that_is_a_link_is_not_followed(tmp_path):
    """It may lead to a folder of this machine that the maker of the sweep is not allowed to read, or to write."""
    config = {**CONFIG}
    (tmp_path / "elsewhere").mkdir()
    records.begin(tmp_path / "elsewhere", config, {})
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "run").symlink_to(tmp_path / "elsewhere")
    (run,) = records.read_sweep(tmp_path / "sweep")
    assert (run.status, run.record) == ("corrupt", {})
    assert run.problem == "the folder is a link, which is not followed"
    with pytest.raises(records.RecordError, match=r"is a link, which is not followed\. Remove the link"):
        records.find_run(tmp_path / "sweep" / "run", config)


def test_names_and_causes_with_control_characters_are_made_visible(tmp_path):
    run = finished(tmp_path / "run")
    edit(run.folder / "summary.json", metrics={"test/\x1b[2J": 1.0, "test/\u202egnp": 2.0})
    assert records.read_run(run.folder).metrics == {"test/\\x1b[2J": 1.0, "test/\\u202egnp": 2.0}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "error.txt").write_text("\x1b]0;owned\x07 cause\n")
    assert records.read_run(tmp_path / "other").problem == "\\x1b]0;owned\\x07 cause"


LINES = {
    "a list": "[]",
    "no metrics": '{"step": 1, "epoch": 1}',
    "metrics a list": '{"step": 1, "epoch": 1, "metrics": [1]}',
    "metrics of text": '{"step": 1, "epoch": 1, "metrics": {"a": "x"}}',
    "no step": '{"epoch": 1, "metrics": {}}',
    "step of text": '{"step": "1", "epoch": 1, "metrics": {}}',
    "step too large": f'{{"step": 1{"0" * 400}, "epoch": 1, "metrics": {{}}}}',
    "epoch infinite": '{"step": 1, "epoch": Infinity, "metrics": {}}',
    "deep": "[" * 100_000,
    "bytes": "\udcff",
}


@pytest.mark.parametrize("case", LINES)
def test_a_spoilt_line_of_a_history_is_an_error_that_names_it(tmp_path, case):
    good = '{"step": 0, "epoch": 0.0, "metrics": {"a": null}}\n'
    text = good + LINES[case] + "\n" + good
    (tmp_path / "h").write_text(text, errors="surrogateescape")
    with pytest.raises(records.RecordError, match="line 2 of 3"):
        records.read_history(tmp_path / "h")
    assert len(records.read_history(tmp_path / "h", len(good))) == 1
    assert records.read_last_line(tmp_path / "h")["step"] == 0


def test_what_a_killed_writer_left_aside_is_cleared_and_never_read(tmp_path):
    run = finished(tmp_path / "run")
    names = ["summary.json", "run.json", "arrays.npz", "checkpoint.pt", ".hydra/config.yaml"]
    asides = [(run.folder / name).with_name(f".{(run.folder / name).name}.7.tmp") for name in names]
    for aside in asides:
        aside.write_bytes(b"half a fi")
    assert records.read_run(run.folder).status == "complete"
    records.begin(run.folder, CONFIG, {})
    assert not any(aside.exists() for aside in asides)


def test_a_former_writer_does_not_get_into_the_history_of_the_next(tmp_path):
    former = records.History(tmp_path / "h")
    former.append(0, 0.0, {})
    size = former.size
    latter = records.History(tmp_path / "h", size)
    former.append(5, 0.5, {"x": 1.0})
    latter.append(5, 0.5, {"x": 2.0})
    former.append(6, 0.6, {"x": 1.0})
    assert [json.loads(line)["step"] for line in (tmp_path / "h").read_text().splitlines()] == [0, 5]


def test_states_of_a_run_that_is_not_finished(tmp_path):
    folder = tmp_path / "run"
    assert records.read_run(folder).status == "unfinished"
    folder.mkdir()
    records.begin(folder, CONFIG, {})
    assert records.read_run(folder).status == "unfinished"
    try:
        raise RuntimeError("out of luck\nsecond line")
    except RuntimeError as error:
        records.fail(folder, CONFIG, error, 7)
    run = records.read_run(folder)
    assert (run.status, run.problem) == ("failed", "RuntimeError: out of luck")
    text = (folder / "error.txt").read_text()
    assert "after step 7" in text
    assert "Traceback" in text
    assert '"seed": 0' in text
    records.begin(folder, CONFIG, {})
    assert records.read_run(folder).status == "unfinished"


def test_reading_a_sweep(tmp_path):
    finished(tmp_path / "sweep" / "b")
    finished(tmp_path / "sweep" / "a", status="diverged")
    (tmp_path / "sweep" / "notes").mkdir()
    (tmp_path / "sweep" / ".hidden").mkdir()
    assert [(r.name, r.status) for r in records.read_sweep(tmp_path / "sweep")] == [
        ("a", "diverged"),
        ("b", "complete"),
    ]


def test_foreign_folders_are_told(tmp_path):
    with pytest.raises(records.RecordError, match="is not a folder"):
        records.read_sweep(tmp_path / "nowhere")
    with pytest.raises(records.RecordError, match="holds nothing"):
        records.read_sweep(tmp_path)
    finished(tmp_path / "sweep" / "run")
    with pytest.raises(records.RecordError, match=r"Did you mean .*sweep"):
        records.read_sweep(tmp_path)


def test_plans(tmp_path):
    assert records.read_plan(tmp_path) is None
    plan = {"schema": 1, "factors": {"seed": [0]}, "runs": [{"name": "a-1", "identity": "1", "levels": {"seed": 0}}]}
    records.write_json(tmp_path / "sweep.json", plan)
    assert records.read_plan(tmp_path) == plan


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"schema": 1}', '{"schema": 1, "factors": [], "runs": []}', '{"schema": 1, "factors": {}, "runs": 3}',
     '{"schema": 1, "factors": {}, "runs": [3]}', '{"schema": 1, "factors": {"a": 1}, "runs": []}'],
)  # fmt: skip
def test_a_spoilt_plan_says_what_to_do(tmp_path, text):
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(records.SpoiltPlan, match=r"sweep\.json: .*write it anew"):
        records.read_plan(tmp_path)


def test_a_plan_of_a_newer_creditlab_is_not_called_spoilt(tmp_path):
    (tmp_path / "sweep.json").write_text('{"schema": 2}')
    with pytest.raises(records.RecordError, match="of a newer creditlab") as refusal:
        records.read_plan(tmp_path)
    assert not isinstance(refusal.value, records.SpoiltPlan)


def test_an_altered_record_of_another_config_is_not_written_over(tmp_path):
    run = finished(tmp_path / "run", config=changed(optimiser__lr=0.25))
    replace(run.folder / "run.json", b"0.25", b"0.75")
    assert records.read_run(run.folder).status == "corrupt"
    with pytest.raises(records.RecordError, match=r"optimiser\.lr: 0\.75 in the folder, 0\.1 now"):
        records.open_run(run.folder, CONFIG)
