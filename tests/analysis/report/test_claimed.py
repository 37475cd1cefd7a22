"""Verdicts on claims in sentences: on the page with links to their numbers, on the terminal, in the files."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from creditlab.analysis.__main__ import main
from creditlab.analysis.data.sweep import Sweep
from creditlab.analysis.report.claimed import sentences, shown
from tests.analysis.claims.test_verdicts import claims, record
from tests.analysis.report.test_html import Page, fill

EQUIVALENCE = {"kind": "equivalence: {algorithm: [fa, bp]}", "bound": "margin: 0.02"}


@pytest.fixture
def sweep(folder):
    return fill(folder, ("bp", "fa"), seeds=3).path


def conclusions_of(path) -> str:
    return " ".join("".join(Page((path / "report" / "report.html").read_text()).texts["conclusions"]).split())


def test_a_file_of_claims_is_judged_in_the_table_the_page_and_on_the_terminal(sweep, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    path = tmp_path / "mine.yaml"
    path.write_text(claims().text + claims(**EQUIVALENCE, name="the same").text)
    assert main([str(sweep), "--claims", str(path)]) == 0
    out = capsys.readouterr().out
    table = pd.read_csv(sweep / "report" / "claims.csv")
    assert list(table["verdict"]) == ["holds", "does not hold"]
    value, low, high = table.loc[0, ["estimate", "ci_low", "ci_high"]]
    sentence = f"more: holds. The difference is {value:.3g} (95 % interval {low:.3g} to {high:.3g}; 3 seeds). "
    sentence += "The claim holds if this is above 0. Written afterwards."
    assert sentence in out
    assert sentence in conclusions_of(sweep)
    assert "the same: does not hold (differ by more than 0.02). The difference is −0.0" in conclusions_of(sweep)
    page = Page((sweep / "report" / "report.html").read_text())
    assert "#claims-0" in page.links
    assert "claims-1" in page.texts
    assert "claims.csv" in json.loads((sweep / "report" / "analysis.json").read_text())["files"]


def test_the_claims_that_the_plan_recorded_are_judged_by_themselves(sweep, capsys):
    record(sweep, claims().text)
    assert main([str(sweep), "--only", "anova"]) == 0
    assert "Stated before the runs." in " ".join(capsys.readouterr().out.split())
    record(sweep, claims("cell: {algorithm: es}").text)  # a part of the experiment was run
    assert main([str(sweep), "--only", "anova"]) == 0
    assert "more: undecided (no run has algorithm=es." in " ".join(capsys.readouterr().out.split())


def test_a_bad_claim_is_one_line_and_status_2(sweep, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(claims("cell: {algorithm: es}").text)
    assert main([str(sweep), "--claims", str(path)]) == 2
    message = f"creditlab-analyse: {path}: claim 1 (more): no run has algorithm=es. There are: bp, fa.\n"
    assert capsys.readouterr().err == message
    assert main([str(sweep), "--claims", str(path.with_name("my.yaml"))]) == 2
    assert capsys.readouterr().err.endswith("there is no such file of claims. Did you mean mine.yaml?\n")
    assert not (sweep / "report" / "claims.csv").exists()


def test_the_claims_of_a_table_from_elsewhere(sweep, tmp_path, capsys):
    from creditlab.analysis import load

    read: Sweep = load(sweep)
    read.runs.to_csv(tmp_path / "runs.csv", index=False)
    (tmp_path / "mine.yaml").write_text(claims().text)
    command = [str(tmp_path / "runs.csv"), "--factors", "algorithm", "optimiser", "--only", "anova"]
    assert main([*command, "--claims", str(tmp_path / "mine.yaml")]) == 0
    assert "When it was stated is not recorded." in " ".join(capsys.readouterr().out.split())
    assert pd.read_csv(tmp_path / "runs-report" / "claims.csv")["verdict"][0] == "holds"


def test_what_is_still_needed_is_said():
    row = {"claim": "more", "kind": "cell", "metric": "m", "holds_if": "above 0", "estimate": 0.1, "ci_low": -0.1}
    row |= {"ci_high": 0.3, "level": 0.95, "n_seeds": 3, "verdict": "undecided", "why": "open", "seeds_needed": 7.0}
    frame = pd.DataFrame([row | {"stated": "changed since"}])
    (parts,) = sentences(frame)
    text = "".join(part if isinstance(part, str) else shown(part, frame) for part in parts)
    assert text == (
        "more: undecided (open). The mean is 0.1 (95 % interval -0.1 to 0.3; 3 seeds). The claim holds if this is "
        "above 0. About 7 seeds would decide it, if estimate and spread stay as they are. Changed since it was "
        "stated."
    )
