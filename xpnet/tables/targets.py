"""What is predicted, and what the split goes by: the columns of a table that are read whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.data.checks import Label, Targets, encode_targets
from xpnet.data.reading import refuse_too_large
from xpnet.errors import DataError
from xpnet.tables.columns import Columns
from xpnet.tables.encoder import LARGEST, as_numbers, as_text, spelling
from xpnet.tables.kinds import WITHOUT_COMMAS, as_dates, has_commas, task_of
from xpnet.tables.reading import TableFile, joined, no_rows

if TYPE_CHECKING:
    import pandas as pd


BYTES_A_ROW = 64
"""Of memory, what a row's target takes while it is read, and its place in the order and in the sets."""


@dataclass(frozen=True)
class Known:
    """The targets of the rows that have one, and which these are."""

    targets: Targets
    present: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """The numbers of the rows that have one."""
        return np.flatnonzero(self.present)

    def expanded(self) -> np.ndarray:
        """The targets with a row for every row of the table; the rows without one belong to no set."""
        y = self.targets.y
        out = np.zeros((len(self.present), *y.shape[1:]), y.dtype)
        out[self.present] = y
        return out


def read_targets(
    file: TableFile, columns: Columns, known: Targets | None = None
) -> tuple[Known, dict[str, np.ndarray]]:
    """The targets, and what the split goes by: one pass over these columns alone."""
    roles = {"target": columns.target, "time": columns.time, "group": columns.group}
    named = {role: name for role, name in roles.items() if name is not None}
    pieces, rows = [], 0
    for piece in file.pieces(sorted(set(named.values()))):
        pieces.append(piece)
        rows += len(piece)
        refuse_too_large(file.path, BYTES_A_ROW * rows, what="has rows that take")
    if not rows:
        raise no_rows(file.path)
    whole = {role: joined([piece[name] for piece in pieces]) for role, name in named.items()}
    task = columns.task or (task_of(whole["target"]) if known is None else known.task)
    if task == "classification" and not columns.task and known is None and has_commas(whole["target"]):
        raise DataError(
            f'{file.path}: the target "{columns.target}" holds numbers with commas: {WITHOUT_COMMAS}, or add --task '
            "classification"
        )
    keys = {role: _KEYS[role](whole[role]) for role in whole.keys() - {"target"}}
    classes = None if known is None else known.classes
    values, present = present_targets(whole["target"], task, classes, table=str(file.path))
    if not present.any():
        raise DataError(f'{file.path}: the target "{columns.target}" has no value in any row: give another column')
    what = f'{file.path.name}: "{columns.target}"'
    return Known(encode_targets(values, rows=len(values), classes=classes, what=what), present), keys


def present_targets(
    series: pd.Series, task: str, classes: Sequence[Label] | None = None, *, table: str = "the table"
) -> tuple[np.ndarray, np.ndarray]:
    """The targets of the rows that have one: floats, or labels as whole numbers or text; and (N,) which rows these are.

    Labels are of the type of the known classes, where there are such: 1 among texts is the text, not a position.

    Args:
        series: The column; its index numbers the rows from 0.
        task: What the values are.
        classes: The known ones; None for all that there are.
        table: What error messages call the table.

    Raises:
        DataError: Numbers are asked for, and there is something else, or too large ones; or a class is not known; the
            message names the first such row, counted from 1.
    """
    text = as_text(series)
    present = text.notna().to_numpy()

    def refuse(odd: np.ndarray, why: str, advice: str) -> None:
        if odd.any():
            place = int(np.argmax(odd))
            raise DataError(
                f'{table}: the target "{series.name}" holds {text.iloc[place]!r:.40}, {why}, in row '
                f"{series.index[place] + 1:,} below the names: {advice}"
            )

    if task == "regression":
        numbers = as_numbers(series)
        refuse(np.isnan(numbers) & present, "which is no number", "mend it, or add --task classification")
        refuse(np.abs(numbers) > LARGEST, f"expected numbers up to {LARGEST:g}", "give it in another unit")
        return numbers[present], present
    if classes is None:
        return _labels(text[present].to_numpy(object), table), present
    known = {spelling(label): label for label in classes}
    shown = ", ".join(f"{label!s:.40}" for label in classes[:12]) + ", ..." * (len(classes) > 12)
    refuse(present & ~text.isin(known).to_numpy(), f"expected one of {shown}", "mend it, or leave out its row")
    return np.array(text[present].map(known).tolist()), present


def _labels(text: np.ndarray, table: str) -> np.ndarray:
    """Labels as whole numbers where all are, else as text, of which NumPy gives each as much room as the longest."""
    import pandas as pd

    places, different = pd.factorize(text)
    refuse_too_large(table, 4 * len(places) * max(map(len, different), default=0), what="has labels that take")
    try:
        numbers = np.array([int(label) for label in different], np.int64)
    except (ValueError, OverflowError):
        return different.astype(str)[places]
    written_so = all(str(n) == t for n, t in zip(numbers, different, strict=True))
    return (numbers if written_so else different.astype(str))[places]


def _times(series: pd.Series) -> np.ndarray:
    """(N,) by which rows are sorted: numbers, or dates of one form.

    Raises:
        DataError: There are others, or one is missing: sorted as text, 10 would come before 9.
    """
    text = as_text(series)
    if missing := int(text.isna().sum()):
        raise DataError(f'time_column: "{series.name}" has no value in {missing:,} rows: fill these, or leave them out')
    numbers = as_numbers(series)
    if np.isfinite(numbers).all():
        return numbers
    different, places = np.unique(text.to_numpy(str), return_inverse=True)
    dates = as_dates(different)
    if dates is None:
        odd = str(different[0])
        raise DataError(
            f'time_column: "{series.name}" holds neither numbers alone nor dates of one form ({odd!r:.40}, for '
            "instance): write them as 2020-12-31 or 2020-12-31T23:59:59"
        )
    return np.asarray(dates)[places]


def _groups(series: pd.Series) -> np.ndarray:
    """(N,) the same number for the same value; what is missing is one group."""
    import pandas as pd

    return pd.factorize(as_text(series).fillna(""))[0]


_KEYS: dict[str, Callable[[Any], np.ndarray]] = {"time": _times, "group": _groups}
"""What the split goes by, of the column with that role."""
