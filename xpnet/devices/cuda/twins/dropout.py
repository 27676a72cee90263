"""Dropout and its random words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xpnet.devices.cuda.twins.launching import (
    INT_MAX,
    NULL,
    REALS,
    THREADS,
    UNSIGNED_MAX,
    blocks_of,
    contiguous,
    launch,
)

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table


def random_bits(k: Table, *, key: Array, out: Array) -> None:
    """out_ij <- hash(hash(key + i) + j)."""
    if out.size > INT_MAX or not contiguous(out):
        k.reference.random_bits(key=key, out=out)
        return
    rows, columns = out.shape
    args = (key, out, np.uint32(rows), np.uint32(columns))
    launch(k, "dropout.cu", "random_bits", blocks_of(out.size, THREADS), THREADS, args)


def dropout(k: Table, y: Array, *, key: Array, rate: float, out: Array, slope: Array | None = None) -> None:
    """out = y m / (1 - rate), slope <- slope m / (1 - rate), in one launch."""
    arrays = (y, out) if slope is None else (y, out, slope)
    if y.size > INT_MAX or y.dtype not in REALS or not contiguous(*arrays) or len({a.dtype for a in arrays}) > 1:
        k.reference.dropout(y, key=key, rate=rate, out=out, slope=slope)
        return
    rows, columns = y.shape
    first, scale = np.uint32(min(round(rate * 2**32), UNSIGNED_MAX)), y.dtype.type(1 / (1 - rate))
    into = NULL if slope is None else slope
    args = (y, key, first, scale, out, into, np.uint32(rows), np.uint32(columns))
    launch(k, "dropout.cu", f"dropout<{REALS[y.dtype]}>", blocks_of(y.size, THREADS), THREADS, args)


TWINS = (random_bits, dropout)
