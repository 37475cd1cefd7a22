"""A report's folder holds one analysis, and what others put there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from creditlab.analysis.__main__ import main
from tests.analysis.test_analysis_cli import message, outcome


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def sweep(folder):
    return folder.cross(outcome, 3, algorithm=["bp", "fa", "es"], optimiser=["sgd", "muon"])


def names(report: Path) -> set[str]:
    return {path.relative_to(report).as_posix() for path in report.rglob("*") if path.is_file()}


def test_a_report_holds_what_its_page_shows_and_what_others_put_there(sweep, capsys):
    report = sweep.path / "report"
    assert main([str(sweep.path), "--format", "csv", "latex"]) == 0
    (report / "figures" / "mine.svg").write_text("<svg/>")
    (report / "anova.tex").write_text("as edited")
    before = names(report)
    assert main([str(sweep.path), "--where", "optimiser=sgd"]) == 0
    gone = before - names(report)
    assert "figures/concordance.svg" in before & names(report)
    assert {"posthoc.tex", "figures/fingerprint_optimiser.svg", "figures/fingerprint_optimiser.png"} <= gone
    assert not {"figures/mine.svg", "anova.tex"} & gone
    assert "Removed files of an earlier analysis: " in capsys.readouterr().out
    fresh = sweep.path / "fresh"
    assert main([str(sweep.path), "--where", "optimiser=sgd", "--out", str(fresh)]) == 0
    assert names(report) - names(fresh) == {"figures/mine.svg", "anova.tex"}


def test_an_analysis_that_is_rejected_removes_none(sweep, capsys):
    report = sweep.path / "report"
    assert main([str(sweep.path)]) == 0
    before = {name: (report / name).read_bytes() for name in names(report)}
    assert main([str(sweep.path), "--where", "algorithm=bp", "optimiser=sgd"]) == 2
    assert "nothing varies but the seed" in capsys.readouterr().err
    assert {name: (report / name).read_bytes() for name in names(report)} == before


def test_a_table_more_of_the_same_runs_leaves_the_page_and_one_of_others_does_not(sweep):
    report = sweep.path / "report"
    assert main([str(sweep.path)]) == 0
    before = names(report)
    assert main([str(sweep.path), "--only", "anova", "--format", "latex"]) == 0
    assert names(report) == before | {"anova.tex"}
    next(sweep.path.glob("es-muon*s2*/summary.json")).unlink()  # and now it is another sweep
    assert main([str(sweep.path), "--only", "anova"]) == 0
    assert names(report) == {"analysis.json", "anova.csv"}
    assert not (report / "figures").exists()


@pytest.mark.parametrize("notes", ["", "[]", '{"files": 3}', '{"files": {"../runs.csv": "x", "gone.csv": "y"}}'])
def test_notes_that_are_no_list_of_files_remove_nothing(sweep, notes):
    report = sweep.path / "report"
    report.mkdir()
    (report / "analysis.json").write_text(notes)
    (sweep.path / "runs.csv").touch()
    assert main([str(sweep.path), "--only", "anova"]) == 0
    assert (sweep.path / "runs.csv").exists()


def test_a_write_that_fails_leaves_the_old_table(sweep, capsys, monkeypatch):
    assert main([str(sweep.path)]) == 0
    before = (sweep.path / "report" / "runs.csv").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device", "runs.csv")

    monkeypatch.setattr(os, "fsync", full)
    capsys.readouterr()
    assert "No space left on device" in message(capsys, sweep.path)
    assert (sweep.path / "report" / "runs.csv").read_bytes() == before
    assert not list((sweep.path / "report").glob(".*"))


def test_report_that_cannot_be_written(sweep, capsys):
    (sweep.path / "report").write_text("a file where the folder should be")
    assert f"cannot write to {sweep.path / 'report'}: File exists." in message(capsys, sweep.path)


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_notes_that_are_no_file_are_not_read(sweep, kind):
    report = sweep.path / "report"
    report.mkdir()
    if kind == "pipe":
        os.mkfifo(report / "analysis.json")
    else:
        (report / "analysis.json").symlink_to("/dev/zero")
    assert main([str(sweep.path), "--only", "levels", "--format", "csv"]) == 0
    assert (report / "analysis.json").is_file()
    assert not (report / "analysis.json").is_symlink()
