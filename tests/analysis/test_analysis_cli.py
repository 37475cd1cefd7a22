"""`creditlab-analyse`: what it prints and writes, and what it says of folders that cannot be analysed."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from creditlab.analysis.__main__ import main
from creditlab.analysis.catalogue import statistics
from creditlab.analysis.table import FURTHER
from tests.analysis.conftest import Folder
from tests.analysis.report.test_html import fill

pytestmark = [
    pytest.mark.filterwarnings(f"error::{kind}Warning") for kind in ("Runtime", "User", "Future", "Deprecation")
]
RNG = np.random.default_rng(0)
ROOT = Path(__file__).parents[2]


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
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_tables_are_written_and_printed(sweep, capsys):
    assert main([str(sweep.path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    report = sweep.path / "report"
    tables = [f"{name}.csv" for name in statistics()]
    assert sorted(p.name for p in report.iterdir()) == sorted(["analysis.json", "report.html", "figures", *tables])
    figures = {p.suffix for p in (report / "figures").iterdir()}
    assert figures == {".svg", ".png"}
    runs, anova, concordance = (pd.read_csv(report / f"{name}.csv") for name in ("runs", "anova", "concordance"))
    assert len(runs) == 18
    assert list(runs.columns[:3]) == ["run", "identity", "status"]
    assert "test/accuracy@init" in runs.columns
    assert "test/accuracy@init" not in set(anova["metric"])
    metrics = ["test/accuracy", "activations/block1/dead_fraction", "weights/block1/stable_rank"]
    assert list(dict.fromkeys(anova["metric"])) == metrics
    assert list(concordance["raters"]) == ["algorithm", "optimiser", "seed"]
    notes = json.loads((report / "analysis.json").read_text())
    assert notes["models"][0]["terms"] == ["algorithm", "optimiser", "algorithm:optimiser"]
    assert notes["models"][0]["seeds"] == 3
    assert notes["models"][0]["random"] == []
    assert notes["untested"] == {}

    assert "18 runs found: 18 complete" in out
    assert "Factors: algorithm (bp, es, fa) × optimiser (muon, sgd); 3 seeds" in out
    f = anova.set_index(["metric", "term"]).loc[("test/accuracy", "algorithm"), "F"]
    row = next(line for line in out.splitlines() if line.startswith("test/accuracy"))
    assert f"{f:.3g}" in row
    model = (
        "Model: algorithm + optimiser + algorithm:optimiser; 18 runs of 3 seeds; each effect is tested against its own"
    )
    assert model in out.replace("\n", " ")
    assert "Shown, by question: " in out
    assert f"{concordance['W'][0]:.3f}".lstrip("0") in out
    assert f"{report}/*.csv: what_how, anova, " in out
    assert str(report / "report.html") in out
    assert "\x1b" not in out  # plain where there is no terminal


def test_metrics_and_scales_can_be_chosen(sweep, capsys):
    next(sweep.path.glob("es-muon*s2*/summary.json")).unlink()
    command = [str(sweep.path), "--metrics", "test/*", "act*", "--scale", "act*=log", "test/*=identity"]
    assert main(command) == 0
    anova = pd.read_csv(sweep.path / "report" / "anova.csv")
    assert set(anova["metric"]) == {"test/accuracy", "activations/block1/dead_fraction"}
    out = capsys.readouterr().out.replace("\n", " ")
    assert "mixed model by REML: seed and seed × factor are random" in out
    assert "activations/block1/dead_fraction is compared as it is: it has values of 0 or below" in out
    assert "'act*' is not GLOB=KIND, e.g. 'weights/*=log'; kinds: identity, log, logit" in refused(
        capsys, sweep, "act*"
    )
    assert "'act*=root' is not GLOB=KIND" in refused(capsys, sweep, "act*=root")
    assert main([str(sweep.path), "--metrics", "tset/*"]) == 2
    assert "no metric matches tset/*. There are: test/accuracy" in capsys.readouterr().err
    # What matches does not hide what does not.
    mixed = message(capsys, sweep.path, "--metrics", "test/*", "test/acuracy")
    assert "no metric matches test/acuracy. Did you mean test/accuracy?" in mixed


def refused(capsys, sweep, scale: str) -> str:
    """What is said of a `--scale` that is none."""
    with pytest.raises(SystemExit):
        main([str(sweep.path), "--scale", scale])
    return capsys.readouterr().err


def test_runs_and_tables_can_be_chosen(sweep, tmp_path, capsys):
    out = tmp_path / "out"
    command = [str(sweep.path), "--where", "algorithm=bp,es", "seed=0,1", "--only", "anova", "--out", str(out)]
    assert main(command) == 0
    assert sorted(p.name for p in out.iterdir()) == ["analysis.json", "anova.csv"]
    assert set(pd.read_csv(out / "anova.csv")["n"]) == {8}
    assert "Factors: algorithm (bp, es) × optimiser (muon, sgd); 2 seeds" in capsys.readouterr().out
    misspelt = message(capsys, sweep.path, "--only", "anovas")
    assert "no table 'anovas'. Did you mean anova? There are: what_how, anova" in misspelt
    assert "Did you mean optimiser?" in message(capsys, sweep.path, "--where", "optimizer=sgd")
    with pytest.raises(SystemExit):
        main([str(sweep.path), "--where", "sgd"])
    assert "'sgd' is not KEY=LEVEL[,LEVEL…]" in capsys.readouterr().err


def test_formats_agree(sweep, capsys):
    assert main([str(sweep.path), "--format", "csv", "parquet", "latex", "markdown"]) == 0
    report = sweep.path / "report"
    for name in statistics():
        csv, parquet = pd.read_csv(report / f"{name}.csv"), pd.read_parquet(report / f"{name}.parquet")
        assert list(csv.columns) == list(parquet.columns)
        for column in csv:
            if parquet[column].dtype == csv[column].dtype == float:
                np.testing.assert_allclose(csv[column], parquet[column], rtol=1e-12)
        assert len((report / f"{name}.md").read_text().splitlines()) == len(csv) + 2
        assert (report / f"{name}.tex").read_text().count("\\\\\n") == len(csv) + 1
    anova = pd.read_csv(report / "anova.csv")
    lines = (report / "anova.md").read_text().splitlines()
    assert len(lines) == len(anova) + 2
    assert f"| {anova['F'][0]:.3g} |" in lines[2]
    tex = (report / "anova.tex").read_text()
    assert tex.startswith("\\begin{tabular}{llrrrrrrrrrrrrrrrrll}\n\\toprule\nmetric & term & F & df & df\\_error")
    assert tex.count("\\\\\n") == len(anova) + 1


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A sweep that bears every table."""
    return fill(Folder(tmp_path_factory.mktemp("sweep")), ("bp", "fa"), seeds=3).path


@pytest.mark.parametrize("name", statistics())
def test_every_table_can_be_had_alone(small, tmp_path, name):
    assert main([str(small), "--only", name, "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["analysis.json", f"{name}.csv"])
    columns = statistics()[name].columns
    assert list(pd.read_csv(tmp_path / f"{name}.csv")) == list(columns) or FURTHER in columns


def test_the_report_is_all_tables_the_figures_and_the_page(small, tmp_path):
    """Alone or with tables, and whether an analysis was there before or not."""
    for only in (["report"], ["report", "anova"]):
        assert main([str(small), "--out", str(tmp_path), "--only", *only]) == 0
        files = {path.name for path in tmp_path.iterdir()}
        assert files == {"analysis.json", "report.html", "figures", *(f"{name}.csv" for name in statistics())}
    page = (tmp_path / "report.html").read_text()
    assert page.count('class="number"') > 10  # the numbers of its conclusions
    assert '<table id="anova-table">' in page


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


def test_the_examples_of_the_guide(folder, tmp_path):
    """They run as they stand, one after the other, on a sweep of the name that they give."""

    def made(**_) -> dict:
        return {"metrics": dict(zip(["test/accuracy", "weights/fc1/stable_rank"], RNG.normal(size=2), strict=True))}

    folder.cross(made, 3, algorithm=["bp", "fa", "ff", "es"], optimiser=["adamw", "muon"])
    (tmp_path / "multirun").mkdir()
    folder.path.rename(tmp_path / "multirun" / "demo")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "guide.md").read_text(), re.S)
    example, report = (block for block in blocks if '"multirun/demo' in block)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", example + report]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("each effect is tested against its own variation from seed to seed (error strata)\n")
    assert (tmp_path / "multirun" / "demo" / "report" / "report.html").exists()


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
    assert ": RuntimeError: [red]no[/red] [/] \\x1b[31mmemory" in out  # as it is, with the escape made visible
    assert "  corrupt: bp-sgd-digits-mlp-s0-" in out
    assert "  algorithm:optimiser left out: no run at algorithm=es, optimiser=muon" in out
    assert main([str(sweep.path), "--strict"]) == 2
    assert capsys.readouterr().err == (
        "creditlab-analyse: test/accuracy: no run at algorithm=es, optimiser=muon. "
        "Run what is missing, or leave out --strict for a smaller model.\n"
    )


def test_tables_are_written_though_nobody_reads_the_output(sweep):
    command = f"{sys.executable} -m analysis {sweep.path} | true"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    piped = subprocess.run(command, shell=True, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert piped.stderr == ""
    assert (sweep.path / "report" / "analysis.json").exists()


# Bad input ------------------------------------------------------------------------------------------------------------


def message(capsys, *arguments: object) -> str:
    """The one line on stderr of a call that must fail."""
    assert main([str(a) for a in arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("creditlab-analyse: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("order", ["0", "-1", "two"])
def test_an_interaction_of_no_factor(sweep, capsys, order):
    with pytest.raises(SystemExit) as ended:
        main([str(sweep.path), "--order", order])
    assert ended.value.code == 2
    assert f"'{order}' is not a whole number of at least 1" in capsys.readouterr().err


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
    assert err == "creditlab-analyse: none of the 2 runs is finished: nothing to analyse.\n"
    assert out.count("RuntimeError: the device is on fire") == 2
    assert len(pd.read_csv(folder.path / "report" / "runs.csv")) == 2


def test_nothing_varies(folder, capsys):
    for seed in range(3):
        folder.add(**outcome(), seed=seed)
    assert "nothing varies but the seed" in message(capsys, folder.path)


def test_one_seed_says_that_nothing_can_be_tested(folder, capsys):
    for algorithm in ("bp", "fa", "es"):
        folder.add(**outcome(), algorithm=algorithm)
    assert main([str(folder.path)]) == 3
    out, err = capsys.readouterr()
    assert err == "creditlab-analyse: no effect could be tested; see the reasons above.\n"
    out = out.replace("\n", " ")
    assert "Nothing can be tested." in out
    reason = "one seed: how much a result varies from seed to seed is not known; add seeds"
    assert f"Not tested, {reason}" in out
    assert pd.read_csv(folder.path / "report" / "anova.csv").columns[0] == "metric"


def test_as_a_command(tmp_path: Path):
    helped = python("-c", "import sys; from creditlab.analysis.__main__ import main; main(['--help'])")
    assert helped.returncode == 0
    assert "creditlab-analyse DIR" in helped.stdout
    failed = python("-m", "creditlab.analysis", str(tmp_path / "nowhere"))
    assert failed.returncode == 2
    assert "Traceback" not in failed.stderr
    assert failed.stderr.startswith("creditlab-analyse: ")


def test_analysis_imports_nothing_of_training(sweep):
    code = f"import sys; from creditlab.analysis.__main__ import main; main([{str(sweep.path)!r}])"
    seen = python("-c", code + "; print({'torch', 'hydra'} & set(sys.modules))")
    assert seen.stdout.endswith("set()\n"), seen.stderr


HEAVY = {"pandas", "scipy", "statsmodels", "sklearn", "matplotlib", "rich", "torch"}
HELP = "from creditlab.analysis.__main__ import main\ntry: main(['--help'])\nexcept SystemExit as e: assert not e.code"


@pytest.mark.parametrize(
    "code",
    ["import creditlab.analysis, creditlab.analysis.__main__", "from creditlab.analysis import fit, load", HELP],
    ids=["package", "functions", "help"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code):
    light = python("-c", f"import sys\n{code}\nprint({HEAVY} & set(sys.modules))")
    assert light.stdout.endswith("set()\n"), light.stdout + light.stderr


def test_statistics_are_names_of_the_package(sweep):
    code = "from creditlab.analysis import anova, fit, load, posthoc\n"
    code += f"fits = fit(load({str(sweep.path)!r}))\nprint(anova(fits).name, posthoc(fits).name, len(anova(fits)))"
    notebook = python("-c", code)
    assert notebook.stdout == f"anova posthoc {3 * 3}\n", notebook.stderr
    absent = python("-c", "from creditlab.analysis import anovas")
    assert "ImportError: cannot import name 'anovas' from 'creditlab.analysis'" in absent.stderr


def test_in_a_checkout_the_folder_is_a_command(sweep):
    done = python("-m", "analysis", str(sweep.path), "--only", "anova")
    assert done.returncode == 0, done.stderr
    assert (sweep.path / "report" / "anova.csv").exists()


def test_no_module_imports_the_folder_by_its_own_name():
    """`analysis` is a module of the checkout only: what is installed has creditlab.analysis."""
    folders = ("src", "analysis", "tests", "benchmarks", "docs")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert {path.relative_to(ROOT).parts[0] for path in paths} == set(folders)
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not [name for name in names if name.split(".")[0] == "analysis"], f"{path}, line {node.lineno}"
