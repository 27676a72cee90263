"""Numbers stored otherwise, and slopes with the sums of columns; parts of other twins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.devices.cuda.twins.launching import (
    BLOCKS,
    MANY,
    NULL,
    STORED,
    THREADS,
    WARP,
    as_row,
    blocks_of,
    launch,
    power_of_two,
    stride,
    zeroed_counters,
)

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table


def convert(k: Table, source: Array, *, out: Array) -> None:
    """out <- source, from its dtype, float32, float64 or (uint16) bfloat16, to that of out.

    Both (R, C) or (C,); the numbers of a row lie side by side.
    """
    table, into = as_row(source), as_row(out)
    rows, columns = into.shape
    wide = 4 if columns % 4 == 0 and stride(table) % 4 == 0 and stride(into) % 4 == 0 else 1
    packs = columns // wide
    kernel = f"convert<{STORED[source.dtype]}, {STORED[out.dtype]}, {wide}>"
    args: tuple[Any, ...] = (
        table,
        np.int64(stride(table)),
        into,
        np.int64(stride(into)),
        np.uint32(rows),
        np.uint32(packs),
    )
    launch(k, "convert.cu", kernel, blocks_of(rows * packs, THREADS), THREADS, args)


def slope_and_sum(k: Table, dy: Array, slope: Array, *, out: Array, db: Array, by_output: bool = False) -> None:
    """out <- dy * slope and db <- its sum over the batch, in one launch.

    dy, slope, out: (B, C), rows contiguous, db: (C,) of float32, or float64 if dy is. slope: bool, or of an operand's
    dtype; `by_output`: it is relu's output, and the slope 1 where that is positive. `out` may be dy.
    """
    rows, columns = out.shape
    large = out.size >= MANY and all(stride(array) % 4 == 0 for array in (dy, slope, out)) and columns % 4 == 0
    wide = 4 if large else 1
    blocks = blocks_of(columns, WARP * wide)
    if rows <= THREADS:
        shares, threads = 1, WARP * min(WARP, power_of_two(rows)) // wide
    else:
        shares, threads = max(1, min(BLOCKS // blocks, blocks_of(rows, WARP))), THREADS
    threads = max(threads, WARP)
    given = "bool" if slope.dtype == bool else STORED[slope.dtype]
    kind = f"Output<{given}>" if by_output else given
    kernel = f"slope_and_sum<{STORED[dy.dtype]}, {kind}, {STORED[out.dtype]}, {wide}>"
    partials, counters = NULL, NULL
    if shares > 1:
        partials = k.scratch("partial sums", (shares * columns,), db.dtype)
        counters = zeroed_counters(k, "columns", blocks)
    args: tuple[Any, ...] = (
        dy,
        np.int64(stride(dy)),
        slope,
        np.int64(stride(slope)),
        out,
        np.int64(stride(out)),
        db,
    )
    args = (*args, np.int32(rows), np.int32(columns), partials, counters)
    shared = threads * wide * db.dtype.itemsize
    k.device.kernel("columns.cu", kernel)((blocks, shares), (threads,), args, shared_mem=shared)
