"""`python -m analysis`: what it prints and writes, and what it says of folders that cannot be analysed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from creditlab.analysis.__main__ import DESCRIBING, main
from creditlab.analysis.report.terminal import fraction, number, probability
from creditlab.analysis.tables import NAMES
from tests.analysis.conftest import Folder

RNG = np.random.default_rng(0)


def outcome(**_) -> dict:
    values = RNG.normal(size=4)
    names = ["test/accuracy", "weights/block1/stable_rank", "activations/block1/dead_fraction", "test/accuracy@init"]
    return {"metrics": dict(zip(names, map(float, values), strict=True)), "loss": RNG.normal(size=30)}


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def sweep(folder):
    return folder.cross(outcome, 3, algorithm=["bp", "fa", "es"], optimiser=["sgd", "muon"])


def python(*arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=60)


def test_tables_are_written_and_printed(sweep, capsys):
    assert main([str(sweep.path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    report = sweep.path / "report"
    tables = [f"{name}.csv" for name in (*NAMES, *DESCRIBING)]
    assert sorted(p.name for p in report.iterdir()) == sorted(["analysis.json", "report.html", "figures", *tables])
    figures = {p.suffix for p in (report / "figures").iterdir()}
    assert figures == {".svg", ".png"}
    runs, anova, concordance = (pd.read_csv(report / f"{name}.csv") for name in ("runs", "anova", "concordance"))
    assert len(runs) == 18
    assert list(runs.columns[:3]) == ["run", "identity", "status"]
    assert "test/accuracy@init" in runs.columns
    assert "test/accuracy@init" not in set(anova["metric"])
    assert list(dict.fromkeys(anova["metric"])) == [
        *["test/accuracy", "activations/block1/dead_fraction", "weights/block1/stable_rank"]
    ]
    assert list(concordance["raters"]) == ["algorithm", "optimiser", "seed"]
    notes = json.loads((report / "analysis.json").read_text())
    assert notes["families"] == {"algorithm": 3, "optimiser": 3, "algorithm:optimiser": 3, "seed": 3}
    assert notes["models"][0]["method"] == "closed form"

    assert "18 runs found: 18 complete" in out
    assert "Factors: algorithm (bp, es, fa) × optimiser (muon, sgd); 3 seeds" in out
    f = anova.set_index(["metric", "term"]).loc[("test/accuracy", "algorithm"), "F"]
    row = next(line for line in out.splitlines() if line.startswith("test/accuracy"))
    assert f"{f:.3g}" in row
    assert "algorithm + optimiser + algorithm:optimiser + seed (block); n = 18 runs; residual df 10" in out.replace(
        "\n", " "
    )
    assert f"{concordance['W'][0]:.3f}".lstrip("0") in out
    assert f"{report}/*.csv: runs, anova, " in out
    assert str(report / "report.html") in out
    assert "\x1b" not in out  # plain where there is no terminal


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_the_width(sweep, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([str(sweep.path)]) == 0
    printed = capsys.readouterr().out.partition("Written")[0].splitlines()
    assert max(len(line) for line in printed if not line.startswith("Runs in")) <= width
    assert any(line.split()[:1] == ["weights/block1/stable_rank"] for line in printed)  # names are whole
    assert sum(line.startswith("test/accuracy") for line in printed) == (1 if width == 120 else 2)


def test_metrics_and_type_can_be_chosen(sweep, capsys):
    next(sweep.path.glob("es-muon*s2*/summary.json")).unlink()
    assert main([str(sweep.path), "--metrics", "test/*", "act*", "--type", "III"]) == 0
    anova = pd.read_csv(sweep.path / "report" / "anova.csv")
    assert set(anova["metric"]) == {"test/accuracy", "activations/block1/dead_fraction"}
    assert "type III" in capsys.readouterr().out.replace("\n", " ")
    assert main([str(sweep.path), "--metrics", "tset/*"]) == 2
    assert "no metric matches tset/*. There are: test/accuracy" in capsys.readouterr().err
    mixed = message(
        capsys, sweep.path, "--metrics", "test/*", "test/acuracy"
    )  # what matches does not hide what does not
    assert "no metric matches test/acuracy. Did you mean test/accuracy?" in mixed


def test_runs_and_tables_can_be_chosen(sweep, tmp_path, capsys):
    out = tmp_path / "out"
    command = [str(sweep.path), "--where", "algorithm=bp,es", "seed=0,1", "--only", "anova", "--out", str(out)]
    assert main(command) == 0
    assert sorted(p.name for p in out.iterdir()) == ["analysis.json", "anova.csv"]
    assert set(pd.read_csv(out / "anova.csv")["n"]) == {8}
    assert "Factors: algorithm (bp, es) × optimiser (muon, sgd); 2 seeds" in capsys.readouterr().out
    assert "no table 'anovas'. Did you mean anova? There are: runs, anova" in message(
        capsys, sweep.path, "--only", "anovas"
    )
    assert "Did you mean optimiser?" in message(capsys, sweep.path, "--where", "optimizer=sgd")
    with pytest.raises(SystemExit):
        main([str(sweep.path), "--where", "sgd"])
    assert "'sgd' is not KEY=LEVEL[,LEVEL…]" in capsys.readouterr().err


def test_formats_agree(sweep, capsys):
    assert main([str(sweep.path), "--format", "csv", "parquet", "latex", "markdown"]) == 0
    report = sweep.path / "report"
    for name in NAMES:
        csv, parquet = pd.read_csv(report / f"{name}.csv"), pd.read_parquet(report / f"{name}.parquet")
        assert list(csv.columns) == list(parquet.columns)
        for column in csv:
            if parquet[column].dtype == float:
                np.testing.assert_allclose(csv[column], parquet[column], rtol=1e-12)
    anova = pd.read_csv(report / "anova.csv")
    lines = (report / "anova.md").read_text().splitlines()
    assert len(lines) == len(anova) + 2
    assert f"| {anova['F'][0]:.3g} |" in lines[2]
    tex = (report / "anova.tex").read_text()
    assert tex.startswith("\\begin{tabular}{llrrrrrrrrrrrrrrr}\n\\toprule\nmetric & term & sum\\_sq")
    assert tex.count("\\\\\n") == len(anova) + 1


def test_a_numeric_factor_has_a_dose_response(folder):
    for depth in (1, 2, 4, 8):
        for seed in range(3):
            made = outcome()
            made["metrics"]["test/accuracy"] += 20 * (depth > 2)
            folder.add(**made, keys={"architecture.depth": depth}, seed=seed)
    assert main([str(folder.path)]) == 0
    dose = pd.read_csv(folder.path / "report" / "dose.csv").set_index("metric")
    assert dose.loc["test/accuracy", ["change_after", "change_before", "ci_low", "ci_high"]].tolist() == [2, 4, 2, 4]
    curve = pd.read_csv(folder.path / "report" / "curve.csv")
    assert set(curve["level"]) == {1, 2, 4, 8}


def test_the_example_of_the_guide(folder, tmp_path):
    """It runs as it stands, on a sweep of the name that it gives."""

    def made(**_) -> dict:
        return {"metrics": dict(zip(["test/accuracy", "weights/fc1/stable_rank"], RNG.normal(size=2), strict=True))}

    folder.cross(made, 3, algorithm=["bp", "fa", "ff", "es"], optimiser=["adamw", "muon"])
    (tmp_path / "multirun").mkdir()
    folder.path.rename(tmp_path / "multirun" / "demo")
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text()
    (example,) = re.findall(r"```python\n(from creditlab.analysis import load\n.*?)```", guide, re.S)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", example]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("random block, repeated measures\n")


def test_two_sweeps(folder, tmp_path, capsys):
    folder.cross(outcome, 3, algorithm=["bp", "fa"])
    more = Folder(tmp_path / "more")
    more.path.mkdir()
    more.cross(outcome, 3, algorithm=["es"])
    assert main([str(folder.path), str(more.path)]) == 0
    assert "Factors: algorithm (bp, es, fa); 3 seeds" in capsys.readouterr().out
    anova = pd.read_csv(folder.path / "report" / "anova.csv")
    assert set(anova["n"]) == {9}
    assert set(pd.read_csv(folder.path / "report" / "concordance.csv")["n_raters"]) == {3}


def test_partial_sweep_says_what_is_missing(sweep, capsys):
    for run in sweep.path.glob("es-muon*"):
        (run / "summary.json").unlink()
        (run / "error.txt").write_text("RuntimeError: [red]no[/red] [/] \x1b[31mmemory\nTraceback\n")
    (next(sweep.path.glob("bp-sgd*s0*")) / "summary.json").write_text('{"schema": ')
    assert main([str(sweep.path)]) == 0
    out = capsys.readouterr().out
    assert "18 runs found: 14 complete, 3 failed, 1 corrupt" in out
    assert ": RuntimeError: [red]no[/red] [/]  [31mmemory" in out  # as it is, without the escape
    assert "  corrupt: bp-sgd-digits-mlp-s0-" in out
    assert "  algorithm:optimiser left out: no run at algorithm=es, optimiser=muon" in out
    assert "type II" in out.replace("\n", " ")
    assert main([str(sweep.path), "--strict"]) == 2
    assert capsys.readouterr().err == (
        "analysis: test/accuracy: no run at algorithm=es, optimiser=muon. "
        "Run what is missing, or leave out --strict for a smaller model.\n"
    )


def test_numbers_keep_three_digits_in_seven_characters():
    values = [1.3e-32, 4.6e-5, 0.00165, 0.226, 4.0, 40.14, 99.96, 371.2, 38408.4, 2.5e7, float("nan"), float("inf")]
    assert [number(value) for value in values] == [
        *["0", "4.6e-05", "0.00165", "0.226", "4", "40.1", "100", "371", "38408", "2.5e+07", "–", "–"]
    ]
    assert [probability(p) for p in (1e-9, 0.0009996, 0.0421, 1.0)] == ["<.001", "<.001", ".042", "1.000"]
    assert [fraction(x) for x in (0.123, 0.999, 1.0, 0.0, -0.25)] == [".12", "1.00", "1.00", ".00", "-.25"]


def test_names_with_markup_are_printed_as_they_are(folder, capsys):
    for seed in range(2):
        for value in ("[bold]x[/bold]", "[/]", "<b>"):
            metrics = {"weights/[red]a[/red]/[/]": float(RNG.normal())}
            folder.add(metrics, loss=RNG.normal(size=9), keys={"architecture.norm": value}, seed=seed)
    assert main([str(folder.path)]) == 0
    out = capsys.readouterr().out
    assert "Factors: architecture.norm (<b>, [/], [bold]x[/bold]); 2 seeds" in out
    assert any(line.startswith("weights/[red]a[/red]/[/]  ") for line in out.splitlines())


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
    assert "Taken away, files of an earlier analysis: " in capsys.readouterr().out
    fresh = sweep.path / "fresh"
    assert main([str(sweep.path), "--where", "optimiser=sgd", "--out", str(fresh)]) == 0
    assert names(report) - names(fresh) == {"figures/mine.svg", "anova.tex"}


def test_an_analysis_that_is_refused_takes_none_away(sweep, capsys):
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
def test_notes_that_are_no_list_of_files_take_nothing_away(sweep, notes):
    report = sweep.path / "report"
    report.mkdir()
    (report / "analysis.json").write_text(notes)
    (sweep.path / "runs.csv").touch()
    assert main([str(sweep.path), "--only", "anova"]) == 0
    assert (sweep.path / "runs.csv").exists()


def test_tables_are_written_though_nobody_reads_the_output(sweep):
    command = f"{sys.executable} -m analysis {sweep.path} | true"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    piped = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, timeout=60)
    assert piped.stderr == ""
    assert (sweep.path / "report" / "analysis.json").exists()


# Bad input ------------------------------------------------------------------------------------------------------------


def message(capsys, *arguments: object) -> str:
    """The one line on stderr of a call that must fail."""
    assert main([str(a) for a in arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("analysis: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("order", ["0", "-1", "two"])
def test_an_interaction_of_no_factor(sweep, capsys, order):
    with pytest.raises(SystemExit) as ended:
        main([str(sweep.path), "--order", order])
    assert ended.value.code == 2
    assert f"'{order}' is no whole number at least 1" in capsys.readouterr().err


def test_missing_folder(tmp_path, capsys):
    assert f"{tmp_path / 'nowhere'} is not a folder" in message(capsys, tmp_path / "nowhere")


def test_empty_and_foreign_folder(tmp_path, capsys):
    assert "holds no run (it holds nothing)" in message(capsys, tmp_path)
    (tmp_path / "holiday.jpg").touch()
    assert "holds no run (it holds holiday.jpg)" in message(capsys, tmp_path)
    assert not (tmp_path / "report").exists()


def test_parent_of_a_sweep(sweep, capsys):
    assert f"Did you mean {sweep.path}?" in message(capsys, sweep.path.parent)


def test_folder_of_a_run(sweep, capsys):
    run = next(path.parent for path in sweep.path.glob("*/run.json"))
    assert f"It is the folder of a run: give that of its sweep, {sweep.path.absolute()}." in message(capsys, run)


def test_all_runs_failed(folder, capsys):
    for algorithm in ("bp", "fa"):
        folder.add(status="failed", algorithm=algorithm)
    assert main([str(folder.path)]) == 2
    out, err = capsys.readouterr()
    assert err == "analysis: none of the 2 runs is finished: nothing to analyse.\n"
    assert out.count("RuntimeError: the device is on fire") == 2
    assert len(pd.read_csv(folder.path / "report" / "runs.csv")) == 2


def test_nothing_varies(folder, capsys):
    for seed in range(3):
        folder.add(**outcome(), seed=seed)
    assert "nothing varies but the seed" in message(capsys, folder.path)


def test_one_run_a_cell_says_that_nothing_can_be_tested(folder, capsys):
    for algorithm in ("bp", "fa", "es"):
        folder.add(**outcome(), algorithm=algorithm)
    assert main([str(folder.path)]) == 3
    out, err = capsys.readouterr()
    assert err == "analysis: no effect could be tested; the reasons stand above.\n"
    out = out.replace("\n", " ")
    assert "Nothing can be tested." in out
    assert (
        "Not tested, no residual degree of freedom: 3 runs are no more than the model has parameters; add seeds" in out
    )
    assert pd.read_csv(folder.path / "report" / "anova.csv").columns[0] == "metric"


def test_report_that_cannot_be_written(sweep, capsys):
    (sweep.path / "report").write_text("a file where the folder should be")
    assert f"cannot write to {sweep.path / 'report'}: File exists." in message(capsys, sweep.path)


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


def test_as_a_command(tmp_path: Path):
    helped = python("-c", "import sys; from creditlab.analysis.__main__ import main; main(['--help'])")
    assert helped.returncode == 0
    assert "python -m analysis DIR" in helped.stdout
    light = python(
        "-c", "import sys, creditlab.analysis.__main__; print({'pandas', 'scipy', 'rich', 'torch'} & set(sys.modules))"
    )
    assert light.stdout == "set()\n"
    failed = python("-m", "creditlab.analysis", str(tmp_path / "nowhere"))
    assert failed.returncode == 2
    assert "Traceback" not in failed.stderr
    assert failed.stderr.startswith("analysis: ")


def test_analysis_imports_nothing_of_training(sweep):
    code = f"import sys; from creditlab.analysis.__main__ import main; main([{str(sweep.path)!r}])"
    seen = python("-c", code + "; print({'torch', 'hydra'} & set(sys.modules))")
    assert seen.stdout.endswith("set()\n"), seen.stderr
