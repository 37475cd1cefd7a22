"""Names that say what they hold, and sentences that a reader understands the first time."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "analysis", "benchmarks", "docs", "tests")
VAGUE = {"found", "told", "own", "there", "known", "said"}  # they do not say what a variable holds


def modules() -> list[Path]:
    """All Python files, each once: `src/creditlab/analysis` is a link to `analysis`."""
    return sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py") if not _linked(file))


def _linked(file: Path) -> bool:
    return (ROOT / "src" / "creditlab" / "analysis") in file.parents


def bound(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The line and the name of whatever a module binds: variables, loop targets, arguments, attributes, functions."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.ExceptHandler(name=str(name)):
                yield node.lineno, name
            case ast.alias(asname=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name


@pytest.mark.parametrize(
    "code",
    [
        *["found = 1", "a, (found, b) = c", "for found in a: pass", "[found for found in a]", "def f(*, found): pass"],
        *[
            "self.found = 1",
            "lambda found: 1",
            "with a as found: pass",
            "(found := 1)",
            "found: int",
            "import a as found",
        ],
        *["try: pass\nexcept E as found: pass", "match a:\n case [found]: pass", "def found(): pass", "_found = 1"],
    ],
)
def test_a_vague_name_is_seen_wherever_it_is_bound(code):
    assert "found" in {name.strip("_") for _, name in bound(ast.parse(code))}


def test_no_variable_has_a_vague_name():
    lines = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in modules()
        for line, name in bound(ast.parse(file.read_text()))
        if name.strip("_") in VAGUE
    ]
    assert len(modules()) > 200, "files are missing"
    assert not lines, "\n".join(lines)
