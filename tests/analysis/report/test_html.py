"""The report as text: every number in a conclusion stands in its table, markup is escaped, nothing is fetched."""

import re
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from creditlab.analysis import fit, load
from creditlab.analysis.catalogue import statistics
from creditlab.analysis.report.conclusions import Cell, conclusions
from creditlab.analysis.report.publish import publish
from creditlab.analysis.table import FURTHER, Column, Table
from creditlab.records import write_arrays
from tests.analysis.conftest import Folder
from tests.analysis.report.common import all_tables

VOID = {"meta", "img", "input", "br", "link"}


class Page(HTMLParser):
    """Text of each element with an id, links, and whether tags close in the order they opened."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.texts, self.links, self.numbers, self.tags = [], {}, [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if "href" in attributes:
            self.links.append(attributes["href"])
        if tag not in VOID:
            self.open.append((tag, attributes.get("id")))
            if attributes.get("id"):
                self.texts[attributes["id"]] = []
            if attributes.get("class") == "number":
                self.numbers.append([attributes, ""])

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for _, name in self.open:
            if name:
                self.texts[name].append(data)
        if self.open and self.open[-1][0] == "a" and self.numbers and not self.numbers[-1][1]:
            self.numbers[-1][1] = data


def fill(folder, algorithms=("bp", "fa", "ff"), seeds=4):
    """A sweep with an effect of the algorithm in every respect."""
    rng = np.random.default_rng(0)
    hard = rng.normal(size=40)
    for i, algorithm in enumerate(algorithms):
        shape = rng.normal(size=(10, 6))
        for optimiser in ("sgd", "muon"):
            for seed in range(seeds):
                rank = 5.0 + 3 * i + rng.normal()
                metrics = {"test/accuracy": 0.9 - 0.1 * i + 0.01 * rng.normal(), "weights/fc1/stable_rank": rank}
                metrics |= {"weights/readout/stable_rank": rng.normal(), "weights/fc1/stable_rank@init": float(seed)}
                run = folder.add(metrics, algorithm=algorithm, optimiser=optimiser, seed=seed)
                arrays = {
                    "test/loss": hard + rng.normal(size=40) / 2,
                    "test/label": np.arange(40) % 10,
                    "representation/fc1": shape + rng.normal(size=(10, 6)) / 3,
                }
                write_arrays(run / "arrays.npz", arrays)
    return folder


def made(folder) -> tuple[str, list]:
    """The page, and what was written: as the command line does it."""
    sweep = load(folder.path)
    out = folder.path / "report"
    tables = all_tables(sweep)
    paths = publish(sweep, tables, out)
    for name, table in tables.items():
        table.frame.to_csv(out / f"{name}.csv", index=False)
    return (out / "report.html").read_text(), [*paths, *out.glob("*.csv")]


def tables_in(paths) -> dict[str, pd.DataFrame]:
    return {p.stem: pd.read_csv(p, dtype={"level": str}) for p in paths if p.suffix == ".csv"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[str, list]:
    """The page of a sweep with something to show in every section, and what was written."""
    return made(fill(Folder(tmp_path_factory.mktemp("sweep"))))


def test_a_column_of_numbers_is_aligned_where_a_number_is_missing_too(whole):
    table = re.search(r'<table id="multiplicity-table">(.*?)</table>', whole[0], re.S)[1]
    heads = re.findall(r"<th [^>]*>", table)
    for row in re.findall(r"<tr id=.*?</tr>", table, re.S):
        cells = re.findall(r"<td[^>]*>", row)
        assert [' class="n"' in cell for cell in cells] == [' class="n"' in head for head in heads]
    assert ">–</td>" in table


def test_every_number_of_a_conclusion_stands_in_the_table_that_it_names(whole):
    text, paths = whole
    page, tables = Page(text), tables_in(paths)
    assert len(page.numbers) > 30
    for attributes, shown in page.numbers:
        table, row = attributes["href"].removeprefix("#").rsplit("-", 1)
        column = attributes["title"].split(", ")[1]
        exact = tables[table].loc[int(row), column]
        shown = shown.replace("−", "-").replace(" %", "e-2").replace(" points", "e-2").replace("<", "")
        value = abs(float(shown))  # a sentence names the level with more first, and its difference is positive
        close = [abs(value - unit * abs(exact)) <= max(0.0051 * unit, 0.006 * value) for unit in (1, 100)]
        assert close[0] or (close[1] and column in ("ci_low", "ci_high")), (table, row, column)
        assert attributes["href"].removeprefix("#") in page.texts  # the row is there to be led to
    topics = re.findall(r"<h3>(.*?)</h3>\n<ul>", text)
    assert topics == [
        *["Accuracy", "What changes", "Internal metrics", "What goes with accuracy", "Concordance", "Representation"],
        "Fingerprint",
    ]


def test_no_number_is_written_outside_a_cell(folder):
    """In the sentences themselves there are no digits but those of names."""
    fill(folder)
    sweep = load(folder.path)
    tables = {name: statistics()[name](fit(sweep)) for name in ("what_how", "posthoc", "concordance")}
    for one in conclusions(tables, sweep):
        words = "".join(part for part in one.parts if isinstance(part, str))
        assert not re.search(r"\d", words.replace("fc1", ""))
        assert any(isinstance(part, Cell) for part in one.parts)


def test_what_is_found_is_said(whole):
    text, _ = whole
    words = "".join(Page(text).texts["conclusions"])
    assert re.search(r"internal metrics, \d+ (is|are) shown to depend on algorithm", words)
    assert "bp is more accurate than ff by " in words
    assert "bp is ahead of every other level" in words
    assert "class representations are more alike within algorithm than between its levels" in words
    assert re.search(r"By algorithm, test accuracy differs[^[]*\[posthoc\]", words)  # a sentence names its table


def test_names_and_messages_with_markup_are_escaped(folder):
    bad = "<script>alert(1)</script>"
    for seed in range(2):
        for algorithm in ("bp", bad):
            metrics = {"test/accuracy": 0.5 + 0.1 * seed + 0.01 * len(algorithm), f"weights/{bad}/angle": 1.0 * seed}
            folder.add(metrics, algorithm=algorithm, seed=seed)
    failed = folder.add(algorithm="fa", status="failed")
    (failed / "error.txt").write_text('RuntimeError: <img src=x onerror="alert(1)">\n')
    text, _ = made(folder)
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert "&lt;script&gt;alert(1)" in text
    assert "failed: fa-sgd-digits-mlp-s0" in "".join(page.texts["missing"])


def test_a_run_without_a_config_does_not_make_levels_of_its_own(folder):
    for algorithm in ("bp", "fa"):
        for seed in range(2):
            folder.add({"test/accuracy": 0.5 + 0.1 * seed}, algorithm=algorithm, seed=seed)
    broken = folder.path / "broken"
    broken.mkdir()
    (broken / "error.txt").write_text("RuntimeError: no memory\n")
    words = "".join(Page(made(folder)[0]).texts["run"])
    assert "seeds0, 1\n" in words
    assert "absent" not in words


def test_nothing_is_fetched(whole):
    text, _ = whole
    page = Page(text)
    sources = [a["src"] for _, a in page.tags if "src" in a]
    assert sources
    assert all(source.startswith("data:") for source in sources)
    assert not any(re.match(r"[a-z]+:|//", link) for link in page.links)
    assert "default-src 'none'" in next(a["content"] for _, a in page.tags if a.get("http-equiv"))
    assert not re.search(r"url\(|@import", re.search(r"<style>(.*?)</style>", text, re.S)[1])


def test_every_link_into_the_page_leads_somewhere_and_no_id_is_used_twice(whole):
    page = Page(whole[0])
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(ids)
    images = [a for tag, a in page.tags if tag == "img"]
    assert all(a["alt"] for a in images[:-1])  # the last is filled when a figure is enlarged


def test_links_to_files_and_runs_lead_to_them(whole):
    page = Page(whole[0])
    beside = [link for link in page.links if not link.startswith("#")]
    assert any(link.startswith("../bp-sgd-digits-mlp-s0") for link in beside)
    report = next(path for path in whole[1] if path.name == "report.html").parent
    assert [link for link in beside if not (report / link).exists()] == []


def test_what_is_missing_comes_before_the_conclusions(folder):
    fill(folder)
    folder.add(algorithm="bp", seed=9, status="diverged")
    text, _ = made(folder)
    assert text.index("diverged: bp-sgd-digits-mlp-s9") < text.index('id="conclusions"')
    assert text.index("25 runs: 24 complete, 1 diverged") < text.index('id="missing"')


def test_the_same_sweep_gives_the_same_page(folder):
    first, _ = made(fill(folder))
    assert made(folder)[0] == first


def test_a_sweep_that_bears_little_still_has_a_report(folder):
    for algorithm in ("bp", "fa"):
        folder.add({"test/accuracy": 0.5}, algorithm=algorithm)
    text, paths = made(folder)
    Page(text)
    assert "constant" in text
    assert "only 0" in text  # one seed
    assert any(path.name == "fingerprint.csv" for path in paths)


def test_of_a_long_table_the_first_rows_are_shown_and_it_is_said(folder):
    for algorithm in ("bp", "fa"):
        folder.add({"test/accuracy": 0.5}, algorithm=algorithm)
    frame = pd.DataFrame({"metric": [f"m{i}" for i in range(2100)], "p_value": np.linspace(0, 1, 2100)})
    columns = {FURTHER: Column("a number")}
    table = Table("of_my_own", "A table of my own", "One row per metric.", columns, frame, ["a note"])
    publish(load(folder.path), {"of_my_own": table}, folder.path / "report")
    page = Page((folder.path / "report" / "report.html").read_text())
    words = "".join(page.texts["of_my_own"])
    assert "The first 2000 of 2100 rows are shown" in words
    assert "a note" in words
    assert "of_my_own-1999" in page.texts
    assert "of_my_own-2000" not in page.texts
    assert "None: no test is possible." in "".join(page.texts["conclusions"])


def test_every_header_says_what_its_column_holds(whole):
    """The title of each header cell is the meaning that the table gives its column."""
    headers = re.findall(r'<table id="(\w+)-table">.*?<thead>(.*?)</thead>', whole[0], re.S)
    assert {name for name, _ in headers} >= {"anova", "levels", "posthoc", "concordance", "similarity", "runs"}
    for name, cells in headers:
        columns = statistics()[name].columns
        buttons = re.findall(r"<button ([^>]*)>([^<]*)</button>", cells)
        assert len(buttons) == cells.count("<th ")
        for attributes, column in buttons:
            meaning = (columns.get(unescape(column)) or columns[FURTHER]).meaning
            assert meaning
            assert meaning in unescape(attributes.partition('title="')[2]), (name, column)
