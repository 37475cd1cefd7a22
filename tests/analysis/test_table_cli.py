"""`creditlab-analyse results.csv --factors …`: what it writes and says of a table from elsewhere."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path

import pandas as pd
import pytest

from creditlab.analysis import fit, load
from creditlab.analysis.__main__ import main
from creditlab.analysis.catalogue import OF_FOLDERS, statistics
from tests.analysis.data.test_any_table import FACTORS, results, written
from tests.analysis.report.test_html import Page
from tests.analysis.test_analysis_cli import message
from tests.analysis.test_tables import EMPTY


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def table(tmp_path) -> Path:
    frame = results().assign(status=["failed", "diverged", *["complete"] * 22], run=[f"run {i}" for i in range(24)])
    return written(tmp_path, frame)


def test_the_report_lies_beside_the_file_and_says_once_what_is_left_out(table, capsys):
    assert main([str(table), "--factors", *FACTORS]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    report = table.with_name("results-report")
    made = {name for name in statistics() if name not in OF_FOLDERS}
    assert {path.name for path in report.iterdir()} == {
        *("analysis.json", "report.html", "figures"),
        *(f"{name}.csv" for name in made),
    }
    assert "24 runs found: 22 complete, 1 diverged, 1 failed" in out
    assert "  failed: run 0\n" in out
    note = "left out, because a table has no folders of runs: concordance,"
    assert out.count(note) == 1
    assert set(pd.read_csv(report / "anova.csv")["metric"]) == {"accuracy", "rank"}
    text = (report / "report.html").read_text()
    assert unescape(text).count(note) == 1
    page = Page(text)
    assert "24 runs: 22 complete, 1 diverged, 1 failed" in "".join(page.texts["run"])
    assert "run 5" in "".join(page.texts["runs"])
    assert not [link for link in page.links if link.startswith("..")]  # no row leads to a folder
    assert "One row per run. The file has all metrics." in "".join(page.texts["runs"])
    assert not page.texts.keys() & set(OF_FOLDERS)
    notes = json.loads((report / "analysis.json").read_text())
    assert notes["runs"] == {"failed": 1, "diverged": 1, "complete": 22}


def test_the_options_of_a_sweep_are_those_of_a_table(table, tmp_path):
    out = tmp_path / "out"
    command = [str(table), "--factors", *FACTORS, "--where", "algorithm=bp,es", "--only", "anova", "--out", str(out)]
    assert main([*command, "--metrics", "acc*", "--format", "csv", "markdown"]) == 0
    assert {path.name for path in out.iterdir()} == {"anova.csv", "anova.md", "analysis.json"}
    anova = pd.read_csv(out / "anova.csv")
    assert set(anova["metric"]) == {"accuracy"}
    assert set(anova["n"]) == {14}


def test_bad_tables_are_one_line_and_status_2(table, small_sweep, capsys):
    assert "there is no column 'optimizer'. Did you mean optimiser?" in message(capsys, table, "--factors", "optimizer")
    missing = message(capsys, table.with_name("result.csv"), "--factors", "x")
    assert "result.csv: there is no such file. Did you mean results.csv?" in missing
    assert "Give one table alone" in message(capsys, small_sweep, table, "--factors", *FACTORS)
    assert "a sweep's folder tells its own" in message(capsys, small_sweep, "--factors", "algorithm")
    asked = message(capsys, table, "--factors", *FACTORS, "--only", "concordance")
    assert f"concordance needs the folders of runs, and {table} is a table." in asked
    assert not table.with_name("results-report").exists()


def test_what_needs_folders_is_what_is_empty_without_them(small_sweep, tmp_path):
    sweep = load(small_sweep)
    table = load(written(tmp_path, sweep.runs), factors=sweep.factors)
    fits = fit(table)
    assert {name for name, made in statistics().items() if not len(made(fits))} == set(OF_FOLDERS) | EMPTY
