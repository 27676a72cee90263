"""Columns of a table that are written beside predictions: in the types that they came in."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.data.reading import reading
from xpnet.tables.reading import TableFile

if TYPE_CHECKING:
    import pandas as pd


class Kept:
    """Makes Arrow arrays of such columns: of Parquet in their own types, of other files as the text that they are."""

    def __init__(self, file: TableFile, names: Sequence[str]) -> None:
        self._types = _types(file, names) if names else {}

    def __call__(self, frame: pd.DataFrame) -> dict[str, Any]:
        """The columns of some rows, by their names."""
        import pyarrow as pa

        return {name: pa.array(frame[name], kind, from_pandas=True) for name, kind in self._types.items()}


def _types(file: TableFile, names: Sequence[str]) -> dict[str, Any]:
    import pyarrow as pa
    from pyarrow import parquet

    if file.path.suffix.lower() != ".parquet":
        return dict.fromkeys(names, pa.string())
    with reading(file.path, "a table"):
        schema = parquet.read_schema(file.path)
    types = {name: schema.field(name).type for name in names}
    return {name: t.value_type if pa.types.is_dictionary(t) else t for name, t in types.items()}


def as_cells(values: Any) -> Any:
    """A kept column for a frame that is written as text: no whole number as a float, all times in one form."""
    if not hasattr(values, "to_pandas"):
        return values
    series = values.to_pandas(integer_object_nulls=True)
    return series.astype(object) if series.dtype.kind == "M" else series


def as_numpy(parts: Sequence[Any]) -> np.ndarray:
    """The parts of a kept column as one array of numbers or dates, of text where NumPy has no such ones with gaps."""
    if isinstance(parts[0], list):
        return np.array(list(itertools.chain(*parts)))
    import pyarrow as pa
    from pyarrow import types

    whole = pa.chunked_array(parts)
    kind = whole.type
    gapless = (types.is_integer(kind) or types.is_boolean(kind)) and not whole.null_count
    if gapless or types.is_floating(kind) or types.is_date(kind) or (types.is_timestamp(kind) and kind.tz is None):
        return whole.to_numpy()
    return np.array(["" if value is None else str(value) for value in whole.to_pylist()])
