"""Which samples train, which validate and which test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from xpnet.errors import DataError, XpnetError


@dataclass(frozen=True)
class Split:
    """The parts of the samples for validation and test; no test part where the test set is another one.

    The rest is for training. The part for validation may also be a number of rows.
    """

    validation: float
    test: float = 0.0

    @classmethod
    def of(cls, text: str) -> Split:
        """Of "0.8/0.1/0.1" or "0.9/0.1".

        Raises:
            XpnetError: It is not of that form, or the parts are not 1 in all.
        """
        try:
            parts = [float(part) for part in text.split("/")]
        except ValueError:
            parts = []
        if len(parts) not in (2, 3) or not all(0 < part < 1 for part in parts) or not math.isclose(sum(parts), 1):
            raise XpnetError(
                f'split: got "{text}", expected parts for training, validation and perhaps test that are 1 in all, '
                "such as 0.8/0.1/0.1."
            )
        return cls(*parts[1:])


def split_rows(
    split: Split,
    *,
    y: np.ndarray | None,
    rng: np.random.Generator,
    rows: np.ndarray,
    order: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows for training, validation and test, each in ascending order.

    Classes of fewer rows than there are parts train with all of them, and the others keep their proportions; where they
    are most of the rows, no class is looked at.

    Args:
        split: The parts.
        y: (N,) classes whose proportions are kept; None, or other targets, for a draw without regard to them.
        rng: Draws.
        rows: The numbers of the rows to split; the arrays have a value for each row that there is.
        order: (N,) by which rows are sorted: the first train, the last test, and nothing is drawn.
        groups: (N,) whose equals stay together.

    Raises:
        DataError: A part would be empty.
    """
    of_the_rest = split.validation if split.validation >= 1 else split.validation / (1 - split.test)
    parts = [(split.test, "test"), (of_the_rest, "validation")]
    rest, rare = rows, rows[:0]
    if order is None and groups is None:
        rest, rare = _without_rare(y, rows, 3 if split.test else 2)
    if len(rare) > len(rest):
        return split_rows(split, y=None, rng=rng, rows=rows)
    taken: list[np.ndarray] = []
    for part, what in parts:
        if part == 0:
            taken.append(rest[:0])
            continue
        rest, drawn = _part(part, rest, y, rng, order, groups)
        if len(rest) and len(drawn):
            taken.append(drawn)
        elif len(rare):  # too few of the others
            return split_rows(split, y=None, rng=rng, rows=rows)
        else:
            raise DataError(
                f"split: nothing is left for the {what} or the training set: give more rows, or other parts"
            )
    test, validation = taken
    return np.sort(np.append(rest, rare)), np.sort(validation), np.sort(test)


def _without_rare(y: np.ndarray | None, rows: np.ndarray, parts: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of classes that every part can have one of, and the others."""
    if y is None or y.ndim != 1:
        return rows, rows[:0]
    _, places, sizes = np.unique(y[rows], return_inverse=True, return_counts=True)
    rare = (sizes < parts)[places]
    return rows[~rare], rows[rare]


def _part(
    part: float,
    rows: np.ndarray,
    y: np.ndarray | None,
    rng: np.random.Generator,
    order: np.ndarray | None,
    groups: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The rest, and so large a part of the rows."""
    from sklearn.model_selection import GroupShuffleSplit, train_test_split

    count = round(part * len(rows)) if part < 1 else int(part)
    if order is not None:
        rows = rows[np.argsort(order[rows], kind="stable")]
        return rows[: len(rows) - count], rows[len(rows) - count :]
    if not 0 < count < len(rows):
        return rows, rows[:0]
    seed = int(rng.integers(2**31))
    if groups is not None:
        if len(np.unique(groups[rows])) < 2:
            return rows, rows[:0]
        rest, drawn = next(
            GroupShuffleSplit(1, test_size=count / len(rows), random_state=seed).split(rows, groups=groups[rows])
        )
        return rows[rest], rows[drawn]
    rest, drawn = train_test_split(rows, test_size=count, stratify=_strata(y, rows, count), random_state=seed)
    return rest, drawn


def _strata(y: np.ndarray | None, rows: np.ndarray, count: int) -> np.ndarray | None:
    """(N,) what to keep in proportion: the classes, those together of which a part would get less than one row.

    None where there are no classes, or all of them are so small.
    """
    if y is None or y.ndim != 1:
        return None
    classes, places, sizes = np.unique(y[rows], return_inverse=True, return_counts=True)
    smaller = min(count, len(rows) - count)
    if len(classes) <= smaller:
        return y[rows]
    small = sizes * smaller < len(rows)
    return None if small.all() else np.where(small, -1, np.arange(len(classes)))[places]
