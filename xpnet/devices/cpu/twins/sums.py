"""Sums that each part of a node leaves for itself, and their sum."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.devices.cpu.nodes.parts import BLOCK, sum_of_parts

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table


CACHE_LINE = 8
"""Float64 numbers that keep the sums of two parts apart."""


def columns_of_parts(k: Table, parts: int, out: Array) -> Array:
    """(parts, O): room for sums by columns, `out` itself where there is but one part."""
    return out.reshape(1, -1) if parts == 1 else k.scratch("sums", (parts, len(out)), out.dtype)


def sum_columns(k: Table, sums: Array, out: Array) -> None:
    """out: (O,) <- the sum of the parts' sums."""
    if len(sums) > 1:
        k.device.do(sum_of_parts, sums, out, kinds=(sums.dtype, out.dtype))


def totals_of_parts(k: Table, parts: int) -> Array:
    """Room for one number of each part."""
    return k.scratch("totals", (parts, CACHE_LINE), np.float64)


def sum_totals(k: Table, totals: Array, out: Array) -> None:
    """out: () <- the sum of the parts' numbers."""
    k.device.do(sum_of_parts, totals, out.reshape(1), kinds=(totals.dtype, out.dtype))


@cache
def ends_of(groups: tuple[int, ...]) -> Array:
    """Where groups of so many columns begin, and where the last one ends."""
    return np.cumsum([0, *groups], dtype=np.int64)


def room_of_parts(k: Table, parts: int, z: Array) -> Array:
    """Room for each part's block of rows of z."""
    return k.scratch("room", (parts, max(BLOCK, z.shape[1])), z.dtype)


def or_empty(k: Table, weights: Array | None, like: Array) -> Array:
    """The weights, or, where there are none, what nodes take for none."""
    return k.scratch("none", (0,), like.dtype) if weights is None else weights


def of_one_kind(*arrays: Any) -> bool:
    """Whether all arrays, if they are there, have the dtype of the first."""
    return all(array is None or array.dtype == arrays[0].dtype for array in arrays)
