"""Dropout and its random words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.devices.cuda.twins.launching import (
    INT_MAX,
    MANY,
    NULL,
    REALS,
    STORED,
    THREADS,
    UNSIGNED_MAX,
    blocks_of,
    contiguous,
    launch,
    packed,
    real_of,
    stride,
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
    """out = y m / (1 - rate), slope <- slope m, in one launch; y and out may hold bfloat16."""
    arrays = (y, out) if slope is None else (y, out, slope)
    covered = y.dtype in STORED and out.dtype in (y.dtype, np.uint16) and all(packed(array) for array in arrays)
    covered = covered and y.size <= UNSIGNED_MAX and (slope is None or slope.dtype in (bool, real_of(y)))
    if not covered:
        k.reference.dropout(y, key=key, rate=rate, out=out, slope=slope)
        return
    _drop(k, y, key, rate, out, slope)


def rectified(k: Table, z: Array, *, key: Array | None, rate: float, out: Array) -> None:
    """out = max(z, 0) m / (1 - rate), in one launch; without a key out = max(z, 0). out may hold bfloat16."""
    _drop(k, z, key, rate, out, None, of_relu=True)


def _drop(
    k: Table, y: Array, key: Array | None, rate: float, out: Array, slope: Array | None, *, of_relu: bool = False
) -> None:
    rows, columns = y.shape
    strides = [stride(array) for array in (y, out, out if slope is None else slope)]
    wide = 4 if y.size >= MANY and columns % 4 == 0 and all(number % 4 == 0 for number in strides) else 1
    packs, real = columns // wide, real_of(y)
    threshold, scale = (
        np.uint32(min(round(rate * 2**32), UNSIGNED_MAX)),
        real.type(1 if key is None else 1 / (1 - rate)),
    )
    kind = "bool" if slope is None or slope.dtype == bool else REALS[slope.dtype]
    kernel = f"dropout<{STORED[y.dtype]}, {STORED[out.dtype]}, {kind}, {wide}, {str(of_relu).lower()}>"
    y_stride, out_stride, slope_stride = map(np.int64, strides)
    args: tuple[Any, ...] = (y, y_stride, NULL if key is None else key, threshold, scale, out, out_stride)
    args = (*args, NULL if slope is None else slope, slope_stride, np.uint32(rows), np.uint32(packs))
    launch(k, "dropout.cu", kernel, blocks_of(rows * packs, THREADS), THREADS, args)


TWINS = (random_bits, dropout)
