"""Learnt rows in the place of codes, forward and backward.

A code is a whole number, stored as the samples are; one beyond its table means the nearest row, so that nothing outside
is ever read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.kernels.table import Table

ONES = 2**20
"""Entries of the largest matrix that says which codes mean which rows."""


def copy_columns(k: Table, x: Array, *, out: Array) -> None:
    """out <- the first columns of x, as many as it has. x: (B, I), out: (B, C); rows may lie apart."""
    k.xp.copyto(out, x[:, : out.shape[1]])


def embedding_forward(k: Table, codes: Array, table: Array, *, out: Array) -> None:
    """out = table[codes]. codes: (B,) floats, table: (R, W), out: (B, W); codes and rows of `out` may lie apart."""
    k.device.take(table, _rows_meant(k, codes, len(table)), out=out)


def embedding_backward(k: Table, codes: Array, dy: Array, *, out: Array) -> None:
    """d table: out_r = the sum of dy_i over all samples i whose code is r, 0 where there are none; in a fixed order.

    It is the product of dy with the matrix whose entry (r, i) is 1 where the code of sample i is r, else 0; made here
    for some rows of the table at a time.

    codes: (B,) floats, as in the forward pass, dy: (B, W), out: (R, W), contiguous; codes and rows of dy may lie apart.
    """
    meant = _rows_meant(k, codes, len(out))
    beside = k.like("embedding dy", dy)
    k.xp.copyto(beside, dy)
    numbers, step = k.iota(len(out), np.int64), max(1, ONES // len(codes))
    for start in range(0, len(out), step):
        rows = slice(start, start + step)
        ones = k.scratch("embedding ones", (len(out[rows]), len(codes)), dy.dtype)
        k.xp.equal(numbers[rows, None], meant, out=ones)
        k.gemm(ones, beside, out=out[rows])


def _rows_meant(k: Table, codes: Array, rows: int) -> Array:
    """(B,) the number of the row that each code means; 0 for NaN."""
    nearest, meant = k.like("embedding nearest", codes), k.scratch("embedding rows", codes.shape, np.int64)
    k.xp.fmax(codes, 0, out=nearest)
    k.xp.fmin(nearest, rows - 1, out=nearest)
    k.xp.add(nearest, 0, out=meant, casting="unsafe")
    return meant
