"""Twins of dropout and its random words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xpnet.devices.cpu.nodes import dropout as nodes
from xpnet.devices.cpu.nodes.compiling import constant

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table

WORDS = 2**32
"""How many there are."""

HASH = 4
"""How many numbers read and written take as long as the hash of one."""


def random_bits(k: Table, *, key: Array, out: Array) -> None:
    """In one pass."""
    parts = k.device.parts(numbers=HASH * out.size)
    k.device.do(nodes.random_bits, constant(key, np.dtype(np.uint32)), out, kinds=(), parts=parts)


def dropout(k: Table, y: Array, *, key: Array, rate: float, out: Array, slope: Array | None = None) -> None:
    """In one pass, no word is ever stored."""
    threshold = min(round(rate * WORDS), WORDS - 1)  # as in the reference
    arguments = constant(key, np.dtype(np.uint32)), y, out, threshold, constant(1 / (1 - rate), y.dtype)
    parts = k.device.parts(numbers=HASH * y.size)
    if slope is None:
        return k.device.do(nodes.dropout, *arguments, kinds=(y.dtype,), parts=parts)
    kinds = slope.dtype, y.dtype
    return k.device.do(nodes.dropout_and_slope, *arguments, slope, kinds=kinds, parts=parts)
