"""Metrics: sums over a batch, which add up over batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.kernels.table import Table

ORDER_KEEPING = frozenset({"softmax", "sigmoid", "linear"})
"""Outputs whose largest entry is that of the largest z, and that need not be computed to find it."""


def hits(k: Table, z: Array, t: Array, *, output: str, weights: Array | None = None, out: Array) -> None:
    """out: () <- how many samples (or how much weight) the network with scores z: (B, O) gets right.

    t: (B,) integers: the largest output is that of the class; or (B, O) of 0 and 1: every sigmoid is on its side.
    """
    xp, right = k.xp, k.scratch("hits", (len(z),), bool)
    if output not in ORDER_KEEPING:
        y = k.like("hits output", z)
        getattr(k, output)(z, out=y)
        z = y
    if t.ndim == 1:
        largest = k.scratch("hits largest", (len(z),), np.int64)
        xp.argmax(z, axis=1, out=largest)
        xp.equal(largest, t, out=right)
    else:
        entries = k.scratch("hits entries", z.shape, bool)
        xp.greater(z, 0, out=entries)
        xp.equal(entries, t, out=entries)
        xp.all(entries, axis=1, out=right)
    _sum(k, right, weights=weights, out=out)


def grouped_hits(
    k: Table, z: Array, t: Array, *, groups: tuple[int, ...], weights: Array | None = None, out: Array
) -> None:
    """out: () <- how many samples (or how much weight) have their largest z of every group of columns where t says.

    z: (B, O), t: (B, G) integers, groups: the columns of each group.
    """
    xp, rows = k.xp, len(z)
    right, here = k.scratch("hits", (rows,), bool), k.scratch("hits here", (rows,), bool)
    largest, start = k.scratch("hits largest", (rows,), np.int64), 0
    right.fill(True)
    for i, size in enumerate(groups):
        xp.argmax(z[:, start : start + size], axis=1, out=largest)
        xp.equal(largest, t[:, i], out=here)
        xp.logical_and(right, here, out=right)
        start += size
    _sum(k, right, weights=weights, out=out)


def squared_errors(k: Table, z: Array, t: Array, *, output: str, weights: Array | None = None, out: Array) -> None:
    """out: () <- the sum over samples of mean_j (output(z)_ij - t_ij)^2. z, t: (B, O)."""
    xp, error = k.xp, k.like("squared errors", z)
    row = k.scratch("squared errors row", (len(z),), z.dtype)
    getattr(k, output)(z, out=error)
    xp.subtract(error, t, out=error)
    xp.multiply(error, error, out=error)
    xp.sum(error, axis=1, out=row)
    xp.multiply(row, 1 / z.shape[1], out=row)
    _sum(k, row, weights=weights, out=out)


def _sum(k: Table, values: Array, *, weights: Array | None, out: Array) -> None:
    if weights is not None:
        weighted = k.scratch("metric", values.shape, out.dtype)
        k.xp.multiply(values, weights, out=weighted)
        values = weighted
    k.xp.sum(values, dtype=out.dtype, out=out)
