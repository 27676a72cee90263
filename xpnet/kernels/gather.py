"""Batches out of a resident set of samples: raw * scale - shift, row by row number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.kernels.table import Table


def gather(k: Table, source: Array, index: Array, *, scale: Any = None, shift: Array | None = None, out: Array) -> None:
    """out <- source[index] * scale - shift.

    source: (N, I) or (N,) of any dtype, index: (B,) int64, scale: a float or (I,), shift: (I,), out: (B, I) or (B,).
    """
    if source.dtype == out.dtype:
        k.device.take(source, index, out=out)
        if scale is not None:
            k.xp.multiply(out, scale, out=out)
    else:
        raw = k.scratch("gather", out.shape, source.dtype)
        k.device.take(source, index, out=raw)
        # Without a dtype, bytes times a Python float would be computed in float64.
        k.xp.multiply(raw, 1 if scale is None else scale, out=out, dtype=out.dtype)
    if shift is not None:
        k.xp.subtract(out, shift, out=out)


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
    """out <- dense rows of the sparse source, * scale - shift.

    columns: (N, K) integers and values: (N, K): row i has values[i, j] in column columns[i, j]; shorter rows repeat one
    of their entries. index: (B,) int64, out: (B, I).
    """
    xp, (rows, width), entries = k.xp, out.shape, columns.shape[1]
    place = k.scratch("sparse place", (rows, entries), np.int64)
    value = k.scratch("sparse value", (rows, entries), out.dtype)
    k.gather(columns, index, out=place)
    k.gather(values, index, out=value)
    xp.add(place, k.iota(rows, np.int64, step=width)[:, None], out=place)
    out.fill(0)
    xp.put(out.reshape(-1), place.reshape(-1), value.reshape(-1), mode="wrap")
    if scale is not None:
        xp.multiply(out, scale, out=out)
    if shift is not None:
        xp.subtract(out, shift, out=out)
