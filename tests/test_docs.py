"""The docs say what is true: generated pages are current, links and commands work."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import yaml

from creditlab.config import import_target

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def generator(name: str = "generate"):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_pages_are_current():
    generate = generator()
    assert generate.PAGE.read_text() == generate.page(), "run `make docs`"
    assert generate.METRICS_PAGE.read_text() == generate.metrics_page(), "run `make docs`"
    tables = generator("generate_tables")
    assert tables.PAGE.read_text() == tables.page(), "run `make docs`"


def test_every_metric_says_what_it_is():
    """Formula, range, unit, cost and source of each, in its docstring."""
    for option in ("light", "full"):
        nodes = yaml.safe_load((ROOT / "conf" / "metrics" / f"{option}.yaml").read_text())["instruments"]
        for name, node in nodes.items():
            text = generator().described(import_target(node))
            missing = [f for f in ("meaning", "formula", "Range", "Unit", "Cost", "Source") if not text.get(f)]
            assert not missing, f"{name}: its docstring lacks {', '.join(missing)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name} links to {target}"


COMMAND = re.compile(r"^(?:\$ )?creditlab (?!-status)(.+)$", re.M)


def one_run(words: list[str]) -> list[str]:
    """The overrides of the first run of a sweep: `a,b` → a, `range(3,9)` → 3, `interval(1,2)` → 1."""
    overrides = []
    for word in (w for w in words if "=" in w and not w.startswith(("--", "hydra", "sweep="))):
        key, _, value = word.partition("=")
        if interval := re.search(r"interval\(([^,]+)", value):
            value = interval[1]
        if value.startswith("range("):
            value = value[6:-1].split(",")[0] if "," in value else "0"
        overrides.append(f"{key}={value if value.startswith('[') else value.split(',')[0]}")
    return overrides


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_commands_of_the_docs_compose(page, plan):
    """Every `creditlab …` line of a shell block names options and keys that exist, unless it uses the reader's own."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.S)
    for line in (command for block in blocks for command in COMMAND.findall(block.replace("\\\n", " "))):
        words = shlex.split(line, comments=True)
        if not any(word.startswith("--config-dir") for word in words):
            plan(*one_run(words))
