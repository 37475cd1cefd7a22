"""The docs say what is true: generated pages are current, links and commands work."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_configuration_page_is_current():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.PAGE.read_text() == generate.page(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name} links to {target}"


COMMAND = re.compile(r"^(?:\$ )?creditlab (?!-status)(.+)$", re.M)


def one_run(words: list[str]) -> list[str]:
    """The overrides of the first run of a sweep: `a,b` → a, `range(3,9)` → 3."""
    found = []
    for word in (w for w in words if "=" in w and not w.startswith(("--", "hydra", "sweep="))):
        key, _, value = word.partition("=")
        if value.startswith("range("):
            value = value[6:-1].split(",")[0] if "," in value else "0"
        found.append(f"{key}={value if value.startswith('[') else value.split(',')[0]}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_commands_of_the_docs_compose(page, plan):
    """Every `creditlab …` line of a shell block names options and keys that exist, unless it uses the reader's own."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.S)
    for line in (found for block in blocks for found in COMMAND.findall(block.replace("\\\n", " "))):
        words = shlex.split(line, comments=True)
        if not any(word.startswith("--config-dir") for word in words):
            plan(*one_run(words))
