"""Names that say what they hold, and sentences that a reader understands the first time."""

from __future__ import annotations

import ast
import io
import re
import tokenize
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


# Phrases that stand for a simpler one. A reader who learnt English as a second language stumbles over each of them.
COUNTED = "samples|passes|gradients|networks|queries|numbers|seconds|minutes|files|folders"
PHRASES = {
    r"\ba (row|line|file|thread|matrix) a \w+|\bone YAML a\b": "one … per …",
    rf"\b({COUNTED}) a (step|run|sample|layer)\b": "per",
    r"\bis told (with|from)\b|\balone tells\b|\btold from its encoding\b": "is identified",
    r"\bnever seen\b": "new to the classifier",
    r"\bdrawn by lot\b": "sampled at random",
    r"\bunless told otherwise\b": "by default",
    r"\btaken for which\b": "confused with which",
    r"\bbears? no test\b": "no test is possible",
    r"\bdoes anew\b": "runs again",
    r"\bin the place of\b": "instead of",
    r"\bare taken away\b|\btaken away, files\b": "are removed",
    r"\bgoes before it\b|\bbefore the pairs of a file\b": "overrides",
    r"\banother process is at\b": "that another process is working on",
    r"\bfenced off\b": "stopped",
    r"\bcomes to a cross-entropy\b": "reaches",
    r"\bwhat asks for pixels\b": "metrics that need pixels",
    r"\bmeaned over\b": "averaged over",
    r"\bby up to so many\b|\bevery so many\b": "n",
    r"\btells how it goes\b": "shows progress",
    r"\bgoes on from (here|there)\b": "resumes",
    r"\btells its value\b|\bis aliased:": "cannot be separated from",
    r"\bsays nothing: read\b": "is not informative",
    r"\b(refuted at|chance does not lift|which chance does not)\b": "rejected; corrected for chance",
    r"\bmost clearly differ\b|\bclearest, alone\b": "differ most",
    r"\bstands for no value\b": "has no values",
    r"\bdoes not tell one run\b": "does not change a run's result",
    r"\bsweep them apart\b": "run them as separate sweeps",
    r"\bits inputs are others\b": "was trained on other inputs",
    r"\bprobe step\b": "measurement step",
    r"\bthe reasons stand above\b": "see the reasons above",
    r"\b(each|every|these|the) arms?\b|\ball arms\b": "condition",
}
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "Makefile",
    "docs/*.md",
    "benchmarks/*.md",
    "conf/**/*.yaml",
    "analysis/**/*.yaml",
]
PAGES += ["analysis/report/page/*.html", "analysis/report/page/*.js"]


def prose(file: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that a person reads, with their numbers: of Python its strings and comments."""
    text = file.read_text()
    if file.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def stumbles(text: str) -> list[str]:
    """The phrases of PHRASES in `text`, whatever its line breaks."""
    joined = " ".join(text.split())
    return [f"{m[0]!r} → {better}" for phrase, better in PHRASES.items() for m in re.finditer(phrase, joined, re.I)]


def test_no_sentence_has_a_phrase_that_readers_stumble_over():
    files = [file for file in modules() if file != Path(__file__)]
    lines = [f"{file.relative_to(ROOT)}:{n}: {s}" for file in files for n, text in prose(file) for s in stumbles(text)]
    pages = [page for pattern in PAGES for page in sorted(ROOT.glob(pattern))]
    lines += [f"{page.relative_to(ROOT)}: {s}" for page in pages for s in stumbles(page.read_text())]
    assert len(pages) > 80, "pages are missing"
    assert not lines, "\n".join(lines)


@pytest.mark.parametrize("text", ["A row a run", "is told\nwith", "of 32 samples a step", "Meaned over the batch"])
def test_a_phrase_is_seen_across_lines_and_whatever_its_case(text):
    assert stumbles(text)
    assert not stumbles("One row per run is identified with 32 samples per step. A run takes a step.")
