"""Batches out of resident samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.devices.cuda.twins.columns import convert
from xpnet.devices.cuda.twins.launching import (
    MANY,
    NULL,
    NUMBERS,
    THREADS,
    UNSIGNED_MAX,
    WORDS,
    as_rows,
    blocks_of,
    contiguous,
    is_bfloat16,
    launch,
    packed,
    real_of,
    stored_as,
    stride,
    whole_warps,
)

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table


def gather(k: Table, source: Array, index: Array, *, scale: Any = None, shift: Array | None = None, out: Array) -> None:
    """Rows as they are, or scaled and shifted, many bytes at a time. A source of dtype uint16 holds whole numbers."""
    table, into = as_rows(source), as_rows(out)
    if not _gathers(table, index, into):
        return _gather_by_reference(k, source, index, scale, shift, out)
    if source.dtype == out.dtype and scale is None and shift is None and not is_bfloat16(out):
        return _take(k, table, index, into)
    if source.dtype not in NUMBERS or stored_as(out) is None:
        return _gather_by_reference(k, source, index, scale, shift, out)
    real = real_of(out)
    scale, shift = (_constants(k, name, value, real) for name, value in (("scale", scale), ("shift", shift)))
    rows, columns = into.shape
    wide = 4 if columns % 4 == 0 and stride(table) % 4 == 0 and stride(into) % 4 == 0 else 1
    packs = columns // wide
    together = 4 if rows * packs >= MANY else 1
    kernel = f"gather<{NUMBERS[source.dtype]}, {stored_as(out)}, {wide}, {together}>"
    by, factor = _scale(scale, real)
    args: tuple[Any, ...] = (table, np.int64(stride(table)), index, by, factor, NULL if shift is None else shift)
    args = (*args, into, np.int64(stride(into)), np.uint32(rows), np.uint32(packs))
    return launch(k, "gather.cu", kernel, blocks_of(rows * packs, THREADS * together), THREADS, args)


def _take(k: Table, source: Array, index: Array, out: Array) -> None:
    """out <- source[index], by the largest words that rows are made of."""
    row, size = out.shape[1] * out.dtype.itemsize, 16
    strides = source.strides[0], out.strides[0]
    while any(number % size for number in (row, *strides)):
        size //= 2
    rows, words = len(out), row // size
    together = 4 if rows * words >= MANY else 1
    kernel = f"take<{WORDS[size]}, {together}>"
    args: tuple[Any, ...] = (source, np.int64(strides[0] // size), index, out, np.int64(strides[1] // size))
    args = (*args, np.uint32(rows), np.uint32(words))
    launch(k, "gather.cu", kernel, blocks_of(rows * words, THREADS * together), THREADS, args)


def gather_sparse(
    k: Table,
    columns: Array,
    values: Array,
    index: Array,
    *,
    scale: Any = None,
    shift: Array | None = None,
    out: Array,
) -> None:
    """A block fills a row and then puts the entries there."""
    covered = columns.dtype.kind in "iu" and values.dtype in NUMBERS and stored_as(out) is not None
    covered = covered and contiguous(columns, values, index) and index.dtype == np.int64 and packed(out)
    if not covered:
        if not is_bfloat16(out):
            return k.reference.gather_sparse(columns, values, index, scale=scale, shift=shift, out=out)
        dense = k.scratch("gather float", out.shape, np.float32)
        k.reference.gather_sparse(columns, values, index, scale=scale, shift=shift, out=dense)
        return convert(k, dense, out=out)
    real = real_of(out)
    scale, shift = (_constants(k, name, value, real) for name, value in (("scale", scale), ("shift", shift)))
    rows, width = out.shape
    kernel = f"gather_sparse<{NUMBERS[columns.dtype]}, {NUMBERS[values.dtype]}, {stored_as(out)}>"
    args: tuple[Any, ...] = (columns, values, np.int32(columns.shape[1]), index, *_scale(scale, real))
    args = (*args, NULL if shift is None else shift, out, np.int64(stride(out)), np.int32(width))
    return launch(k, "gather.cu", kernel, rows, min(THREADS, whole_warps(width)), args)


def _gathers(source: Array, index: Array, out: Array) -> bool:
    shaped = source.ndim == out.ndim == 2 and index.dtype == np.int64 and contiguous(index)
    return shaped and packed(source) and packed(out) and out.size <= UNSIGNED_MAX


def _gather_by_reference(k: Table, source: Array, index: Array, scale: Any, shift: Array | None, out: Array) -> None:
    if not is_bfloat16(out):
        return k.reference.gather(source, index, scale=scale, shift=shift, out=out)
    dense = k.scratch("gather float", out.shape, np.float32)
    k.reference.gather(source, index, scale=scale, shift=shift, out=dense)
    return convert(k, dense, out=out)


def _constants(k: Table, name: str, value: Any, dtype: np.dtype) -> Any:
    """A scale or shift that is a contiguous array of dtype, or what it was."""
    if getattr(value, "ndim", 0) != 1 or (value.dtype == dtype and contiguous(value)):
        return value
    converted = k.scratch(f"gather {name}", value.shape, dtype)
    k.xp.copyto(converted, value)
    return converted


def _scale(scale: Any, dtype: np.dtype) -> tuple[Any, Any]:
    """As the kernels take it: an array or null, and a number."""
    if getattr(scale, "ndim", 0) == 1:
        return scale, dtype.type(1)
    return NULL, dtype.type(1 if scale is None else scale)


TWINS = (gather, gather_sparse)
