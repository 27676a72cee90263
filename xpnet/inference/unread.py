"""Cells of a table of which a model can make nothing: counted over all pieces, told once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from xpnet.errors import DataError, printable
from xpnet.tables.encoder import Category, Number, as_text
from xpnet.tables.reading import quoted

if TYPE_CHECKING:
    import pandas as pd

MOST = 10
"""Columns that a sentence names."""

ENOUGH = 100
"""Cells, none of which is a number, after which the rest of a file is not read."""


class Unread:
    """Counts what is no number in columns of numbers, and what training never saw in columns of categories."""

    def __init__(self) -> None:
        self._read: Counter[str] = Counter()
        self._odd: Counter[str] = Counter()
        self._unseen: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def watch(self, column: Number | Category, series: pd.Series, values: np.ndarray) -> None:
        """Count cells of a column.

        Args:
            column: Whose they are.
            series: As they were read.
            values: What was made of them: numbers, NaN for what is none, or places of categories, -1 for what has none.
        """
        numeric = isinstance(column, Number)
        lost = np.isnan(values) if numeric else values < 0
        self._read[column.name] += len(values) - int(lost.sum())
        present = as_text(series[lost].dropna()).dropna()
        if len(present):
            (self._odd if numeric else self._unseen)[column.name] += len(present)
            self._examples.setdefault(column.name, present.iloc[0])

    def refuse_unreadable(self, name: str, *, whole: bool) -> None:
        """Raises a DataError if there is a column of numbers of which no cell that is there can be read.

        Args:
            name: Of the file.
            whole: Whether all of it has been seen; before that only many such cells are enough.
        """
        least = 1 if whole else ENOUGH
        if unreadable := [column for column, count in self._odd.items() if count >= least and not self._read[column]]:
            raise DataError(
                f"{name}: no value of {quoted(unreadable, MOST)} can be read as a number "
                f"({self._shown(unreadable[0])}, for instance): write numbers with a decimal point and leave empty "
                "what is missing, or give the columns that the model was trained on"
            )

    def tell(self, name: str, tell: Callable[[str], None]) -> None:
        """Tell of them, a sentence for each of the two kinds.

        Args:
            name: Of the file.
            tell: Called with the sentences.
        """
        for what, counts in (
            ("cells that are no numbers, taken as missing", self._odd),
            ("values that training never saw, taken as unknown", self._unseen),
        ):
            if counts:
                tell(printable(f"{name}: {what}: {self._listed(counts)}"))

    def _listed(self, counts: Mapping[str, int]) -> str:
        shown = [f"{quoted([name])} {count:,} ({self._shown(name)})" for name, count in list(counts.items())[:MOST]]
        more = f" and {len(counts) - MOST} more columns" if len(counts) > MOST else ""
        return ", ".join(shown) + more

    def _shown(self, column: str) -> str:
        return f"{self._examples[column]!r:.40}"
