"""Twins of updates: in one pass over the blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from xpnet.devices.cpu.nodes import updates
from xpnet.devices.cpu.nodes.compiling import constant
from xpnet.devices.cpu.twins.sums import sum_totals, totals_of_parts

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table


def sgd_update(k: Table, w: Array, g: Array, *, lr: Array) -> None:
    """In one pass."""
    _update(updates.sgd_update, k, [w, g], [lr])


def momentum_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, momentum: float, l2: Array | None, clip: Array | None
) -> None:
    """In one pass."""
    _update(updates.momentum_update, k, [w, g, v], [lr, momentum, _none(l2), clip])


def nesterov_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, momentum: float, l2: Array | None, clip: Array | None
) -> None:
    """In one pass."""
    _update(updates.nesterov_update, k, [w, g, v], [lr, momentum, _none(l2), clip])


def velocity_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, momentum: float, l2: Array | None, clip: Array | None
) -> None:
    """In one pass."""
    _update(updates.velocity_update, k, [w, g, v], [lr, momentum, _none(l2), clip])


def nesterov_velocity_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, momentum: float, l2: Array | None, clip: Array | None
) -> None:
    """In one pass."""
    _update(updates.nesterov_velocity_update, k, [w, g, v], [lr, momentum, _none(l2), clip])


def adam_update(
    k: Table,
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    size: Array,
    eps: Array,
    beta1: float,
    beta2: float,
    l2: Array | None,
    clip: Array | None,
) -> None:
    """In one pass."""
    _update(updates.adam_update, k, [w, g, m, v], [size, eps, 1 - beta1, 1 - beta2, _none(l2), None, clip])


def adamw_update(
    k: Table,
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    size: Array,
    eps: Array,
    beta1: float,
    beta2: float,
    keep: Array | None,
    clip: Array | None,
) -> None:
    """In one pass."""
    _update(updates.adam_update, k, [w, g, m, v], [size, eps, 1 - beta1, 1 - beta2, 0.0, keep, clip])


def rmsprop_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, alpha: float, eps: float, l2: Array | None, clip: Array | None
) -> None:
    """In one pass."""
    _update(updates.rmsprop_update, k, [w, g, v], [lr, alpha, 1 - alpha, eps, _none(l2), clip])


def adagrad_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, eps: float, l2: Array | None, clip: Array | None
) -> None:
    """In one pass."""
    _update(updates.adagrad_update, k, [w, g, v], [lr, eps, _none(l2), clip])


def squared_norm(k: Table, x: Array, *, out: Array) -> None:
    """In one pass, summed in double precision."""
    parts = k.device.parts(numbers=x.size)
    sums = totals_of_parts(k, parts)
    k.device.do(updates.squared_norm, x, sums, kinds=(x.dtype,), parts=parts)
    sum_totals(k, sums, out)


def clip_scale(k: Table, g: Array, *, limit: float, out: Array) -> None:
    """The squares, then the factor."""
    parts = k.device.parts(numbers=g.size)
    sums = totals_of_parts(k, parts)
    k.device.do(updates.squared_norms, g, sums, kinds=(g.dtype,), parts=parts)
    k.device.do(updates.clip_factor, sums, out.reshape(1), constant(limit, out.dtype), kinds=(out.dtype,))


def max_norm(k: Table, w: Array, *, limit: float) -> None:
    """The squares by columns, then the factors."""
    parts, kinds = k.device.parts(numbers=2 * w.size), (w.dtype,)
    sums, factors = (k.scratch(f"max_norm {what}", (parts, 2 * w.shape[1]), w.dtype) for what in ("sums", "factors"))
    k.device.do(updates.squares_by_column, w, sums, kinds=kinds, parts=parts)
    k.device.do(updates.bounded_columns, w, sums, factors, constant(limit, w.dtype), kinds=kinds, parts=parts)


def _none(l2: Array | None) -> Any:
    """The penalty, 0 where there is none."""
    return 0.0 if l2 is None else l2


def _update(node: Callable[..., Any], k: Table, blocks: list[Array], numbers: list[Any]) -> None:
    """A node over contiguous blocks of one shape, with numbers of their type; None is the factor 1."""
    dtype, parts = blocks[0].dtype, k.device.parts(numbers=len(blocks) * blocks[0].size)
    scalars = [constant(1.0 if value is None else value, dtype) for value in numbers]
    k.device.do(node, *blocks, *scalars, kinds=(dtype,), parts=parts)
