"""Metrics and norms: sums that end in one number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.devices.cuda.twins.launching import (
    BLOCKS,
    CLASSES,
    INT_MAX,
    LARGEST_BLOCK,
    NULL,
    ONE_BLOCK,
    REALS,
    THREADS,
    WARP,
    blocks_of,
    contiguous,
    launch,
    power_of_two,
    sum_memory,
    whole_columns,
    whole_warps,
)

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table

ORDER_KEEPING = frozenset({"softmax", "sigmoid", "linear"})
"""As in the reference."""


def hits(k: Table, z: Array, t: Array, *, output: str, weights: Array | None = None, out: Array) -> None:
    """In one launch, after the output where that may change the order."""
    real = out.dtype
    covered = real in REALS and _metric_covered(z, t, weights, out) and (t.ndim == 2 or t.dtype in CLASSES)
    if not covered or (t.ndim == 2 and t.dtype != real):
        return k.reference.hits(z, t, output=output, weights=weights, out=out)
    if output not in ORDER_KEEPING:
        y = k.scratch("hits output", z.shape, z.dtype)
        getattr(k, output)(z, out=y)
        z = y
    kernel = f"class_hits<{REALS[real]}, {CLASSES[t.dtype]}, " if t.ndim == 1 else f"label_hits<{REALS[real]}, "
    return _metric(k, kernel, z, t, weights, out)


def squared_errors(k: Table, z: Array, t: Array, *, output: str, weights: Array | None = None, out: Array) -> None:
    """In one launch, after the output's."""
    if t.dtype != z.dtype or not _metric_covered(z, t, weights, out):
        return k.reference.squared_errors(z, t, output=output, weights=weights, out=out)
    y = z
    if output != "linear":
        y = k.scratch("squared errors output", z.shape, z.dtype)
        getattr(k, output)(z, out=y)
    return _metric(k, f"squared_errors<{REALS[z.dtype]}, ", y, t, weights, out)


def _metric_covered(z: Array, t: Array, weights: Array | None, out: Array) -> bool:
    given = (z, t) if weights is None else (z, t, weights)
    reals = (z, out) if weights is None else (z, out, weights)
    covered = z.dtype in REALS and all(array.dtype == z.dtype for array in reals) and contiguous(*given)
    return covered and t.shape in ((len(z),), z.shape) and max(z.shape) <= INT_MAX // 2


def _metric(k: Table, kernel: str, z: Array, t: Array, weights: Array | None, out: Array) -> None:
    rows, columns = z.shape
    group = min(WARP, power_of_two(columns))
    one = z.size <= ONE_BLOCK
    threads = min(LARGEST_BLOCK, whole_warps(rows * group)) if one else THREADS
    blocks = 1 if one else min(BLOCKS, blocks_of(rows * group, threads))
    args: tuple[Any, ...] = (z, t, NULL if weights is None else weights, out, np.int32(rows), np.int32(columns))
    args = (*args, *sum_memory(k, blocks, z.dtype))
    launch(k, "metrics.cu", f"{kernel}{group}>", blocks, threads, args)


def squared_norm(k: Table, x: Array, *, out: Array) -> None:
    """In one launch."""
    if not _norm_covered(x, out):
        return k.reference.squared_norm(x, out=out)
    return _norm(k, "squared_norm", x, (), out)


def clip_scale(k: Table, g: Array, *, limit: float, out: Array) -> None:
    """In one launch."""
    if not _norm_covered(g, out):
        return k.reference.clip_scale(g, limit=limit, out=out)
    return _norm(k, "clip_scale", g, (g.dtype.type(limit),), out)


def _norm_covered(x: Array, out: Array) -> bool:
    return x.dtype in REALS and out.dtype == x.dtype and contiguous(x)


def _norm(k: Table, name: str, x: Array, numbers: tuple[Any, ...], out: Array) -> None:
    one = x.size <= ONE_BLOCK
    threads = min(LARGEST_BLOCK, whole_warps(x.size)) if one else THREADS
    blocks = 1 if one else min(BLOCKS, blocks_of(x.size, 4 * threads))
    args: tuple[Any, ...] = (x, np.int64(x.size), *numbers, out, *sum_memory(k, blocks, x.dtype, sums=2))
    launch(k, "norm.cu", f"{name}<{REALS[x.dtype]}>", blocks, threads, args)


def max_norm(k: Table, w: Array, *, limit: float) -> None:
    """In one launch."""
    if w.dtype not in REALS or not contiguous(w) or max(w.shape) > INT_MAX // 2:
        return k.reference.max_norm(w, limit=limit)
    width, blocks, threads = whole_columns(*w.shape)
    args = (w, w.dtype.type(limit), *map(np.int32, w.shape))
    return launch(k, "norm.cu", f"max_norm<{REALS[w.dtype]}, {width}>", blocks, threads, args)


TWINS = (hits, squared_errors, squared_norm, clip_scale, max_norm)
