"""What is asked of the columns of a table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from xpnet.errors import DataError
from xpnet.tables.learning import Scaling
from xpnet.tables.reading import TableFile, quoted

_UNNAMED = re.compile(r"Unnamed: [0-9]+")


@dataclass(frozen=True)
class Columns:
    """What is asked of a table's columns.

    Attributes:
        target: The column that is predicted.
        task: What its values are; None to tell from them.
        ignored: Columns to leave out.
        categorical: Columns of numbers that are categories.
        time, group: The columns by which rows are ordered for the split, or stay together in it.
        scaling, one_hot, embedding: As of `learn`.
    """

    target: str
    task: Literal["classification", "regression"] | None = None
    ignored: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    time: str | None = None
    group: str | None = None
    scaling: Scaling = "standard"
    one_hot: int = 64
    embedding: int = 8


def refuse_unknown(file: TableFile, columns: Columns) -> None:
    """Raise DataError where a column that is asked for is not in the file."""
    asked = {
        "target": [columns.target],
        "ignore": columns.ignored,
        "categorical": columns.categorical,
        "time_column": [columns.time] if columns.time else [],
        "group_column": [columns.group] if columns.group else [],
    }
    for option, names in asked.items():
        for name in names:
            if name not in file.names:
                known = quoted(file.names)
                raise DataError(f'{option}: got "{name}", expected a column of {file.path.name}: {known}')


def unnamed(file: TableFile, columns: Columns) -> list[str]:
    """What pandas has called columns without a name, mostly an index that it once wrote; unless it is asked for."""
    asked = {columns.target, columns.time, columns.group, *columns.categorical}
    return [name for name in file.names if _UNNAMED.fullmatch(name) and name not in asked]
