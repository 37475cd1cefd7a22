"""A file of results from elsewhere, read as a frame: CSV, TSV, Parquet or JSON lines, with one row per run.

The file may be a stranger's. So it is read up to limits, as data only, and whatever is wrong with it is said in one
line. A cell that is empty is missing; one that holds `nan` or `inf` is a number that is not finite.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from creditlab import files
from creditlab.analysis.names import AnalysisError
from creditlab.files import printable
from creditlab.hints import did_you_mean

BYTES = 128 * files.MIB  # the most that are read of a file
CELLS = 20_000_000  # rows × columns
BATCH = 1024  # rows of a Parquet file that are decompressed at once


def is_table(path: Path) -> bool:
    """Whether a path given to the analysis means a table: a file, or the name of one."""
    return path.is_file() or (path.suffix.lower() in READERS and not path.is_dir())


def read_table(path: Path) -> pd.DataFrame:
    """The rows of `path`, indexed by their row number there. Raises AnalysisError where they are no table."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise AnalysisError(f"{path}: a table is a file that ends in {', '.join(READERS)}.")
    try:
        content = files.read_bytes(path.resolve(), BYTES)
    except (FileNotFoundError, NotADirectoryError):
        parent = path.parent
        siblings = [p.name for p in parent.iterdir() if is_table(p)] if parent.is_dir() else []
        raise AnalysisError(f"{path}: there is no such file.{did_you_mean(path.name, siblings)}") from None
    except files.Unreadable as error:
        raise AnalysisError(f"{path}: {error}.") from None
    if not content.strip():
        raise AnalysisError(f"{path}: the file is empty.")
    try:
        frame = reader(content)
    except Exception as error:  # the bytes may be anything, and the parsers raise errors of many kinds
        reason = printable(str(error).strip().partition("\n")[0][:200]) or type(error).__name__
        raise AnalysisError(f"{path}: cannot be read as a table ({reason.rstrip('.')}).") from None
    frame.columns = pd.Index([printable(str(name)) for name in frame])
    if repeated := sorted(set(frame.columns[frame.columns.duplicated()])):
        raise AnalysisError(f"{path}: two columns are named {repeated[0]!r}. Rename one of them.")
    if frame.empty or frame.shape[1] < 2:
        separator = "" if frame.shape[1] > 1 else ", or their separator is not that of the file's type"
        raise AnalysisError(
            f"{path}: holds {len(frame)} rows of {frame.shape[1]} columns{separator}: nothing to analyse."
        )
    for name in frame:
        if frame[name].dtype == object:
            frame[name] = _typed(frame[name])
    return frame


def _check_size(rows: int, columns: int) -> None:
    if rows * columns > CELLS:
        raise ValueError(f"{rows} rows of {columns} columns, and at most {CELLS} cells are read")


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text, from byte {error.start} on") from None


def _separated(separator: str) -> Callable[[bytes], pd.DataFrame]:
    """The reader of lines whose fields `separator` divides. The header is row 1."""

    def read(content: bytes) -> pd.DataFrame:
        text = _text(content)
        header = next(csv.reader(io.StringIO(text), delimiter=separator))
        _check_size(text.count("\n") + 1, len(header))
        lines = io.StringIO(text)
        rows = pd.read_csv(
            lines, sep=separator, header=None, dtype=object, keep_default_na=False, skip_blank_lines=False
        )
        rows.columns, rows.index = pd.Index(rows.iloc[0].fillna("")), pd.RangeIndex(1, len(rows) + 1)
        rows = rows.iloc[1:]
        return rows[~((rows == "") | rows.isna()).all(axis=1)]

    return read


def _lines(content: bytes) -> pd.DataFrame:
    """JSON lines: an object on each."""
    lines = [line for line in _text(content).splitlines() if line.strip()]
    objects = [json.loads(line) for line in lines]
    if not all(isinstance(one, dict) for one in objects):
        raise ValueError("a line is not an object")
    names = list(dict.fromkeys(name for one in objects for name in one))
    _check_size(len(objects), len(names))
    cells = [[_cell(one.get(name)) for name in names] for one in objects]
    return pd.DataFrame(cells, columns=names, index=pd.RangeIndex(1, len(cells) + 1), dtype=object)


def _cell(value: Any) -> Any:
    """A value of JSON: a number or a text as it is, null as missing, all else as text; so are numbers without size."""
    if value is None or isinstance(value, str):
        return value
    return value if type(value) in (int, float) and abs(value) < 2**63 else json.dumps(value)


def _parquet(content: bytes) -> pd.DataFrame:
    import pyarrow
    from pyarrow import parquet

    file = parquet.ParquetFile(io.BytesIO(content))
    _check_size(file.metadata.num_rows, file.metadata.num_columns)
    batches, size = [], 0
    for batch in file.iter_batches(BATCH):
        size += batch.nbytes
        if size > 16 * BYTES:
            raise ValueError(f"decompresses to more than {16 * BYTES} bytes")
        batches.append(batch)
    frame = pyarrow.Table.from_batches(batches, file.schema_arrow).to_pandas(ignore_metadata=True)
    for name in frame.select_dtypes(exclude="number"):
        frame[name] = frame[name].map(str, na_action="ignore").astype(object)
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    return frame


def _typed(column: pd.Series) -> pd.Series:
    """A column as numbers where all that it holds are numbers, else as texts. A missing cell is NaN among numbers and
    None among texts. `nan` becomes infinite, so that it is not taken for missing.
    """
    missing = (column.isna() | (column == "")).to_numpy(bool)
    numbers = pd.to_numeric(column.where(~missing, None), errors="coerce").to_numpy(float)
    unknown = np.isnan(numbers) & ~missing
    if missing.all() or not column[unknown].map(_is_nan).all():
        texts = [None if absent else printable(str(value)) for value, absent in zip(column, missing, strict=True)]
        return pd.Series(texts, column.index, dtype=object)
    numbers = np.where(unknown, np.inf, numbers)
    counts = not missing.any() and (np.abs(numbers) < 2**53).all() and (numbers % 1 == 0).all()
    written_whole = counts and not column.map(lambda value: isinstance(value, float) or "." in str(value)).any()
    return pd.Series(numbers.astype(np.int64) if written_whole else numbers, column.index)


def _is_nan(text: object) -> bool:
    return str(text).strip().lower().lstrip("+-") == "nan"


READERS: dict[str, Callable[[bytes], pd.DataFrame]] = {
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".parquet": _parquet,
    ".jsonl": _lines,
    ".ndjson": _lines,
}
