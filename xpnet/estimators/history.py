"""The curves of a training."""

from __future__ import annotations

from collections import defaultdict

import numpy as np


class History:
    """Columns of numbers, an entry an epoch; NaN where a column has none."""

    def __init__(self) -> None:
        self._columns: defaultdict[str, list[float]] = defaultdict(list)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, **values: float) -> None:
        """An epoch's numbers."""
        self._length += 1
        self.add(**values)

    def add(self, **values: float) -> None:
        """More numbers of the last epoch."""
        for name, value in values.items():
            column = self._columns[name]
            column += [np.nan] * (self._length - 1 - len(column))
            column.append(value)

    def copy(self) -> History:
        """Another one that begins with the same epochs."""
        other = History()
        other._length = self._length
        other._columns.update({name: list(column) for name, column in self._columns.items()})
        return other

    def arrays(self) -> dict[str, np.ndarray]:
        """Every column."""
        return {
            name: np.array([*column, *[np.nan] * (self._length - len(column))])
            for name, column in self._columns.items()
        }
