"""What kind of column each is, and what is predicted: told from the values."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xpnet.tables.encoder import as_numbers, counted

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["number", "category", "text", "date", "constant"]

MOSTLY = 0.95
"""The part of the values that have to be numbers for a column to be one; the others count as missing."""

FEW = 20
"""Different whole numbers up to which a target is classes; different texts up to which a column is no free text."""

WITHOUT_COMMAS = "write 1234.5 in place of 1,234.5 or 1234,5"
"""What to do about commas in numbers."""

_LOOKED_AT = 1000
"""Different values that are tried as dates."""


def kind_of(series: pd.Series) -> Kind:
    """The kind of a column: numbers, categories, or what cannot be used: free text, dates, one value throughout.

    Numbers are what reads as such but for a few values; text is free where most values are different or long.
    """
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(series) or pd.api.types.is_timedelta64_dtype(series):
        return "date"
    if pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series):
        return "constant" if series.nunique(dropna=False) == 1 else "number"
    counts = counted(series)
    if len(counts) == 0 or (len(counts) == 1 and counts.iloc[0] == len(series)):
        return "constant"
    numbers = as_numbers(pd.Series(counts.index, dtype=object))
    present = int(counts.sum())
    if counts[np.isfinite(numbers)].sum() >= MOSTLY * present:
        return "number"
    if as_dates(counts.index[:_LOOKED_AT]) is not None:
        return "date"
    words = np.average(counts.index.str.count(" ") + 1, weights=counts)
    return "text" if len(counts) > max(FEW, present / 2) or (words > 8 and len(counts) > FEW) else "category"


def no_numbers(series: pd.Series) -> pd.Series:
    """How often each value of a column of numbers occurs that reads as none, and so counts as missing."""
    import pandas as pd

    if not (np.isnan(as_numbers(series)) & series.notna().to_numpy()).any():
        return pd.Series(dtype=int)
    counts = counted(series)
    return counts[np.isnan(as_numbers(pd.Series(counts.index, dtype=object)))]


def has_commas(series: pd.Series) -> bool:
    """Whether text would be numbers without its commas, which may be those of decimals or stand between thousands."""
    import pandas as pd

    counts = counted(series)
    numbers = as_numbers(pd.Series([text.replace(",", "") for text in counts.index], dtype=object))
    return bool(
        any("," in text for text in counts.index) and counts[np.isfinite(numbers)].sum() >= MOSTLY * counts.sum()
    )


def task_of(series: pd.Series) -> Literal["classification", "regression"]:
    """What a target asks for: numbers with fractions, or of many different values, are predicted as such.

    A few other values do not make them classes: they are told of when they are read as numbers.
    """
    import pandas as pd

    counts = counted(series)
    numbers = as_numbers(pd.Series(counts.index, dtype=object))
    finite = np.isfinite(numbers)
    if counts[finite].sum() < MOSTLY * counts.sum():
        return "classification"
    whole = (numbers[finite] == np.round(numbers[finite])).all()
    return "classification" if whole and len(numbers) <= FEW else "regression"


def as_dates(values: Any) -> np.ndarray | None:
    """(N,) microseconds of text, all of which is dates of one form, or None; of 1/2/2020 the month comes first."""
    import pandas as pd

    days = ("%m/%d/%Y", "%d.%m.%Y", "%d/%m/%Y")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of formats that are guessed
        for form in ("ISO8601", *(day + time for day in days for time in ("", " %H:%M", " %H:%M:%S"))):
            dates = pd.to_datetime(pd.Index(values), format=form, errors="coerce", utc=True)
            if dates.notna().all():
                return dates.as_unit("us").asi8
    return None
