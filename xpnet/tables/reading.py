"""Files of columns, read in pieces: CSV, TSV and Parquet."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.data.reading import one_line, reading, refuse_too_large
from xpnet.errors import DataError, XpnetError
from xpnet.tables.encoder import MISSING

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".tsv", ".parquet")
"""Of the files that are tables, also in capitals; the first two may end in .gz too."""

PIECE = 2**22
"""Bytes of text that are read at a time; a row is shorter."""

PIECE_ROWS, PIECE_CELLS = 2**16, 2**22
"""The same for Parquet, in rows, and of many columns in cells: a few bytes of the file may stand for very many."""

_DELIMITERS = ",;\t|"
_LONGEST_HEADER = 2**20

_NAMELESS = re.compile(r"\s*|__index_level_[0-9]+__")
"""What a column without a name is called; the second by pandas, of an index in Parquet."""

EUROPEAN = ";"
"""The delimiter of files whose numbers may have a decimal comma: in most of Europe Excel writes both."""

DECIMAL_COMMA = r"^\s*[-+]?([0-9]+|[0-9]{1,3}(\.[0-9]{3})+),[0-9]+\s*$"
"""Such a number, perhaps with points between its thousands."""


def is_table(path: str | Path) -> bool:
    """Whether the name is that of a file of columns."""
    return _unpacked(path).endswith(SUFFIXES)


def _unpacked(path: str | Path) -> str:
    """The name in small letters, without .gz."""
    return str(path).lower().removesuffix(".gz")


class TableFile:
    """A file of named columns, of which pieces are in memory at a time.

    Attributes:
        path: Of the file.
        names: Of its columns, but for those that have none, or hold lists or the like.
        nested: The names of the latter.
        nameless: How many have no name, such as the index that pandas writes.

    Raises:
        DataError: There is no such file, or it is no table.
        XpnetError: pyarrow is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._open: Any = _Parquet if self.path.suffix.lower() == ".parquet" else _Text
        with _reading(self.path):
            names, self.nested = self._open(self.path).names()
        self.names = [name for name in names if not _NAMELESS.fullmatch(name)]
        self.nameless = len(names) - len(self.names)
        most = Counter(self.names).most_common(1)
        if most and most[0][1] > 1:
            raise DataError(f'{path} has two columns "{most[0][0]:.60}": give each a name of its own')
        if not self.names:
            raise DataError(f"{path} has no columns with a name: give a table with a row of names and rows of values")

    def pieces(self, columns: Sequence[str] | None = None, *, numbers: Sequence[str] = ()) -> Iterator[pd.DataFrame]:
        """The rows, some at a time and in order, with their numbers from 0 as the index; text as categories.

        Args:
            columns: The names of those that are read; None for all.
            numbers: Those among them that are known to be numbers: text is read as such ten times as fast, until there
                is one that is no number.
        """
        names, done = list(self.names if columns is None else columns), 0
        with _reading(self.path):
            if numbers:
                with contextlib.suppress(_NotNumbersError):
                    for piece in self._open(self.path).pieces(names, numbers):
                        yield _frame(piece, done)
                        done += len(piece)
                    return
            start = 0
            for piece in self._open(self.path).pieces(names):
                rest = piece.slice(min(max(done - start, 0), len(piece)))
                start += len(piece)
                if len(rest):
                    yield _frame(rest, start - len(rest))

    def rows(self, numbers: Sequence[int] | np.ndarray, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The rows of these numbers, counted from 0, in the order of the file."""
        import pandas as pd

        wanted, start, found = np.unique(numbers), 0, []
        for piece in self.pieces(columns):
            inside = wanted[(wanted >= start) & (wanted < start + len(piece))]
            if len(inside):
                part = piece.loc[inside].astype(object)
                found.append(part.where(part.notna(), np.nan))
            start += len(piece)
        return pd.concat(found) if found else pd.DataFrame(columns=list(columns or self.names))


def quoted(names: Sequence[str], most: int = 20) -> str:
    """Columns, in a sentence; in quotation marks where there are blanks to be seen."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"{name:.60}" if name.strip() == name != "" else f'"{name:.60}"' for name in names[:most]) + more


def no_rows(path: Path) -> DataError:
    """That a table has names alone."""
    return DataError(f"{path} has no rows: give a table with a row of names and rows of values")


class _NotNumbersError(Exception):
    """There is something else in a column of numbers."""


class _Text:
    """Rows of text between delimiters, below a row of names."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> tuple[list[str], list[str]]:
        return list(self._reader(None).schema.names), []

    def pieces(self, columns: list[str], numbers: Sequence[str] = ()) -> Iterator[Any]:
        import pyarrow as pa

        european = self._delimiter() == EUROPEAN
        try:
            for batch in self._reader(columns, numbers):
                yield _with_points(batch) if european else batch
        except pa.ArrowInvalid as error:
            if numbers and "conversion error" in str(error):
                raise _NotNumbersError from error
            raise

    def _reader(self, columns: list[str] | None, numbers: Sequence[str] = ()) -> Any:
        """All else is read as text: what is a number is decided of whole columns, not of their first piece."""
        import pyarrow as pa
        from pyarrow import csv

        text = pa.dictionary(pa.int32(), pa.string())
        packed = self._path.suffix.lower() == ".gz"
        return csv.open_csv(
            pa.input_stream(str(self._path), compression="gzip") if packed else str(self._path),
            read_options=csv.ReadOptions(block_size=PIECE),
            parse_options=csv.ParseOptions(delimiter=self._delimiter(), newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                include_columns=columns or [],
                column_types=dict.fromkeys(columns or [], text) | dict.fromkeys(numbers, pa.float64()),
                null_values=[pad + text for text in MISSING for pad in ("", " ")],
                strings_can_be_null=True,
            ),
        )

    def _delimiter(self) -> str:
        """A tab in .tsv; else what occurs most often in the first line, but for quoted text."""
        if _unpacked(self._path).endswith(".tsv"):
            return "\t"
        # Arrow's own streams lose the buffer of each read that fails.
        with (gzip.open if self._path.suffix.lower() == ".gz" else open)(self._path, "rb") as stream:
            start = stream.read(_LONGEST_HEADER).removeprefix(codecs.BOM_UTF8)
        start = re.sub(rb'"[^"]*"', b"", start).lstrip(b"\r\n")
        line = re.split(rb"[\r\n]", start, maxsplit=1)[0]
        if b"\0" in line:  # as of UTF-16, which would be read as other columns
            raise DataError(
                f"{self._path} is no text in UTF-8: write it as such, or give it the ending that it should have"
            )
        return max(_DELIMITERS, key=lambda delimiter: line.count(delimiter.encode()))


def _with_points(batch: Any) -> Any:
    """The rows, with 1234.5 in place of 1.234,5 wherever that is all that a text holds."""
    import pyarrow as pa
    from pyarrow import compute

    columns = list(batch.columns)
    for i, column in enumerate(columns):
        if not pa.types.is_dictionary(column.type):
            continue
        commas = compute.match_substring_regex(column.dictionary, DECIMAL_COMMA)
        if compute.any(commas).as_py():
            plain = compute.replace_substring(compute.replace_substring(column.dictionary, ".", ""), ",", ".")
            values = compute.if_else(commas, plain, column.dictionary)
            columns[i] = values.take(column.indices).dictionary_encode()  # 1,5 and 1.5 have become one
    return pa.record_batch(columns, names=batch.schema.names)


class _Parquet:
    """Apache Parquet."""

    def __init__(self, path: Path) -> None:
        from pyarrow import parquet

        metadata = parquet.read_metadata(path)
        for i in range(metadata.num_row_groups):
            refuse_too_large(path, metadata.row_group(i).total_byte_size)
        text = [field.name for field in metadata.schema.to_arrow_schema() if _is_text(field.type)]
        # once for all rows that hold it: else a few bytes of a file unfold into gigabytes
        self._file = parquet.ParquetFile(path, metadata=metadata, read_dictionary=text)

    def names(self) -> tuple[list[str], list[str]]:
        import pyarrow as pa

        fields = list(self._file.schema_arrow)
        nested = [field.name for field in fields if pa.types.is_nested(field.type) or _is_binary(field.type)]
        return [field.name for field in fields if field.name not in nested], nested

    def pieces(self, columns: list[str], numbers: Sequence[str] = ()) -> Iterator[Any]:
        """Columns have their types here."""
        rows = min(PIECE_ROWS, max(1, PIECE_CELLS // max(1, len(columns))))
        for batch in self._file.iter_batches(rows, columns=columns):
            yield batch.select(columns)


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _frame(piece: Any, first: int) -> pd.DataFrame:
    """The piece, whose first row has that number, for pandas.

    Where some are missing, whole numbers stay such: floats would lose digits of long ones.
    """
    import pandas as pd
    import pyarrow as pa

    long = {pa.int64(): pd.Int64Dtype(), pa.uint64(): pd.UInt64Dtype(), pa.int32(): pd.Int32Dtype()}
    holes = {column.type for column in piece.columns if column.null_count}
    frame = piece.to_pandas(  # without metadata: these make indices of columns
        types_mapper=lambda kind: long.get(kind) if kind in holes else None, ignore_metadata=True
    )
    return frame.set_axis(range(first, first + len(frame)))


def joined(parts: Sequence[pd.Series]) -> pd.Series:
    """One after the other; categories stay categories."""
    import pandas as pd
    from pandas.api.types import union_categoricals

    if all(isinstance(part.dtype, pd.CategoricalDtype) for part in parts):
        return pd.Series(union_categoricals(parts), name=parts[0].name)
    return pd.concat(parts, ignore_index=True)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What goes wrong in reading a table, in a sentence."""
    try:
        import pandas  # noqa: F401 - what pyarrow makes frames with
        from pyarrow import ArrowInvalid
    except ImportError as error:
        raise XpnetError(
            f"data: {path.name} needs {error.name}, which is not installed; pip install 'xpnet[tables]'."
        ) from None
    with reading(path, "a table"):
        try:
            yield
        except (UnicodeDecodeError, ArrowInvalid) as error:  # the first of names, the second of values
            if isinstance(error, ArrowInvalid) and "invalid UTF8" not in str(error):
                raise
            raise DataError(
                f"{path} is no text in UTF-8 ({one_line(error)}): save it as such, as Excel's CSV UTF-8"
            ) from error
