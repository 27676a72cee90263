"""Rows of tables in the place of codes, and what comes back for each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.devices.cuda.twins.columns import convert
from xpnet.devices.cuda.twins.launching import (
    INT_MAX,
    REALS,
    STORED,
    THREADS,
    UNSIGNED_MAX,
    WARP,
    blocks_of,
    contiguous,
    is_bfloat16,
    launch,
    packed,
    real_of,
    stored_as,
    stride,
)

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table


def copy_columns(k: Table, x: Array, *, out: Array) -> None:
    """In one launch, rounded where `out` is bfloat16."""
    columns = x[:, : out.shape[1]]
    if x.dtype not in STORED or stored_as(out) is None or not (packed(columns) and packed(out)):
        return k.reference.copy_columns(x, out=out)
    return convert(k, columns, out=out)


def embedding_forward(k: Table, codes: Array, table: Array, *, out: Array) -> None:
    """In one launch, rounded where `out` is bfloat16."""
    kind = stored_as(out)
    covered = kind is not None and _covered(codes, table, real_of(out)) and packed(out) and out.size <= UNSIGNED_MAX
    if not covered:
        return _forward_by_reference(k, codes, table, out)
    args: tuple[Any, ...] = (codes, np.int64(stride(codes)), table, np.int32(len(table)), out, np.int64(stride(out)))
    args = (*args, np.uint32(out.size), np.uint32(out.shape[1]))
    return launch(k, "embedding.cu", f"embedding_forward<{kind}>", blocks_of(out.size, THREADS), THREADS, args)


def embedding_backward(k: Table, codes: Array, dy: Array, *, out: Array) -> None:
    """A warp for each row of the table, which looks at all codes: (rows of the table) (samples / 32) steps of a warp.

    No sum depends on which warp comes first, and nothing has to be set to 0 before. Of 1,000 rows and 256 samples it is
    8,000 steps, of 100,000 rows and 16,384 samples 51 million, which a GPU has to be large for.
    """
    if not (_covered(codes, out, dy.dtype) and packed(dy) and max(len(out), len(codes)) <= INT_MAX // 2):
        return k.reference.embedding_backward(codes, dy, out=out)
    real, (rows, columns), count = REALS[out.dtype], out.shape, np.int32(len(codes))
    meant = k.scratch("embedding rows meant", codes.shape, np.int32)
    args: tuple[Any, ...] = (codes, np.int64(stride(codes)), np.int32(rows), meant, count)
    launch(k, "embedding.cu", f"rows_meant<{real}>", blocks_of(len(codes), THREADS), THREADS, args)
    args = (meant, dy, np.int64(stride(dy)), out, count, np.int32(rows), np.int32(columns))
    grid = blocks_of(rows, THREADS // WARP), blocks_of(columns, WARP)
    k.device.kernel("embedding.cu", f"embedding_backward<{real}>")(grid, (THREADS,), args)
    return None


def _covered(codes: Array, table: Array, real: np.dtype) -> bool:
    return real in REALS and codes.dtype == table.dtype == real and contiguous(table)


def _forward_by_reference(k: Table, codes: Array, table: Array, out: Array) -> None:
    if not is_bfloat16(out):
        return k.reference.embedding_forward(codes, table, out=out)
    rows = k.scratch("embedding float", out.shape, table.dtype)
    k.reference.embedding_forward(codes, table, out=rows)
    return convert(k, rows, out=out)


TWINS = (copy_columns, embedding_forward, embedding_backward)
