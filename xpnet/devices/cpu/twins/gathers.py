"""Twins of gathering."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from xpnet.devices.cpu.nodes import gathers
from xpnet.devices.cpu.nodes.compiling import constant
from xpnet.devices.cpu.twins.sums import of_one_kind, or_empty

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table


def gather(k: Table, source: Array, index: Array, *, scale: Any = None, shift: Array | None = None, out: Array) -> None:
    """Rows as they are, or scaled and shifted in one pass."""
    parts, (rows, width) = k.device.parts(numbers=out.size), (len(source), math.prod(source.shape[1:]))
    table, into = source.reshape(rows, width), out.reshape(len(out), width)
    if source.dtype == out.dtype and scale is None and shift is None:
        return k.device.do(gathers.take, table, index, into, kinds=(out.dtype,), parts=parts)
    kinds = source.dtype, out.dtype
    if not (scale is None or isinstance(scale, float)):
        arguments = table, index, into, scale, or_empty(k, shift, into)
        return k.device.do(gathers.gather_by_columns, *arguments, kinds=kinds, parts=parts)
    factor = constant(1.0 if scale is None else scale, out.dtype)
    if shift is None:
        return k.device.do(gathers.gather, table, index, into, factor, kinds=kinds, parts=parts)
    return k.device.do(gathers.gather_shifted, table, index, into, factor, shift, kinds=kinds, parts=parts)


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
    """Row by row."""
    if not of_one_kind(out, values):
        return k.reference.gather_sparse(columns, values, index, scale=scale, shift=shift, out=out)
    factors = constant(scale, out.dtype).reshape(-1) if isinstance(scale, float) else or_empty(k, scale, out)
    arguments = columns, values, index, out, factors, or_empty(k, shift, out)
    parts = k.device.parts(numbers=out.size)
    return k.device.do(gathers.gather_sparse, *arguments, kinds=(columns.dtype, out.dtype), parts=parts)
