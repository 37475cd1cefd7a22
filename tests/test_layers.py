"""The layers of the code: `lint-imports` checks them, and CONTRIBUTING.md shows the same ones."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
OPEN_TO_THE_ANALYSIS = {"analysis", "files", "hints", "records"}


def layers(container: str) -> list[str]:
    (contract,) = (c for c in CONTRACTS if c.get("containers") == [container])
    return [layer.strip("()") for layer in contract["layers"]]


def test_contributing_shows_the_contracts():
    blocks = re.findall(r"```text\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)
    pictures = [[re.split(r" {2,}", line)[0] for line in block.splitlines()] for block in blocks]
    assert pictures == [layers("creditlab"), layers("creditlab.analysis")]


def test_what_the_analysis_may_not_import_is_complete():
    (contract,) = (c for c in CONTRACTS if c.get("source_modules") == ["creditlab.analysis"])
    modules = {module for layer in layers("creditlab") for module in layer.split(" | ")}
    assert contract["forbidden_modules"] == sorted(f"creditlab.{module}" for module in modules - OPEN_TO_THE_ANALYSIS)
