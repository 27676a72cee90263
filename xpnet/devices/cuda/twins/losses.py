"""Losses, each with its gradient and bias gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.devices.cuda.twins.columns import convert
from xpnet.devices.cuda.twins.launching import (
    BLOCKS,
    CLASSES,
    ENTRIES,
    INT_MAX,
    LARGEST_BLOCK,
    NULL,
    ONE_BLOCK,
    REALS,
    SHARED,
    THREADS,
    WARP,
    WIDEST,
    contiguous,
    is_bfloat16,
    launch,
    packed,
    power_of_two,
    stored_as,
    stride,
    whole_warps,
    zeroed_counters,
)

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table

LOG_SMALLEST = math.log(1e-10)
"""As in the reference."""


def softmax_cross_entropy(
    k: Table,
    z: Array,
    t: Array,
    *,
    log_smallest: float = LOG_SMALLEST,
    smoothing: float = 0.0,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """Loss, gradient and bias gradient in one launch."""
    if not _softmax(k, z, t, log_smallest, smoothing, weights, out, db, loss, None):
        options = {"log_smallest": log_smallest, "smoothing": smoothing, "weights": weights, "db": db, "loss": loss}
        _loss_by_reference(k, k.reference.softmax_cross_entropy, z, t, out, options)


def scored_softmax_cross_entropy(
    k: Table,
    z: Array,
    t: Array,
    *,
    log_smallest: float = LOG_SMALLEST,
    smoothing: float = 0.0,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
    hits: Array,
) -> None:
    """Loss, gradient, bias gradient and hits in one launch."""
    if t.ndim != 1 or not _softmax(k, z, t, log_smallest, smoothing, weights, out, db, loss, hits):
        k.hits(z, t, output="softmax", weights=weights, out=hits)
        options = {"log_smallest": log_smallest, "smoothing": smoothing, "weights": weights}
        k.softmax_cross_entropy(z, t, **options, out=out, db=db, loss=loss)


def _softmax(
    k: Table,
    z: Array,
    t: Array,
    log_smallest: float,
    smoothing: float,
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
    kernel = f"softmax_cross_entropy<{REALS[z.dtype]}, {stored_as(out)}, {targets[t.dtype]}, {form.parameters}>"
    args: tuple[Any, ...] = (z, t, NULL if weights is None else weights)
    args = (*args, real(log_smallest), real(smoothing), real(1 / rows))
    args = (*args, out, np.int64(stride(out)), db, loss, NULL if hits is None else hits)
    args = (*args, np.int32(rows), np.int32(columns), *form.memory(k))
    launch(k, "losses.cu", kernel, form.blocks, form.threads, args, form.shared)
    return True


def grouped_softmax_cross_entropy(
    k: Table,
    z: Array,
    t: Array,
    *,
    groups: tuple[int, ...],
    log_smallest: float = LOG_SMALLEST,
    smoothing: float = 0.0,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """Group by group, as the reference."""
    options: dict[str, Any] = {"groups": groups, "log_smallest": log_smallest, "smoothing": smoothing}
    options |= {"weights": weights, "db": db, "loss": loss}
    _loss_by_reference(k, k.reference.grouped_softmax_cross_entropy, z, t, out, options)


def sigmoid_cross_entropy(
    k: Table,
    z: Array,
    t: Array,
    *,
    scale: float | None = None,
    largest: float = math.inf,
    smoothing: float = 0.0,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """Loss, gradient and bias gradient in one launch."""
    options = {"scale": scale, "smoothing": smoothing, "weights": weights, "db": db, "loss": loss}
    if not _pointwise(k, "SigmoidCrossEntropy", z, t, bound=largest, out=out, **options):
        _loss_by_reference(k, k.reference.sigmoid_cross_entropy, z, t, out, {"largest": largest, **options})


def squared_error(
    k: Table,
    z: Array,
    t: Array,
    *,
    output: str,
    scale: float | None = None,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """Loss, gradient and bias gradient in one launch, after the output's."""
    options = {"output": output, "scale": scale, "weights": weights, "db": db, "loss": loss}
    if not _pointwise(k, "SquaredError", z, t, out=out, **options):
        _loss_by_reference(k, k.reference.squared_error, z, t, out, options)


def absolute_error(
    k: Table,
    z: Array,
    t: Array,
    *,
    output: str,
    scale: float | None = None,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """Loss, gradient and bias gradient in one launch, after the output's."""
    options = {"output": output, "scale": scale, "weights": weights, "db": db, "loss": loss}
    if not _pointwise(k, "AbsoluteError", z, t, out=out, **options):
        _loss_by_reference(k, k.reference.absolute_error, z, t, out, options)


def huber(
    k: Table,
    z: Array,
    t: Array,
    *,
    output: str,
    delta: float = 1.0,
    scale: float | None = None,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """Loss, gradient and bias gradient in one launch, after the output's."""
    options = {"output": output, "scale": scale, "weights": weights, "db": db, "loss": loss}
    if not _pointwise(k, "Huber", z, t, bound=delta, out=out, **options):
        _loss_by_reference(k, k.reference.huber, z, t, out, {"delta": delta, **options})


def poisson(
    k: Table,
    z: Array,
    t: Array,
    *,
    output: str,
    scale: float | None = None,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """Loss, gradient and bias gradient in one launch."""
    options: dict[str, Any] = {"scale": scale, "weights": weights, "db": db, "loss": loss}
    if not _pointwise(k, "Poisson", z, t, out=out, **options):
        _loss_by_reference(k, k.reference.poisson, z, t, out, {"output": output, **options})


def _pointwise(
    k: Table,
    name: str,
    z: Array,
    t: Array,
    *,
    output: str = "linear",
    bound: float = 0.0,
    smoothing: float = 0.0,
    scale: float | None,
    weights: Array | None,
    out: Array,
    db: Array,
    loss: Array,
) -> bool:
    """Whether the kernel covers this; if so, it is launched. output: What comes before the loss's own function."""
    if t.dtype != z.dtype or not _loss_covered(z, t, weights, out, db, loss):
        return False
    y, slope = z, NULL
    if output != "linear":
        y, slope = (k.scratch(f"loss {what}", z.shape, z.dtype) for what in ("output", "slope"))
        getattr(k, output)(z, out=y, slope=slope)
    real, (rows, columns) = z.dtype.type, z.shape
    scale = 1 / columns if scale is None else scale
    form = _Form(rows, columns, z.dtype)
    kernel = f"pointwise_loss<{REALS[z.dtype]}, {stored_as(out)}, {name}, {form.parameters}>"
    args: tuple[Any, ...] = (y, slope, t, NULL if weights is None else weights)
    args = (*args, real(bound), real(smoothing), real(scale / rows), real(scale))
    args = (*args, out, np.int64(stride(out)), db, loss, np.int32(rows), np.int32(columns), *form.memory(k))
    launch(k, "losses.cu", kernel, form.blocks, form.threads, args, form.shared)
    return True


def _loss_covered(z: Array, t: Array, weights: Array | None, out: Array, db: Array, loss: Array) -> bool:
    given = (z, t) if weights is None else (z, t, weights)
    reals = (z, db, loss) if weights is None else (z, db, loss, weights)
    covered = z.dtype in REALS and all(array.dtype == z.dtype for array in reals) and contiguous(*given, db)
    covered = covered and t.shape in ((len(z),), z.shape) and len(z) <= INT_MAX // 2
    return covered and (out.dtype == z.dtype or is_bfloat16(out)) and packed(out) and z.shape[1] <= WIDEST


def _loss_by_reference(
    k: Table, reference: Callable[..., None], z: Array, t: Array, out: Array, options: dict[str, Any]
) -> None:
    if not is_bfloat16(out):
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
            self.threads = min(LARGEST_BLOCK, whole_warps(rows * self.group))
            while self._shared() > SHARED:
                self.threads = whole_warps(self.threads // 2)
            groups = rows
            self.shared = self._shared()
        else:
            self.group = min(WARP, power_of_two(-(-columns // 4)))
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
        return partials, zeroed_counters(k, "losses", 1 + -(-self.blocks // self.fan)), np.int32(self.fan)

    def _shared(self) -> int:
        return self.threads // WARP * (self.group * self.entries + 2) * self.dtype.itemsize


def _group_at_once(rows: int, columns: int) -> int:
    """As many threads a row as one block has for all rows at once, at most one a column, and not too few."""
    group = min(WARP, power_of_two(columns))
    while group > 1 and group * rows > LARGEST_BLOCK and -(-columns // (group // 2)) <= 8:
        group //= 2
    return group


def _entries(columns: int, group: int) -> int:
    return next(n for n in ENTRIES if n * group >= columns)


TWINS = (
    softmax_cross_entropy,
    scored_softmax_cross_entropy,
    grouped_softmax_cross_entropy,
    sigmoid_cross_entropy,
    squared_error,
    absolute_error,
    huber,
    poisson,
)
