"""What the terminal shows: it fits the width, and names are printed as they are."""

from __future__ import annotations

import numpy as np
import pytest

from creditlab.analysis.__main__ import main
from tests.analysis.test_analysis_cli import outcome

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def sweep(folder):
    return folder.cross(outcome, 3, algorithm=["bp", "fa", "es"], optimiser=["sgd", "muon"])


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_the_width(sweep, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([str(sweep.path)]) == 0
    printed = capsys.readouterr().out.partition("Written")[0].splitlines()
    assert max(len(line) for line in printed if not line.startswith("Runs in")) <= width
    assert any(line.split()[:1] == ["weights/block1/stable_rank"] for line in printed)  # names are whole
    assert sum(line.startswith("test/accuracy") for line in printed) == (1 if width == 120 else 2)


def test_names_with_markup_are_printed_as_they_are(folder, capsys):
    for seed in range(2):
        for value in ("[bold]x[/bold]", "[/]", "<b>"):
            metrics = {"weights/[red]a[/red]/[/]": float(RNG.normal())}
            folder.add(metrics, loss=RNG.normal(size=9), keys={"architecture.norm": value}, seed=seed)
    assert main([str(folder.path)]) == 0
    out = capsys.readouterr().out
    assert "Factors: architecture.norm (<b>, [/], [bold]x[/bold]); 2 seeds" in out
    assert any(line.startswith("weights/[red]a[/red]/[/]  ") for line in out.splitlines())
