"""Tables that describe themselves, statistics that compute once, and the catalogue that finds them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from creditlab import analysis
from creditlab.analysis import __main__ as command
from creditlab.analysis import fit, load
from creditlab.analysis.catalogue import statistics
from creditlab.analysis.names import AnalysisError
from creditlab.analysis.table import FURTHER, SHOWN, STATISTICS, Column, Table, once, statistic
from tests.analysis.test_tables import EMPTY

COLUMNS = {"metric": "name of the metric", "mean": ("its mean", "updates")}


@pytest.fixture
def forget(monkeypatch):
    """What a test registers is a statistic during the test only."""
    statistics()  # so that all of the analysis' are registered before
    monkeypatch.setattr("creditlab.analysis.table.STATISTICS", registered := dict(STATISTICS))
    monkeypatch.setattr("creditlab.analysis.catalogue.STATISTICS", registered)
    statistics.cache_clear()
    yield registered
    monkeypatch.undo()
    statistics.cache_clear()
    assert "squares" not in statistics()


def source() -> SimpleNamespace:
    made = SimpleNamespace(made={})
    made.sweep = made
    return made


def small(rows: int = 3, notes: tuple[str, ...] = ()) -> Table:
    columns = {"metric": Column("name of the metric"), FURTHER: Column("values")}
    frame = pd.DataFrame({"metric": [f"<m{i}>" for i in range(rows)], "mean": 0.5})
    return Table("squares", "Squares & <b>more</b>", "One row per <metric>.", columns, frame, notes)


# Once -----------------------------------------------------------------------------------------------------------------


def test_once_for_each_source_and_choice_of_options():
    calls = []

    @once
    def compute(source, power=1, name=""):
        calls.append((power, name))
        return object()

    a, b = source(), source()
    assert compute(a) is compute(a)
    assert calls == [(1, "")]
    assert compute(b) is not compute(a)
    assert compute(a, power=2) is compute(a, power=2)
    assert compute(a, power=2, name="x") is compute(a, name="x", power=2)
    assert compute(a, power=2) is not compute(a, power=2, name="x")
    assert calls == [(1, ""), (1, ""), (2, ""), (2, "x")]


def test_functions_of_one_name_do_not_share_what_they_computed():
    def first():
        @once
        def compute(source):
            return 1

        return compute

    def second():
        @once
        def compute(source):
            return 2

        return compute

    one = source()
    assert (first()(one), second()(one)) == (1, 2)


def test_a_statistic_is_computed_once_and_what_is_computed_of_a_sweep_serves_its_fits(small_sweep, monkeypatch):
    fits = fit(load(small_sweep))
    for each in statistics().values():
        table = each(fits)
        assert table.frame is each(fits).frame
        if not each.of_fits:
            assert table.frame is each(fits.sweep).frame
    again = fit(load(small_sweep))
    assert analysis.anova(again).frame is not analysis.anova(fits).frame
    pd.testing.assert_frame_equal(analysis.anova(again).frame, analysis.anova(fits).frame)


# Tables ---------------------------------------------------------------------------------------------------------------


def test_in_a_line_a_table_has_its_name_its_size_and_its_row():
    assert repr(small()) == "<Table squares: 3 rows × 2 columns. One row per <metric>.>"
    assert len(small(7)) == 7
    assert small().column("metric") == Column("name of the metric")
    assert small().column("mean") == Column("values", "")


def test_in_a_notebook_a_table_is_escaped_and_has_its_notes():
    page = small(notes=("left out: <i>bp</i> & fa", "another"))._repr_html_()
    assert "<h4>Squares &amp; &lt;b&gt;more&lt;/b&gt;</h4>" in page
    assert "<p>One row per &lt;metric&gt;.</p>" in page
    assert "<ul><li>left out: &lt;i&gt;bp&lt;/i&gt; &amp; fa</li><li>another</li></ul>" in page
    assert "&lt;m0&gt;" in page
    assert not any(markup in page for markup in ("<b>", "<i>", "<m0>", "<metric>"))
    assert "<ul>" not in small()._repr_html_()


def test_a_notebook_shows_the_first_rows_and_how_many_more():
    page = small(SHOWN + 2)._repr_html_()
    assert f"&lt;m{SHOWN - 1}&gt;" in page
    assert f"&lt;m{SHOWN}&gt;" not in page
    assert "2 more rows in <code>.frame</code>" in page
    assert "more rows" not in small(SHOWN)._repr_html_()


def test_a_notebook_shows_numbers_that_a_person_reads():
    frame = pd.DataFrame({"metric": ["a", "b"], "mean": [1.269199e-82, float("nan")]})
    page = replace(small(), frame=frame)._repr_html_()
    assert "<td>1.269e-82</td>" in page
    assert "<td>–</td>" in page


def test_an_editor_offers_every_statistic():
    assert {"load", "fit", *statistics()} <= set(dir(analysis))


# The statistics of the analysis ---------------------------------------------------------------------------------------


def test_every_statistic_gives_the_columns_that_it_declares(small_sweep):
    fits = fit(load(small_sweep))
    for name, each in statistics().items():
        table = each(fits)
        assert (table.name, table.title, table.row) == (name, each.title, each.row)
        assert len(table) > 0 or name in EMPTY, name
        declared = [column for column in each.columns if column != FURTHER]
        assert list(table.frame)[: len(declared)] == declared, name
        assert len(declared) == table.frame.shape[1] or name == "runs", name
        assert all(table.column(column).meaning for column in table.frame), name
        assert list(each.empty()) == list(each.columns)
        assert all(isinstance(note, str) and note for note in table.notes), name


def test_every_statistic_says_what_it_is():
    for name, each in statistics().items():
        assert each.row.startswith("One row per "), name
        assert each.row.endswith((".", "?")), name
        assert each.title[0].isupper(), name
        assert each.__doc__, name
        assert all(column.meaning.strip() == column.meaning != "" for column in each.columns.values()), name
        assert repr(each) == f"<Statistic {name}({'fits' if each.of_fits else 'sweep'}): {each.row}>"
    assert len({each.title for each in statistics().values()}) == len(statistics())
    assert len({each.place for each in statistics().values()}) == len(statistics())


def test_a_statistic_of_a_sweep_takes_fits_as_well(small_sweep):
    fits = fit(load(small_sweep))
    assert not analysis.concordance.of_fits
    assert analysis.levels.of_fits
    pd.testing.assert_frame_equal(analysis.concordance(fits).frame, analysis.concordance(load(small_sweep)).frame)


def test_every_statistic_is_a_name_of_the_package():
    for name, each in statistics().items():
        assert getattr(analysis, name) is each  # no module of the package hides it
    with pytest.raises(AttributeError, match="'squares'"):
        _ = analysis.squares


# A statistic of your own ----------------------------------------------------------------------------------------------


def test_a_new_statistic_needs_no_entry_anywhere(forget, small_sweep, capsys):
    @statistic("Squares", "One row per metric.", COLUMNS, place=25)
    def squares(sweep) -> tuple[pd.DataFrame, list[str]]:
        """The mean of each metric, squared."""
        means = sweep.complete[sweep.outcomes].mean()
        return pd.DataFrame({"metric": means.index, "mean": means.to_numpy() ** 2}), ["one note"]

    assert forget["squares"] is squares is statistics()["squares"] is analysis.squares
    names = list(statistics())
    assert names.index("anova") < names.index("squares") < names.index("levels")  # by its place
    assert squares.columns["mean"] == Column("its mean", "updates")
    assert squares.__doc__ == "The mean of each metric, squared."
    table = analysis.squares(load(small_sweep))
    assert (table.notes, len(table)) == (["one note"], 3)
    with pytest.raises(AnalysisError, match=r"no table 'square'.*squares"):
        command._tables_of(["square"])
    assert command._tables_of(["squares", "anova"]) == ["anova", "squares"]
    assert command.main([str(small_sweep), "--only", "squares"]) == 0
    assert "squares" in capsys.readouterr().out
    written = pd.read_csv(small_sweep / "report" / "squares.csv")
    pd.testing.assert_frame_equal(written, table.frame)


def test_two_statistics_of_one_name_are_refused(forget):
    def squares(sweep):
        return pd.DataFrame()

    made = statistic("Squares", "One row per metric.", COLUMNS, place=25)(squares)
    with pytest.raises(AssertionError, match="two statistics are named squares"):
        statistic("Others", "One row per metric.", COLUMNS, place=26)(squares)
    assert forget["squares"] is made


def test_a_frame_with_other_columns_than_declared_is_refused(forget):
    @statistic("Squares", "One row per metric.", COLUMNS, place=25)
    def squares(sweep):
        return pd.DataFrame(columns=["mean", "metric"])

    with pytest.raises(AssertionError, match=r"squares: \['mean', 'metric'\]"):
        squares(source())
