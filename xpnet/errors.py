"""The errors that a user can cause; each carries one sentence: what was got, what was expected, what to do."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Iterable
from typing import Any


class XpnetError(ValueError):
    """What a user asked for cannot be done; the message, one printable line, says why and what to do."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class DataError(XpnetError):
    """Samples or labels are missing, damaged or of a wrong kind."""


class DeviceError(XpnetError):
    """A device was asked for by name and cannot be used."""


class DivergenceError(XpnetError):
    """The training loss became NaN or infinite."""


class OutOfMemoryError(XpnetError):
    """The device has not the memory that the training needs."""


def printable(text: str) -> str:
    """`text` with line breaks and all that a terminal would obey, or not show, written as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def one_of(what: str, got: Any, known: Iterable[str]) -> str:
    """`got`, if it is one of the known names."""
    names = list(known)
    if got not in names:
        raise XpnetError(f'{what}: got "{got}", expected one of {", ".join(names)}.')
    return str(got)


def whole(what: str, got: Any, *, least: int, otherwise: str = "") -> int:
    """`got`, if it is a whole number that is large enough."""
    try:
        number = operator.index(got)
    except TypeError:
        number = least - 1
    if number < least or isinstance(got, bool):
        raise XpnetError(f"{what}: got {got}, expected a whole number, at least {least}{otherwise}.")
    return number


def number(what: str, got: Any, *, least: float = 0.0, above: float | None = None, below: float = math.inf) -> float:
    """`got`, if it is a finite number, at least `least` or else more than `above`, and less than `below`."""
    bounds = f"at least {least:g}" if above is None else "positive" if above == 0 else f"above {above:g}"
    bounds += "" if below == math.inf else f" and below {below:g}"
    value = float(got) if isinstance(got, numbers.Real) and not isinstance(got, bool) else math.nan
    if not ((value >= least if above is None else value > above) and value < below):
        raise XpnetError(f"{what}: got {got}, expected a finite number, {bounds}.")
    return value
