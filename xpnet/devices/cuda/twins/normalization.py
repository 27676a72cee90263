"""Normalization over the batch or the layer, each direction in one launch or two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.devices.cuda.twins.launching import (
    BLOCKS,
    INT_MAX,
    LARGEST_BLOCK,
    NULL,
    REALS,
    STORED,
    THREADS,
    UNSIGNED_MAX,
    WARP,
    blocks_of,
    contiguous,
    launch,
    packed,
    real_of,
    stride,
    whole_columns,
    zeroed_counters,
)

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table

FILE = "normalization.cu"

LONG_ROW = 1024
"""Columns from which a row is a block's, and no longer a warp's."""


def batch_norm(
    k: Table,
    z: Array,
    gain: Array,
    shift: Array,
    *,
    mean: Array,
    variance: Array,
    hat: Array,
    inverse: Array,
    out: Array,
) -> None:
    """In one launch, or in two where many blocks share the rows: for the statistics, and for all entries."""
    if not _covered(z, gain, shift, mean, variance, hat, inverse, out):
        return k.reference.batch_norm(z, gain, shift, mean=mean, variance=variance, hat=hat, inverse=inverse, out=out)
    (rows, columns), form = z.shape, _Columns(*z.shape)
    partials, counters = form.memory(k, 2, z.dtype)
    args: tuple[Any, ...] = (z, gain, shift, mean, variance, hat, inverse, out, np.int32(rows), np.int32(columns))
    form.launch(k, "batch_norm", REALS[z.dtype], (*args, partials, counters))
    return None if form.shares == 1 else _normalize(k, z, gain, shift, partials, inverse, hat, out)


def batch_norm_inference(
    k: Table, z: Array, gain: Array, shift: Array, *, mean: Array, variance: Array, out: Array
) -> None:
    """In one launch."""
    if not _covered(z, gain, shift, mean, variance, out):
        return k.reference.batch_norm_inference(z, gain, shift, mean=mean, variance=variance, out=out)
    return _normalize(k, z, gain, shift, mean, variance, NULL, out)


def batch_norm_backward(
    k: Table, dy: Array, gain: Array, *, hat: Array, inverse: Array, dshift: Array, dgain: Array, out: Array
) -> None:
    """In one launch, or in two where many blocks share the rows; dy and out may hold bfloat16."""
    if not _covered(hat, gain, inverse, dshift, dgain, gradients=(dy, out)):
        return k.reference.batch_norm_backward(dy, gain, hat=hat, inverse=inverse, dshift=dshift, dgain=dgain, out=out)
    (rows, columns), form = dy.shape, _Columns(*dy.shape)
    if form.shares > 1:
        _gain_gradient(k, form, dy, hat, dgain)
    args: tuple[Any, ...] = (dy, np.int64(stride(dy)), gain, hat, inverse, dshift, dgain, hat.dtype.type(1 / rows))
    args = (*args, out, np.int64(stride(out)))
    if form.shares == 1:
        return form.launch(k, "batch_norm_backward", STORED[dy.dtype], (*args, np.int32(rows), np.int32(columns)))
    wide = _wide(columns, dy, out)
    args = (*args, np.uint32(rows), np.uint32(columns // wide))
    return _entries(k, f"batch_norm_gradient<{STORED[dy.dtype]}, {wide}>", hat.size // wide, args)


def layer_norm(k: Table, z: Array, gain: Array, shift: Array, *, hat: Array, inverse: Array, out: Array) -> None:
    """In one launch."""
    if not _covered(z, gain, shift, hat, inverse, out):
        return k.reference.layer_norm(z, gain, shift, hat=hat, inverse=inverse, out=out)
    return _rows(k, "layer_norm", REALS[z.dtype], z.shape, (z, gain, shift, hat, inverse, out))


def layer_norm_backward(
    k: Table, dy: Array, gain: Array, *, hat: Array, inverse: Array, dgain: Array, out: Array
) -> None:
    """In two launches, down the columns and along the rows; dy and out may hold bfloat16."""
    if not _covered(hat, gain, inverse, dgain, gradients=(dy, out)):
        return k.reference.layer_norm_backward(dy, gain, hat=hat, inverse=inverse, dgain=dgain, out=out)
    _gain_gradient(k, _Columns(*dy.shape), dy, hat, dgain)
    args = (dy, np.int64(stride(dy)), gain, hat, inverse, out, np.int64(stride(out)))
    return _rows(k, "layer_norm_gradient", STORED[dy.dtype], dy.shape, args)


class _Columns:
    """How many columns a block takes, how many blocks share the rows, and how many threads these have."""

    def __init__(self, rows: int, columns: int) -> None:
        self.columns, self.blocks = columns, blocks_of(columns, WARP)
        self.shares = max(1, min(BLOCKS // self.blocks, blocks_of(rows, WARP))) if rows > LARGEST_BLOCK else 1
        if self.shares > 1:
            self.width, self.threads = WARP, THREADS
            self.shares = blocks_of(rows, blocks_of(rows, self.shares))  # none without a row
        else:
            self.width, self.blocks, self.threads = whole_columns(rows, columns)

    def memory(self, k: Table, sums: int, dtype: np.dtype) -> tuple[Any, Any]:
        """Partial sums, so many for each column and share, and counters."""
        if self.shares == 1:
            return NULL, NULL
        partials = k.scratch("partial sums", (sums * self.shares * self.columns,), dtype)
        return partials, zeroed_counters(k, "columns", self.blocks)

    def launch(self, k: Table, name: str, kind: str, args: tuple[Any, ...]) -> None:
        """A kernel of this form."""
        kernel = k.device.kernel(FILE, f"{name}<{kind}, {self.width}>")
        kernel((self.blocks, self.shares), (self.threads,), args, shared_mem=0)


def _covered(z: Array, *arrays: Array, gradients: tuple[Array, ...] = ()) -> bool:
    """Whether all are contiguous and of z's dtype; the gradients are rows of that, or of bfloat16."""
    covered = z.dtype in REALS and all(array.dtype == z.dtype for array in arrays) and contiguous(z, *arrays)
    covered = covered and z.size <= UNSIGNED_MAX and max(z.shape) <= INT_MAX // 2
    stored = {array.dtype for array in gradients}
    return covered and len(stored) <= 1 and all(real_of(a) == z.dtype and packed(a) for a in gradients)


def _normalize(k: Table, z: Array, gain: Array, shift: Array, mean: Array, given: Array, hat: Any, out: Array) -> None:
    (rows, columns), wide = z.shape, _wide(z.shape[1])
    args = (z, gain, shift, mean, given, hat, out, np.uint32(rows), np.uint32(columns // wide))
    _entries(k, f"normalize<{REALS[z.dtype]}, {wide}>", z.size // wide, args)


def _gain_gradient(k: Table, form: _Columns, dy: Array, hat: Array, dgain: Array) -> None:
    (rows, columns), memory = dy.shape, form.memory(k, 1, hat.dtype)
    args = (dy, np.int64(stride(dy)), hat, dgain, np.int32(rows), np.int32(columns), *memory)
    form.launch(k, "gain_gradient", STORED[dy.dtype], args)


def _rows(k: Table, name: str, kind: str, shape: tuple[int, int], args: tuple[Any, ...]) -> None:
    """A kernel whose groups of threads have a row each: few groups a block, until there are many blocks."""
    rows, columns = shape
    group = WARP if columns < LONG_ROW else THREADS
    groups = 1 if rows <= BLOCKS else THREADS // group
    args = (*args, np.int32(rows), np.int32(columns))
    launch(k, FILE, f"{name}<{kind}, {group}>", blocks_of(rows, groups), groups * group, args)


def _wide(columns: int, *strided: Array) -> int:
    """How many columns a thread takes."""
    return 4 if columns % 4 == 0 and all(stride(array) % 4 == 0 for array in strided) else 1


def _entries(k: Table, kernel: str, items: int, args: tuple[Any, ...]) -> None:
    launch(k, FILE, kernel, blocks_of(items, THREADS), THREADS, args)


TWINS = (batch_norm, batch_norm_inference, batch_norm_backward, layer_norm, layer_norm_backward)
