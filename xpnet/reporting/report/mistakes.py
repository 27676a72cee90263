"""Where the network is most sure, and wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xpnet.reporting.report import pictures
from xpnet.reporting.report.values import dense, readable, values_of

if TYPE_CHECKING:
    from xpnet.reporting.report.examined import Examined
    from xpnet.tables.dataset import Table

MOST_PICTURES, MOST_ROWS = 24, 12
"""Mistakes that are shown."""


@dataclass(frozen=True)
class Mistake:
    """A sample on which the network is wrong.

    Attributes:
        row: Its number in the data's arrays.
        true, said: What it is, and what the network says.
        sure: How sure it is, or how far off.
        picture: The address of the sample as a picture, or "".
        values: The sample as names and values, where it is no picture.
    """

    row: int
    true: str
    said: str
    sure: str
    picture: str
    values: list[tuple[str, str]]


def mistakes_of(seen: Examined, table: Table | None) -> list[Mistake]:
    """The most confident ones, or the largest, first."""
    shape = pictures.picture_shape(seen.network)
    most = MOST_ROWS if shape is None else MOST_PICTURES
    find = {"classification": _wrong_classes, "multilabel": _wrong_labels}.get(str(seen.network.task), _far_numbers)
    found = find(seen, most)
    places = np.array([place for place, *_ in found], dtype=np.int64)
    if not found:
        return []
    if shape is None:
        shown = [("", values) for values in values_of(seen, places, table)]
    else:
        low, high = min(0.0, float(seen.x.min())), float(seen.x.max())
        shown = [(picture, []) for picture in pictures.of_samples(dense(seen.x[places]), shape, low=low, high=high)]
    return [
        Mistake(int(seen.rows[place]), true, said, sure, picture, values)
        for (place, true, said, sure), (picture, values) in zip(found, shown, strict=True)
    ]


_Found = list[tuple[int, str, str, str]]
"""The place among the samples, what it is, what was said, and how sure."""


def _wrong_classes(seen: Examined, most: int) -> _Found:
    wrong = np.flatnonzero(seen.predicted != seen.y)
    score = seen.outputs[wrong, seen.predicted[wrong]]
    names = seen.classes
    return [
        (place, names[seen.y[place]], names[seen.predicted[place]], _sure(seen, seen.outputs[place].max()))
        for place in wrong[np.argsort(-score, kind="stable")[:most]].tolist()
    ]


def _wrong_labels(seen: Examined, most: int) -> _Found:
    wrong = seen.predicted != seen.y
    score = np.where(wrong, np.abs(seen.outputs - 0.5), -1.0)
    worst = np.argsort(-score, axis=None, kind="stable")[:most].tolist()
    found = []
    for place, label in (divmod(at, seen.y.shape[1]) for at in worst):
        if wrong[place, label]:
            has, name = bool(seen.y[place, label]), seen.classes[label]
            output = seen.outputs[place, label]
            true, said = (f"{'' if given else 'not '}{name}" for given in (has, not has))
            found.append((place, true, said, _sure(seen, 1 - output if has else output)))
    return found


def _far_numbers(seen: Examined, most: int) -> _Found:
    off = np.abs(seen.outputs - seen.y)
    return [
        (place, _numbers(seen.y[place]), _numbers(seen.outputs[place]), f"off by {readable(off[place].max())}")
        for place in np.argsort(-off.max(axis=1), kind="stable")[:most].tolist()
    ]


def _sure(seen: Examined, output: float) -> str:
    return f"{100 * output:.1f} %" if seen.gives_probabilities else f"output {readable(output)}"


def _numbers(values: np.ndarray) -> str:
    shown = ", ".join(readable(value) for value in values[:4])
    return shown if len(values) <= 4 else f"{shown}, ..."
