"""From columns to the numbers that a network sees, by tables of numbers and text alone: nothing in them is executed.

They are learnt by scikit-learn's parts (`xpnet.tables.learning`); what is applied is plain, so that a model file from a
stranger cannot bring code, and that ONNX and a file of NumPy can say the same.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

NUMERAL = re.compile(r"-?(?:0|[1-9][0-9]*|(?=\.))(?:\.[0-9]+)?")
"""Plain numbers alone: 007, 1e5 and +1 may be codes, of which no character is to be lost."""

BEND = 3.0
"""The largest magnitude of a bent number."""

MISSING = frozenset(("", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "null", "None", "NaT"))
"""Text that stands for a value that is not there."""

LARGEST = 1e30
"""What a number is held below, so that nothing overflows."""

FARTHEST = 10.0
"""Deviations from the center that a standardized number is held within: a network knows nothing of what lies beyond."""


@dataclass(frozen=True)
class Number:
    """A column of numbers.

    A missing value becomes `fill`, and an indicator of 1 where there is one. A number v becomes r = (v - center) scale,
    clipped to -10 and 10, or bent to r / sqrt(1 + (r / 3)^2) where `bend` says so; or, where there are knots, the
    height at v of the line through them, which is flat beyond the ends: however large v is, what it becomes is not.
    With edges e_0 < e_1 < ... it also becomes, for each i, clip((v - e_i) / (e_{i+1} - e_i), 0, 1): how far it has come
    through that bin.

    References:
        Bent: the smooth clipping of RealMLP, Holzmüller et al. 2024, arXiv 2407.04491, appendix A.3. Through the bins:
        the piecewise linear encoding of Gorishniy et al. 2022, arXiv 2203.05556, eq. 1.
    """

    name: str
    fill: float = 0.0
    indicator: bool = False
    center: float = 0.0
    scale: float = 1.0
    bend: bool = False
    knots: tuple[float, ...] = ()
    heights: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """Numbers that it becomes."""
        return 1 + max(len(self.edges) - 1, 0) + self.indicator

    def encode(self, values: np.ndarray) -> np.ndarray:
        """(N,) float64, NaN where missing -> (N, width): the number, then the bins, then the indicator."""
        missing = np.isnan(values)
        values = np.where(missing, self.fill, np.clip(values, -LARGEST, LARGEST))
        out = np.empty((len(values), self.width))
        if self.knots:
            out[:, 0] = np.interp(values, self.knots, self.heights)
        else:
            most = LARGEST if self.bend else FARTHEST
            with np.errstate(over="ignore"):
                out[:, 0] = np.clip((values - self.center) * self.scale, -most, most)
            if self.bend:
                out[:, 0] /= np.sqrt(1 + np.square(out[:, 0] / BEND))
        if self.edges:
            edges = np.asarray(self.edges)
            bins = out[:, 1 : len(edges)]
            np.clip((values[:, None] - edges[:-1]) / np.diff(edges), 0, 1, out=bins)
        if self.indicator:
            out[:, -1] = missing
        return out

    def parts(self) -> Iterator[str]:
        """The names of what it becomes."""
        yield self.name
        for low, high in itertools.pairwise(self.edges):
            yield f"{self.name} {low:g} to {high:g}"
        if self.indicator:
            yield f"{self.name} is missing"


@dataclass(frozen=True)
class Category:
    """A column of categories.

    With an embedding it becomes the number of its value, from 1 on, and 0 for an unseen or missing one; of two values 1
    for the first and -1 for the second; else a 1 in the place of its value. What was not seen, or is missing, is all 0.

    Attributes:
        values: Those that are known, as text.
        embedding: Numbers that a value is embedded in; 0 for none.
    """

    name: str
    values: tuple[str, ...]
    embedding: int = 0

    @property
    def width(self) -> int:
        """Numbers that it becomes."""
        return 1 if self.embedding or len(self.values) == 2 else len(self.values)

    def encode(self, codes: np.ndarray) -> np.ndarray:
        """(N,) places in `values`, -1 for all else -> (N, width)."""
        if self.embedding:
            return (codes + 1.0)[:, None]
        if len(self.values) == 2:
            return np.array([1.0, -1.0, 0.0])[codes][:, None]
        return np.vstack([np.eye(len(self.values)), np.zeros(len(self.values))])[codes]

    def parts(self) -> Iterator[str]:
        """The names of what it becomes."""
        if self.width == 1:
            yield self.name
        else:
            yield from (f"{self.name} = {value}" for value in self.values)


@dataclass(frozen=True)
class Encoder:
    """frame -> (N, I) float32, column by column.

    Attributes:
        columns: In the order of what they become; those with an embedding last.
        target: The column that is predicted.
    """

    columns: tuple[Number | Category, ...]
    target: str

    @property
    def names(self) -> list[str]:
        """Of the columns that it reads."""
        return [column.name for column in self.columns]

    @property
    def numbers(self) -> list[str]:
        """Those among them that are numbers."""
        return [column.name for column in self.columns if isinstance(column, Number)]

    @property
    def width(self) -> int:
        """Numbers of an encoded row."""
        return sum(column.width for column in self.columns)

    @property
    def embeddings(self) -> tuple[tuple[int, int], ...]:
        """(rows of its table, width) of each embedded column: a row for the unknown, then one for each value."""
        return tuple((len(c.values) + 1, c.embedding) for c in self.columns if isinstance(c, Category) and c.embedding)

    def parts(self) -> list[str]:
        """The names of the encoded columns."""
        return [part for column in self.columns for part in column.parts()]

    def lacking(self, names: Sequence[str]) -> list[str]:
        """The columns that are not among these."""
        known = set(names)
        return [name for name in self.names if name not in known]

    def __call__(
        self, frame: pd.DataFrame, *, watch: Callable[[Number | Category, pd.Series, np.ndarray], None] | None = None
    ) -> np.ndarray:
        """(N, width) float32, of a pandas frame that has the columns, in any order, beside others.

        Args:
            frame: The rows.
            watch: Called for each column with its cells and what `as_numbers` or `as_codes` made of them.

        Raises:
            DataError: A column is not there, or twice; the message names it.
        """
        frame = _of_pandas(frame)
        names = [_name(label) for label in frame.columns]
        if lacking := self.lacking(names):
            raise DataError(f"the table lacks {_listed(lacking)}: give the columns that the model was trained on")
        counts = Counter(names)
        if twice := [name for name in self.names if counts[name] > 1]:
            raise DataError(f"the table has {_listed(twice)} more than once: give each a name of its own")
        places = {name: place for place, name in enumerate(names)}
        out = np.empty((len(frame), self.width), np.float32)
        start = 0
        for column in self.columns:
            series = frame.iloc[:, places[column.name]]
            values = as_numbers(series) if isinstance(column, Number) else as_codes(series, column.values)
            if watch is not None:
                watch(column, series, values)
            out[:, start : start + column.width] = column.encode(values)
            start += column.width
        return out

    def to_dict(self) -> dict[str, object]:
        """As JSON can hold it."""
        return {"target": self.target, "columns": [_without_customs(column) for column in self.columns]}

    @classmethod
    def from_dict(cls, description: Any) -> Encoder:
        """What `to_dict` made.

        Raises:
            ValueError: It is not that.
        """
        if not isinstance(description, dict) or set(description) != {"target", "columns"}:
            raise ValueError("the table's description is none")
        columns = tuple(_column(dict(column)) for column in description["columns"])
        embedded = [isinstance(column, Category) and column.embedding > 0 for column in columns]
        if not columns or not isinstance(description["target"], str) or embedded != sorted(embedded):
            raise ValueError("the table's columns are none, or in a wrong order")
        if len({column.name for column in columns}) != len(columns):
            raise ValueError("the table has two columns of one name")
        return cls(columns, description["target"])


def _of_pandas(frame: Any) -> pd.DataFrame:
    """The frame, also of polars or pyarrow, as one of pandas."""
    import pandas as pd

    if isinstance(frame, pd.DataFrame):
        return frame
    if not hasattr(frame, "to_pandas"):
        raise DataError(f"the table is a {type(frame).__name__}, expected a frame of pandas: convert it")
    return pd.DataFrame(frame.to_pandas())


def _name(label: Any) -> str:
    """What a column of a frame would be called in a file: 0 is "0"; of several levels the one that is not blank."""
    levels = [level for level in label if level != ""] if isinstance(label, tuple) else [label]
    return str(levels[0] if len(levels) == 1 else label)


def as_numbers(series: pd.Series) -> np.ndarray:
    """(N,) float64, NaN for what is missing or no number."""
    import pandas as pd

    if isinstance(series.dtype, pd.CategoricalDtype):
        known = np.append(as_numbers(pd.Series(series.cat.categories)), np.nan)
        return known[series.cat.codes.to_numpy()]
    if not (pd.api.types.is_numeric_dtype(series) or pd.api.types.is_bool_dtype(series)):
        values = series.astype(object)
        try:
            series = pd.to_numeric(values, errors="coerce")
        except OverflowError:
            small = [not isinstance(value, int) or value.bit_length() < 1024 for value in values]
            series = pd.to_numeric(values.where(small), errors="coerce")
    if pd.api.types.is_complex_dtype(series):
        return np.full(len(series), np.nan)
    numbers = series.to_numpy(np.float64, na_value=np.nan)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def as_text(series: pd.Series) -> pd.Series:
    """The values as text, None for what is missing; 3.0 is 3, 1.10 is 1.1 and True is true, whatever their type."""
    import pandas as pd

    if isinstance(series.dtype, pd.CategoricalDtype):
        known = np.array([*as_text(pd.Series(series.cat.categories)), None], dtype=object)
        return pd.Series(known[series.cat.codes.to_numpy()], index=series.index, dtype=object)
    if str(series.dtype).lower() in ("float16", "float32"):  # 1.1, which as an object would be 1.100000023841858
        values: Any = series.to_numpy(str(series.dtype).lower(), na_value=np.nan)
    else:
        values = series.astype(object)
    return pd.Series([spelling(value) for value in values], index=series.index, dtype=object)


def counted(series: pd.Series) -> pd.Series:
    """How often each value occurs, by the value as text; most often first, without what is missing."""
    import pandas as pd

    if not isinstance(series.dtype, pd.CategoricalDtype):
        return as_text(series).value_counts()
    codes = series.cat.codes.to_numpy()
    places, different = pd.factorize(as_text(pd.Series(series.cat.categories)).to_numpy(), sort=True)
    places = np.append(places, -1)[codes]  # " a" and "a" are one; -1 is what is missing
    counts = pd.Series(np.bincount(places[places >= 0], minlength=len(different)), different, name="count")
    return counts[counts > 0].sort_values(ascending=False, kind="stable")


def as_codes(series: pd.Series, values: Sequence[str]) -> np.ndarray:
    """(N,) places of the values, -1 for what is missing or not among them."""
    import pandas as pd

    places = places_of(values)
    if isinstance(series.dtype, pd.CategoricalDtype):  # text is looked at once a value, not once a row
        known = [places.get(text, -1) for text in as_text(pd.Series(series.cat.categories))]
        return np.array([*known, -1])[series.cat.codes.to_numpy()]
    return as_text(series).map(places).fillna(-1).to_numpy(np.int64)


def places_of(values: Sequence[str]) -> dict[str, int]:
    """The place of each value by its spelling; a value that is spelled otherwise, in an older model, gives way."""
    spelled = [(spelling(value), place) for place, value in enumerate(values)]
    spelled.sort(key=lambda pair: pair[0] == values[pair[1]])
    return {text: place for text, place in spelled if text is not None}


def spelling(value: Any) -> str | None:
    """The value as text, the same for all that mean the same (see `as_text`); None for what is missing."""
    if isinstance(value, float | np.floating) and float(value).is_integer() and abs(float(value)) < 2**53:
        return str(int(value))
    text = str(value).strip()
    if text.lower() in ("true", "false"):
        return text.lower()
    if NUMERAL.fullmatch(text):
        whole, _, fraction = text.removeprefix("-").partition(".")
        shortest = f"{whole or 0}.{fraction.rstrip('0')}".rstrip(".")
        return f"-{shortest}" if text[0] == "-" and shortest != "0" else shortest
    return None if text in MISSING else text


def _without_customs(column: Number | Category) -> dict[str, object]:
    """The fields that are not as they would be by custom."""
    kind = type(column)
    return {"kind": kind.__name__.lower()} | {
        field.name: value
        for field in dataclasses.fields(kind)
        if (value := getattr(column, field.name)) != field.default
    }


def _column(fields: dict[str, Any]) -> Number | Category:
    """One of the two, every value of which is of the type that it has to be."""
    kind = {"number": Number, "category": Category}[fields.pop("kind")]
    column = kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})
    if not isinstance(column.name, str) or not _is_unicode(column.name):
        raise ValueError(f"a column is called {column.name!r}")
    if isinstance(column, Category):
        _check_category(column)
    else:
        _check_number(column)
    return column


def _check_number(column: Number) -> None:
    numbers = (column.fill, column.center, column.scale, *column.knots, *column.heights, *column.edges)
    if not all(type(value) in (int, float) and math.isfinite(value) for value in numbers):
        raise ValueError(f"the numbers of column {column.name} are not finite")
    if type(column.indicator) is not bool or type(column.bend) is not bool or len(column.knots) != len(column.heights):
        raise ValueError(f"the description of column {column.name} is none")
    for ends in (column.knots, column.edges):
        if len(ends) == 1 or any(low >= high for low, high in itertools.pairwise(ends)):
            raise ValueError(f"the bins of column {column.name} are in no order")


def _check_category(column: Category) -> None:
    if not column.values or not all(isinstance(value, str) and _is_unicode(value) for value in column.values):
        raise ValueError(f"the values of column {column.name} are not text")
    if len(set(column.values)) != len(column.values):
        raise ValueError(f"column {column.name} has a value twice")
    if type(column.embedding) is not int or not column.embedding >= 0:
        raise ValueError(f"the embedding of column {column.name} is {column.embedding!r}")


def _is_unicode(text: str) -> bool:
    """Whether the text has no half of a pair of surrogates, which JSON can bring and pandas cannot hold."""
    return text.isascii() or text.encode(errors="ignore").decode() == text


def _listed(names: Sequence[str], most: int = 8) -> str:
    """Columns, in a sentence."""
    shown = ", ".join(f'"{name:.60}"' for name in names[:most])
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"the column {shown}" if len(names) == 1 else f"the columns {shown}{more}"
