"""CUDA's twins of kernels: the same names and signatures as the references, one launch each.

Each hands what it does not cover to `k.reference`, deciding on dtypes, options and shapes alone. An output of dtype
uint16 and two dimensions holds bfloat16 bits; there the reference's float32 numbers are converted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table

LOG_SMALLEST = math.log(1e-10)
"""As in the reference."""

ORDER_KEEPING = frozenset({"softmax", "sigmoid", "linear"})
"""As in the reference."""

NUMBERS = {
    np.dtype(kind): name
    for kind, name in {
        np.bool_: "bool",
        np.int8: "signed char",
        np.uint8: "unsigned char",
        np.int16: "short",
        np.uint16: "unsigned short",
        np.int32: "int",
        np.uint32: "unsigned int",
        np.int64: "long long",
        np.uint64: "unsigned long long",
        np.float32: "float",
        np.float64: "double",
    }.items()
}
"""C++ names of what a source may hold."""

REALS = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
BFLOAT16 = np.dtype(np.uint16)
STORED = {**REALS, BFLOAT16: "bfloat16"}
"""C++ names of what operands of products are stored as."""

CLASSES = {np.dtype(np.int32): "int", np.dtype(np.int64): "long long"}

WORDS = {16: "Pack<unsigned int, 4>", 8: "Pack<unsigned int, 2>", 4: "Pack<unsigned int, 1>"}
WORDS |= {2: "Pack<unsigned short, 1>", 1: "Pack<unsigned char, 1>"}
"""C++ names of so many bytes, copied at once."""

WARP = 32
THREADS = 256
LARGEST_BLOCK = 1024
SHARED = 36 << 10
"""Bytes of shared memory that a kernel may ask for: a block has 48 KiB, some of which kernels take unasked."""

BLOCKS = 528
"""How many blocks fill a large GPU: 4 on each of 132 multiprocessors."""

ONE_BLOCK = 8192
"""Up to how many numbers one block is as fast as many, whose sums somebody has to add up."""

WIDEST = 8192
"""Columns that a block of `THREADS` keeps in registers, `ENTRIES` a thread."""

ENTRIES = (1, 2, 3, 4, 6, 8, 16, 32)
"""How many columns a thread may have: few kinds, so that few kernels are compiled."""

MANY = 1 << 18
"""Stores from which a thread has several under way at a time: before, more threads are better."""

NULL = np.intp(0)
INT_MAX = 2**31 - 1
UNSIGNED_MAX = 2**32 - 1

_counters: WeakKeyDictionary[Table, dict[tuple[str, int], Array]] = WeakKeyDictionary()


# Gathering


def gather(k: Table, source: Array, index: Array, *, scale: Any = None, shift: Array | None = None, out: Array) -> None:
    """Rows as they are, or scaled and shifted, many bytes at a time. A source of dtype uint16 holds whole numbers."""
    table, into = _rows(source), _rows(out)
    if not _gathers(table, index, into):
        return _gather_by_reference(k, source, index, scale, shift, out)
    if source.dtype == out.dtype and scale is None and shift is None and not _is_bfloat16(out):
        return _take(k, table, index, into)
    if source.dtype not in NUMBERS or _stored(out) is None:
        return _gather_by_reference(k, source, index, scale, shift, out)
    real = _real(out)
    scale, shift = (_constants(k, name, value, real) for name, value in (("scale", scale), ("shift", shift)))
    rows, columns = into.shape
    wide = 4 if columns % 4 == 0 and _stride(table) % 4 == 0 and _stride(into) % 4 == 0 else 1
    packs = columns // wide
    together = 4 if rows * packs >= MANY else 1
    kernel = f"gather<{NUMBERS[source.dtype]}, {_stored(out)}, {wide}, {together}>"
    by, factor = _scale(scale, real)
    args: tuple[Any, ...] = (table, np.int64(_stride(table)), index, by, factor, NULL if shift is None else shift)
    args = (*args, into, np.int64(_stride(into)), np.uint32(rows), np.uint32(packs))
    return _launch(k, "gather.cu", kernel, _blocks(rows * packs, THREADS * together), THREADS, args)


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
    _launch(k, "gather.cu", kernel, _blocks(rows * words, THREADS * together), THREADS, args)


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
    covered = columns.dtype.kind in "iu" and values.dtype in NUMBERS and _stored(out) is not None
    covered = covered and _contiguous(columns, values, index) and index.dtype == np.int64 and _packed(out)
    if not covered:
        if not _is_bfloat16(out):
            return k.reference.gather_sparse(columns, values, index, scale=scale, shift=shift, out=out)
        dense = k.scratch("gather float", out.shape, np.float32)
        k.reference.gather_sparse(columns, values, index, scale=scale, shift=shift, out=dense)
        return convert(k, dense, out=out)
    real = _real(out)
    scale, shift = (_constants(k, name, value, real) for name, value in (("scale", scale), ("shift", shift)))
    rows, width = out.shape
    kernel = f"gather_sparse<{NUMBERS[columns.dtype]}, {NUMBERS[values.dtype]}, {_stored(out)}>"
    args: tuple[Any, ...] = (columns, values, np.int32(columns.shape[1]), index, *_scale(scale, real))
    args = (*args, NULL if shift is None else shift, out, np.int64(_stride(out)), np.int32(width))
    return _launch(k, "gather.cu", kernel, rows, min(THREADS, _whole_warps(width)), args)


def _gathers(source: Array, index: Array, out: Array) -> bool:
    shaped = source.ndim == out.ndim == 2 and index.dtype == np.int64 and _contiguous(index)
    return shaped and _packed(source) and _packed(out) and out.size <= UNSIGNED_MAX


def _gather_by_reference(k: Table, source: Array, index: Array, scale: Any, shift: Array | None, out: Array) -> None:
    if not _is_bfloat16(out):
        return k.reference.gather(source, index, scale=scale, shift=shift, out=out)
    dense = k.scratch("gather float", out.shape, np.float32)
    k.reference.gather(source, index, scale=scale, shift=shift, out=dense)
    return convert(k, dense, out=out)


def _constants(k: Table, name: str, value: Any, dtype: np.dtype) -> Any:
    """A scale or shift that is a contiguous array of dtype, or what it was."""
    if getattr(value, "ndim", 0) != 1 or (value.dtype == dtype and _contiguous(value)):
        return value
    converted = k.scratch(f"gather {name}", value.shape, dtype)
    k.xp.copyto(converted, value)
    return converted


def _scale(scale: Any, dtype: np.dtype) -> tuple[Any, Any]:
    """As the kernels take it: an array or null, and a number."""
    if getattr(scale, "ndim", 0) == 1:
        return scale, dtype.type(1)
    return NULL, dtype.type(1 if scale is None else scale)


# Losses


def softmax_cross_entropy(
    k: Table,
    z: Array,
    t: Array,
    *,
    log_smallest: float = LOG_SMALLEST,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """Loss, gradient and bias gradient in one launch."""
    if not _softmax(k, z, t, log_smallest, weights, out, db, loss, None):
        options = {"log_smallest": log_smallest, "weights": weights, "db": db, "loss": loss}
        _loss_by_reference(k, k.reference.softmax_cross_entropy, z, t, out, options)


def scored_softmax_cross_entropy(
    k: Table,
    z: Array,
    t: Array,
    *,
    log_smallest: float = LOG_SMALLEST,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
    hits: Array,
) -> None:
    """Loss, gradient, bias gradient and hits in one launch."""
    if t.ndim != 1 or not _softmax(k, z, t, log_smallest, weights, out, db, loss, hits):
        k.hits(z, t, output="softmax", weights=weights, out=hits)
        k.softmax_cross_entropy(z, t, log_smallest=log_smallest, weights=weights, out=out, db=db, loss=loss)


def _softmax(
    k: Table,
    z: Array,
    t: Array,
    log_smallest: float,
    weights: Array | None,
    out: Array,
    db: Array,
    loss: Array,
    hits: Array | None,
) -> bool:
    """Whether the kernel covers this; if so, it is launched."""
    targets = CLASSES if t.ndim == 1 else {z.dtype: REALS.get(z.dtype)}
    if t.dtype not in targets or not _loss_covered(z, t, weights, out, db, loss):
        return False
    real, (rows, columns) = z.dtype.type, z.shape
    form = _Form(rows, columns, z.dtype)
    kernel = f"softmax_cross_entropy<{REALS[z.dtype]}, {_stored(out)}, {targets[t.dtype]}, {form.parameters}>"
    args: tuple[Any, ...] = (z, t, NULL if weights is None else weights, real(log_smallest), real(1 / rows))
    args = (*args, out, np.int64(_stride(out)), db, loss, NULL if hits is None else hits)
    args = (*args, np.int32(rows), np.int32(columns), *form.memory(k))
    _launch(k, "losses.cu", kernel, form.blocks, form.threads, args, form.shared)
    return True


def sigmoid_cross_entropy(
    k: Table, z: Array, t: Array, *, weights: Array | None = None, out: Array, db: Array, loss: Array
) -> None:
    """Loss, gradient and bias gradient in one launch."""
    if not _pointwise(k, "SigmoidCrossEntropy", z, t, "linear", 0.0, weights, out, db, loss):
        options = {"weights": weights, "db": db, "loss": loss}
        _loss_by_reference(k, k.reference.sigmoid_cross_entropy, z, t, out, options)


def squared_error(
    k: Table, z: Array, t: Array, *, output: str, weights: Array | None = None, out: Array, db: Array, loss: Array
) -> None:
    """Loss, gradient and bias gradient in one launch, after the output's."""
    if not _pointwise(k, "SquaredError", z, t, output, 0.0, weights, out, db, loss):
        options = {"output": output, "weights": weights, "db": db, "loss": loss}
        _loss_by_reference(k, k.reference.squared_error, z, t, out, options)


def absolute_error(
    k: Table, z: Array, t: Array, *, output: str, weights: Array | None = None, out: Array, db: Array, loss: Array
) -> None:
    """Loss, gradient and bias gradient in one launch, after the output's."""
    if not _pointwise(k, "AbsoluteError", z, t, output, 0.0, weights, out, db, loss):
        options = {"output": output, "weights": weights, "db": db, "loss": loss}
        _loss_by_reference(k, k.reference.absolute_error, z, t, out, options)


def huber(
    k: Table,
    z: Array,
    t: Array,
    *,
    output: str,
    delta: float = 1.0,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """Loss, gradient and bias gradient in one launch, after the output's."""
    if not _pointwise(k, "Huber", z, t, output, delta, weights, out, db, loss):
        options = {"output": output, "delta": delta, "weights": weights, "db": db, "loss": loss}
        _loss_by_reference(k, k.reference.huber, z, t, out, options)


def _pointwise(
    k: Table,
    name: str,
    z: Array,
    t: Array,
    output: str,
    delta: float,
    weights: Array | None,
    out: Array,
    db: Array,
    loss: Array,
) -> bool:
    """Whether the kernel covers this; if so, it is launched."""
    if t.dtype != z.dtype or not _loss_covered(z, t, weights, out, db, loss):
        return False
    y, slope = z, NULL
    if output != "linear":
        y, slope = (k.scratch(f"loss {what}", z.shape, z.dtype) for what in ("output", "slope"))
        getattr(k, output)(z, out=y, slope=slope)
    real, (rows, columns) = z.dtype.type, z.shape
    form = _Form(rows, columns, z.dtype)
    kernel = f"pointwise_loss<{REALS[z.dtype]}, {_stored(out)}, {name}, {form.parameters}>"
    args: tuple[Any, ...] = (y, slope, t, NULL if weights is None else weights, real(delta), real(1 / (rows * columns)))
    args = (*args, out, np.int64(_stride(out)), db, loss, np.int32(rows), np.int32(columns), *form.memory(k))
    _launch(k, "losses.cu", kernel, form.blocks, form.threads, args, form.shared)
    return True


def _loss_covered(z: Array, t: Array, weights: Array | None, out: Array, db: Array, loss: Array) -> bool:
    given = (z, t) if weights is None else (z, t, weights)
    reals = (z, db, loss) if weights is None else (z, db, loss, weights)
    covered = z.dtype in REALS and all(array.dtype == z.dtype for array in reals) and _contiguous(*given, db)
    covered = covered and t.shape in ((len(z),), z.shape) and len(z) <= INT_MAX // 2
    return covered and (out.dtype == z.dtype or _is_bfloat16(out)) and _packed(out) and z.shape[1] <= WIDEST


def _loss_by_reference(
    k: Table, reference: Callable[..., None], z: Array, t: Array, out: Array, options: dict[str, Any]
) -> None:
    if not _is_bfloat16(out):
        return reference(z, t, out=out, **options)
    dz = k.scratch("loss gradient", z.shape, z.dtype)
    reference(z, t, out=dz, **options)
    return convert(k, dz, out=out)


class _Form:
    """How many threads share a row of a loss, how many columns each has, and how many blocks there are."""

    def __init__(self, rows: int, columns: int, dtype: np.dtype) -> None:
        self.dtype, self.sums = dtype, columns + 2
        self.shared = 0
        if columns > THREADS:  # a block a row
            self.group, self.threads, groups = THREADS, THREADS, 1
            self.entries = _entries(columns, self.group)
        elif rows * columns <= ONE_BLOCK:
            self.group = _group_at_once(rows, columns)
            self.entries = _entries(columns, self.group)
            self.threads = min(LARGEST_BLOCK, _whole_warps(rows * self.group))
            while self._shared() > SHARED:
                self.threads = _whole_warps(self.threads // 2)
            groups = rows
            self.shared = self._shared()
        else:
            self.group = min(WARP, _power_of_two(-(-columns // 4)))
            self.entries = _entries(columns, self.group)
            self.threads, groups = THREADS, THREADS // self.group
            self.shared = self._shared()
        self.blocks = min(BLOCKS, -(-rows // groups))
        self.fan = self.blocks if self.blocks * self.sums <= 2 * ONE_BLOCK else math.isqrt(self.blocks - 1) + 1

    @property
    def parameters(self) -> str:
        """The last parameters of the kernel's template."""
        return f"{self.group}, {self.entries}"

    def memory(self, k: Table) -> tuple[Any, ...]:
        """The kernel's last arguments."""
        if self.blocks == 1:
            return NULL, NULL, np.int32(1)
        partials = k.scratch("partial sums", (self.blocks * self.sums,), self.dtype)
        return partials, _zeros(k, "losses", 1 + -(-self.blocks // self.fan)), np.int32(self.fan)

    def _shared(self) -> int:
        return self.threads // WARP * (self.group * self.entries + 2) * self.dtype.itemsize


def _group_at_once(rows: int, columns: int) -> int:
    """As many threads a row as one block has for all rows at once, at most one a column, and not too few."""
    group = min(WARP, _power_of_two(columns))
    while group > 1 and group * rows > LARGEST_BLOCK and -(-columns // (group // 2)) <= 8:
        group //= 2
    return group


def _entries(columns: int, group: int) -> int:
    return next(n for n in ENTRIES if n * group >= columns)


# Metrics


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
    covered = z.dtype in REALS and all(array.dtype == z.dtype for array in reals) and _contiguous(*given)
    return covered and t.shape in ((len(z),), z.shape) and max(z.shape) <= INT_MAX // 2


def _metric(k: Table, kernel: str, z: Array, t: Array, weights: Array | None, out: Array) -> None:
    rows, columns = z.shape
    group = min(WARP, _power_of_two(columns))
    one = z.size <= ONE_BLOCK
    threads = min(LARGEST_BLOCK, _whole_warps(rows * group)) if one else THREADS
    blocks = 1 if one else min(BLOCKS, _blocks(rows * group, threads))
    args: tuple[Any, ...] = (z, t, NULL if weights is None else weights, out, np.int32(rows), np.int32(columns))
    args = (*args, *_sum_memory(k, blocks, z.dtype))
    _launch(k, "metrics.cu", f"{kernel}{group}>", blocks, threads, args)


# Norms


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
    return x.dtype in REALS and out.dtype == x.dtype and _contiguous(x)


def _norm(k: Table, name: str, x: Array, numbers: tuple[Any, ...], out: Array) -> None:
    one = x.size <= ONE_BLOCK
    threads = min(LARGEST_BLOCK, _whole_warps(x.size)) if one else THREADS
    blocks = 1 if one else min(BLOCKS, _blocks(x.size, 4 * threads))
    args: tuple[Any, ...] = (x, np.int64(x.size), *numbers, out, *_sum_memory(k, blocks, x.dtype))
    _launch(k, "norm.cu", f"{name}<{REALS[x.dtype]}>", blocks, threads, args)


def _sum_memory(k: Table, blocks: int, dtype: np.dtype) -> tuple[Any, Any]:
    """Partial sums and counters of blocks that add up one number."""
    return k.scratch("partial sums", (blocks,), dtype), _zeros(k, "sums", 2)


# What other twins are made of


def random_bits(k: Table, *, key: Array, out: Array) -> None:
    """out_ij <- hash(hash(key + i) + j)."""
    if out.size > INT_MAX or not _contiguous(out):
        k.reference.random_bits(key=key, out=out)
        return
    rows, columns = out.shape
    args = (key, out, np.uint32(rows), np.uint32(columns))
    _launch(k, "dropout.cu", "random_bits", _blocks(out.size, THREADS), THREADS, args)


def dropout(k: Table, y: Array, *, key: Array, rate: float, out: Array, slope: Array | None = None) -> None:
    """out = y m / (1 - rate), slope <- slope m / (1 - rate), in one launch."""
    arrays = (y, out) if slope is None else (y, out, slope)
    if y.size > INT_MAX or y.dtype not in REALS or not _contiguous(*arrays) or len({a.dtype for a in arrays}) > 1:
        k.reference.dropout(y, key=key, rate=rate, out=out, slope=slope)
        return
    rows, columns = y.shape
    first, scale = np.uint32(min(round(rate * 2**32), UNSIGNED_MAX)), y.dtype.type(1 / (1 - rate))
    into = NULL if slope is None else slope
    args = (y, key, first, scale, out, into, np.uint32(rows), np.uint32(columns))
    _launch(k, "dropout.cu", f"dropout<{REALS[y.dtype]}>", _blocks(y.size, THREADS), THREADS, args)


def convert(k: Table, source: Array, *, out: Array) -> None:
    """out <- source, from its dtype, float32, float64 or (uint16) bfloat16, to that of out.

    Both (R, C) or (C,); the numbers of a row lie side by side.
    """
    table, into = _as_row(source), _as_row(out)
    rows, columns = into.shape
    wide = 4 if columns % 4 == 0 and _stride(table) % 4 == 0 and _stride(into) % 4 == 0 else 1
    packs = columns // wide
    kernel = f"convert<{STORED[source.dtype]}, {STORED[out.dtype]}, {wide}>"
    args: tuple[Any, ...] = (
        table,
        np.int64(_stride(table)),
        into,
        np.int64(_stride(into)),
        np.uint32(rows),
        np.uint32(packs),
    )
    _launch(k, "convert.cu", kernel, _blocks(rows * packs, THREADS), THREADS, args)


def slope_and_sum(k: Table, dy: Array, slope: Array, *, out: Array, db: Array, by_output: bool = False) -> None:
    """out <- dy * slope and db <- its sum over the batch, in one launch.

    dy, slope, out: (B, C), rows contiguous, db: (C,) of float32, or float64 if dy is. slope: bool, or of an operand's
    dtype; `by_output`: it is relu's output, and the slope 1 where that is positive. `out` may be dy.
    """
    rows, columns = out.shape
    large = out.size >= MANY and all(_stride(array) % 4 == 0 for array in (dy, slope, out)) and columns % 4 == 0
    wide = 4 if large else 1
    blocks = _blocks(columns, WARP * wide)
    if rows <= THREADS:
        shares, threads = 1, WARP * min(WARP, _power_of_two(rows)) // wide
    else:
        shares, threads = max(1, min(BLOCKS // blocks, _blocks(rows, WARP))), THREADS
    threads = max(threads, WARP)
    given = "bool" if slope.dtype == bool else STORED[slope.dtype]
    kind = f"Output<{given}>" if by_output else given
    kernel = f"slope_and_sum<{STORED[dy.dtype]}, {kind}, {STORED[out.dtype]}, {wide}>"
    partials, counters = NULL, NULL
    if shares > 1:
        partials = k.scratch("partial sums", (shares * columns,), db.dtype)
        counters = _zeros(k, "columns", blocks)
    args: tuple[Any, ...] = (
        dy,
        np.int64(_stride(dy)),
        slope,
        np.int64(_stride(slope)),
        out,
        np.int64(_stride(out)),
        db,
    )
    args = (*args, np.int32(rows), np.int32(columns), partials, counters)
    shared = threads * wide * db.dtype.itemsize
    k.device.kernel("columns.cu", kernel)((blocks, shares), (threads,), args, shared_mem=shared)


# Shapes and memory


def _is_bfloat16(out: Array) -> bool:
    return bool(out.dtype == BFLOAT16) and out.ndim == 2


def _stored(out: Array) -> str | None:
    """What an output's numbers are in C++, or None."""
    return "bfloat16" if _is_bfloat16(out) else REALS.get(out.dtype)


def _real(out: Array) -> np.dtype:
    """What the numbers of an output are computed with."""
    return np.dtype(np.float32) if _is_bfloat16(out) else out.dtype


def _rows(array: Array) -> Array:
    """(N, C), or (N, 1) of what is (N,)."""
    return array[:, None] if array.ndim == 1 else array


def _as_row(array: Array) -> Array:
    return array[None, :] if array.ndim == 1 else array


def _packed(array: Array) -> bool:
    """Whether the entries of each row lie side by side, and rows in whole entries."""
    beside = array.shape[1] == 1 or array.strides[1] == array.dtype.itemsize
    return bool(array.ndim == 2 and beside and array.strides[0] % array.dtype.itemsize == 0)


def _contiguous(*arrays: Array) -> bool:
    return all(array.flags.c_contiguous for array in arrays)


def _stride(array: Array) -> int:
    """From row to row, in entries."""
    return int(array.strides[0] // array.dtype.itemsize)


def _power_of_two(n: int) -> int:
    """The first that is not below n."""
    return 1 << (n - 1).bit_length()


def _whole_warps(threads: int) -> int:
    return -(-threads // WARP) * WARP


def _blocks(items: int, each: int) -> int:
    return -(-items // each)


def _zeros(k: Table, tag: str, count: int) -> Array:
    """Counters that are 0 between launches; a table's kernels run one after the other."""
    made = _counters.setdefault(k, {})
    if (tag, count) not in made:
        made[tag, count] = k.device.zeros((count,), np.uint32)
    return made[tag, count]


def _launch(
    k: Table, file: str, kernel: str, blocks: int, threads: int, args: tuple[Any, ...], shared: int = 0
) -> None:
    k.device.kernel(file, kernel)((blocks,), (threads,), args, shared_mem=shared)


TWINS: dict[str, Callable[..., Any]] = {
    twin.__name__: twin
    for twin in (
        gather,
        gather_sparse,
        random_bits,
        dropout,
        softmax_cross_entropy,
        scored_softmax_cross_entropy,
        sigmoid_cross_entropy,
        squared_error,
        absolute_error,
        huber,
        squared_norm,
        clip_scale,
        hits,
        squared_errors,
    )
}
