"""Tables as files: what stands in them can neither break the page nor lose its value."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd

from creditlab.analysis.report.export import as_bytes

TABLE = pd.DataFrame(
    {
        "metric": ["weights/a_b/[x](y)|z", r"50 % & #1 ~ \x {$^2}", "<b>bold</b>\nη²"],
        "F": [1234.5678, np.nan, 1e-9],
        "level": [0.1, "sgd", None],
    }
)


def test_latex_is_escaped():
    text = as_bytes(TABLE, "latex").decode()
    assert text.splitlines()[:4] == [r"\begin{tabular}{lrl}", r"\toprule", r"metric & F & level \\", r"\midrule"]
    assert r"weights/a\_b/[x](y)|z & 1.23e+03 & 0.1 \\" in text
    assert r"50 \% \& \#1 \textasciitilde{} \textbackslash{}x \{\$\textasciicircum{}2\} & -- & sgd \\" in text
    assert r"<b>bold</b> $\eta$$^2$ & 1e-09 & None \\" in text


def test_markdown_is_escaped():
    lines = as_bytes(TABLE, "markdown").decode().splitlines()
    assert lines[:2] == ["| metric | F | level |", "| :-- | --: | :-- |"]
    assert lines[2] == r"| weights/a\_b/\[x\](y)\|z | 1.23e+03 | 0.1 |"
    assert lines[4] == r"| \<b\>bold\</b\> η² | 1e-09 | None |"
    assert all(line.replace(r"\|", "").count("|") == 4 for line in lines)


def test_csv_and_parquet_keep_every_digit():
    csv = pd.read_csv(io.BytesIO(as_bytes(TABLE, "csv")))
    parquet = pd.read_parquet(io.BytesIO(as_bytes(TABLE, "parquet")))
    for read in (csv, parquet):
        assert list(read.columns) == list(TABLE.columns)
        np.testing.assert_array_equal(read["F"], TABLE["F"])
        assert list(read["metric"]) == list(TABLE["metric"])
        assert list(read["level"])[:2] == ["0.1", "sgd"]
        assert pd.isna(read["level"][2])
    assert TABLE["level"][0] == 0.1  # as it was


def test_a_spreadsheet_computes_nothing_from_a_csv():
    texts = ["=1+1", "+cmd|' /C calc'!A0", "-1+1", "@SUM(A1)", "\t=1", "＝1", "-0.5", "+1e3", "a=b", "\x1b[2J\u202e"]
    table = pd.DataFrame({"@level": texts, "F": np.linspace(-1, 0, len(texts))})
    read = pd.read_csv(io.BytesIO(as_bytes(table, "csv")))
    shown = [f"'{text}" for text in texts[:6]] + ["-0.5", "+1e3", "a=b", "\\x1b[2J\\u202e"]
    assert list(read["'@level"]) == shown
    np.testing.assert_array_equal(read["F"], table["F"])  # numbers stay numbers
    assert list(table["@level"]) == texts
