"""Dropout by a counter-based generator: the same mask on every device, without a state, whatever else is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.kernels.table import Table

BITS = 32


def dropout(k: Table, y: Array, *, key: Array, rate: float, out: Array, slope: Array | None = None) -> None:
    """out = y m / (1 - rate), slope <- slope m, with m_ij = 1 with probability 1 - rate, else 0.

    y: (B, O), key: () uint32, rate from 0 to below 1; `out` may be y. The mean of out is y. The slope, which may be
    bool, has no factor: the backward product brings it. (Srivastava et al. 2014, section 10, with the factor at
    training time.)
    """
    xp = k.xp
    bits, kept = k.scratch("dropout bits", y.shape, np.uint32), k.scratch("dropout kept", y.shape, bool)
    k.random_bits(key=key, out=bits)
    xp.greater_equal(bits, _threshold(rate), out=kept)
    if slope is not None:
        xp.multiply(slope, kept, out=slope)
    factor = k.like("dropout factor", y)
    xp.multiply(kept, 1 / (1 - rate), out=factor, dtype=y.dtype)
    xp.multiply(y, factor, out=out)


def random_bits(k: Table, *, key: Array, out: Array) -> None:
    """out_ij <- hash(hash(key + i) + j): 32 bits that look random, for key: () uint32 and out: (B, O) uint32.

    The hash is lowbias32, a bijection of 32-bit words of low bias (Wellons 2018, "Prospecting for hash functions").
    """
    xp, (rows, columns) = k.xp, out.shape
    row = k.scratch("random row", (rows, 1), np.uint32)
    xp.add(k.iota(rows, np.uint32)[:, None], key, out=row)
    _mix(k, row, "random row shifted")
    xp.add(row, k.iota(columns, np.uint32)[None, :], out=out)
    _mix(k, out, "random shifted")


def _mix(k: Table, x: Array, tag: str) -> None:
    """x <- lowbias32(x)."""
    xp, shifted = k.xp, k.like(tag, x)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, None)):
        xp.right_shift(x, shift, out=shifted)
        xp.bitwise_xor(x, shifted, out=x)
        if factor is not None:
            xp.multiply(x, factor, out=x)


def _threshold(rate: float) -> int:
    """The first word that is kept: so many of all words are below it."""
    return min(round(rate * 2**BITS), 2**BITS - 1)
