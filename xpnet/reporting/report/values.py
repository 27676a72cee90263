"""A sample as a person reads it: the names of its values, and what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from xpnet.network import MLP
    from xpnet.reporting.report.examined import Examined
    from xpnet.tables.dataset import Table

MOST = 16
"""Values of a sample that are no table's row, shown."""


def values_of(seen: Examined, places: np.ndarray, table: Table | None) -> list[list[tuple[str, str]]]:
    """The samples at these places: the rows of the table as they came, or the first of their numbers."""
    if table is None:
        rows = dense(seen.x[places])[:, :MOST]
        return [[(f"x{i}", readable(value)) for i, value in enumerate(row, 1)] for row in rows]
    frame = table.records(seen.rows[places], tested=seen.set == "test set")
    return [_told(frame.loc[row], table.encoder.names) for row in seen.rows[places].tolist()]


def dense(x: Any) -> np.ndarray:
    """Rows of samples, no longer sparse."""
    return np.asarray(x.toarray() if hasattr(x, "toarray") else x)


def readable(number: float) -> str:
    """Four digits or so, and never a power of ten where a person would not write one."""
    return f"{number:,.0f}" if 1000 <= abs(number) < 1e9 else f"{number:.4g}"


def groups_of(network: MLP) -> dict[str, slice]:
    """Which of a sample's values belong to which column, by its name."""
    if network.table is None:
        return {f"x{i + 1}": slice(i, i + 1) for i in range(network.inputs)}
    groups, start = {}, 0
    for column in network.table.columns:
        groups[column.name] = slice(start, start + column.width)
        start += column.width
    return groups


def _told(row: pd.Series, names: list[str]) -> list[tuple[str, str]]:
    return [(name, "missing" if row[name] != row[name] else str(row[name])) for name in names]
