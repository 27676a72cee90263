"""Twins of losses: loss, gradient and bias gradient block by block. Targets of another dtype go to the references."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.devices.cpu.nodes import losses as nodes
from xpnet.devices.cpu.nodes.compiling import constant
from xpnet.devices.cpu.twins.activations import EXPONENTIAL
from xpnet.devices.cpu.twins.sums import (
    columns_of_parts,
    ends_of,
    of_one_kind,
    or_empty,
    room_of_parts,
    sum_columns,
    sum_totals,
    totals_of_parts,
)

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table

LOG_SMALLEST = math.log(1e-10)
"""As in the reference."""

PASSES = 6
"""Numbers that are read or written for each entry."""

ROW = 64
"""How many numbers read and written take as long as what is done once a row."""

OPTIONS = 2
"""Of a pointwise loss."""


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
    """By classes, or by probabilities."""
    options: dict[str, Any] = {"log_smallest": log_smallest, "smoothing": smoothing, "weights": weights}
    options |= {"out": out, "db": db, "loss": loss}
    if not of_one_kind(z, weights, t if t.ndim == 2 else None):
        return k.reference.softmax_cross_entropy(z, t, **options)
    if t.ndim == 2:
        return _softmax(nodes.softmax_cross_entropy_of_probabilities, (z.dtype,), k, z, t, **options)
    return _softmax(nodes.softmax_cross_entropy, (t.dtype, z.dtype), k, z, t[:, None], **options)


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
    """Group by group, while a block of rows is in the cache."""
    options: dict[str, Any] = {"log_smallest": log_smallest, "smoothing": smoothing, "weights": weights}
    options |= {"out": out, "db": db, "loss": loss}
    if not of_one_kind(z, weights):
        return k.reference.grouped_softmax_cross_entropy(z, t, groups=groups, **options)
    node, kinds = nodes.grouped_softmax_cross_entropy, (t.dtype, z.dtype)
    return _softmax(node, kinds, k, z, t, ends_of(groups), **options)


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
    """The hits, then the loss: nodes of their own, where the reference would be recorded as a call of Python."""
    k.hits(z, t, output="softmax", weights=weights, out=hits)
    k.softmax_cross_entropy(
        z, t, log_smallest=log_smallest, smoothing=smoothing, weights=weights, out=out, db=db, loss=loss
    )


def _softmax(
    node: Callable[..., Any],
    kinds: tuple[np.dtype, ...],
    k: Table,
    z: Array,
    t: Array,
    *ends: Array,
    log_smallest: float,
    smoothing: float,
    weights: Array | None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """By classes t: (B, 1), or (B, G) where there are ends of groups, or probabilities t: (B, O)."""
    parts = k.device.parts(numbers=(PASSES + EXPONENTIAL) * z.size + ROW * len(z))
    sums, totals, room = columns_of_parts(k, parts, db), totals_of_parts(k, parts), room_of_parts(k, 2 * parts, z)
    numbers = (constant(number, z.dtype) for number in (log_smallest, smoothing))
    arguments = z, t, out, sums, totals, room, or_empty(k, weights, z), *numbers, *ends
    k.device.do(node, *arguments, kinds=kinds, parts=parts)
    sum_columns(k, sums, db)
    sum_totals(k, totals, loss)


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
    """One exponential an entry."""
    results = {"scale": scale, "weights": weights, "out": out, "db": db, "loss": loss}
    if not of_one_kind(z, t, weights):
        return k.reference.sigmoid_cross_entropy(z, t, largest=largest, smoothing=smoothing, **results)
    return _pointwise("sigmoid_cross_entropy", k, z, t, None, [largest, smoothing], **results)


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
    """After the output."""
    results = {"scale": scale, "weights": weights, "out": out, "db": db, "loss": loss}
    if not of_one_kind(z, t, weights):
        return k.reference.huber(z, t, output=output, delta=delta, **results)
    y, slope = _output(k, z, output, out)
    return _pointwise("huber", k, y, t, slope, [delta], **results)


def _twin(name: str) -> Callable[..., None]:
    def twin(
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
        results = {"scale": scale, "weights": weights, "out": out, "db": db, "loss": loss}
        if not of_one_kind(z, t, weights):
            return getattr(k.reference, name)(z, t, output=output, **results)
        y, slope = (z, None) if name == "poisson" else _output(k, z, output, out)
        return _pointwise(name, k, y, t, slope, [], **results)

    twin.__name__ = twin.__qualname__ = name
    twin.__doc__ = "After the output; poisson does its own."
    return twin


squared_error, absolute_error, poisson = map(_twin, ("squared_error", "absolute_error", "poisson"))


def _output(k: Table, z: Array, output: str, out: Array) -> tuple[Array, Array | None]:
    """The output and its slope, which is None for 1."""
    if output == "linear":
        return z, None
    slope = k.like("loss slope", z)
    getattr(k, output)(z, out=out, slope=slope)
    return out, slope


def _pointwise(
    name: str,
    k: Table,
    y: Array,
    t: Array,
    slope: Array | None,
    options: list[float],
    *,
    scale: float | None,
    weights: Array | None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """The loss of that name at outputs (or pre-activations) y."""
    dtype, (rows, columns) = y.dtype, y.shape
    costly = 2 * EXPONENTIAL * (name in ("poisson", "sigmoid_cross_entropy"))
    parts = k.device.parts(numbers=(PASSES + costly) * y.size + ROW * rows)
    sums, totals, room = columns_of_parts(k, parts, db), totals_of_parts(k, parts), room_of_parts(k, parts, y)
    slopes = k.scratch("no slope", (0, columns), dtype) if slope is None else slope
    numbers = [1 / columns if scale is None else scale, *options, *[0.0] * (OPTIONS - len(options))]
    arguments = y, t, out, sums, totals, room, slopes, or_empty(k, weights, y)
    constants = [constant(number, dtype) for number in numbers]
    k.device.do(nodes.pointwise, *arguments, *constants, kinds=(name, dtype), parts=parts)
    sum_columns(k, sums, db)
    sum_totals(k, totals, loss)
