"""Twins of metrics. Targets of another dtype go to the references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xpnet.devices.cpu.nodes import metrics as nodes
from xpnet.devices.cpu.twins.sums import ends_of, of_one_kind, or_empty, sum_totals, totals_of_parts

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table

ORDER_KEEPING = frozenset({"softmax", "sigmoid", "linear"})
"""As in the reference."""


def hits(k: Table, z: Array, t: Array, *, output: str, weights: Array | None = None, out: Array) -> None:
    """Row by row."""
    of_labels = t.ndim == 2
    if not of_one_kind(z, weights, t if of_labels else None):
        return k.reference.hits(z, t, output=output, weights=weights, out=out)
    if output not in ORDER_KEEPING:
        y = k.like("hits output", z)
        getattr(k, output)(z, out=y)
        z = y
    parts = k.device.parts(numbers=2 * z.size)
    totals = totals_of_parts(k, parts)
    node, kinds = (nodes.label_hits, (z.dtype,)) if of_labels else (nodes.hits, (t.dtype, z.dtype))
    k.device.do(node, z, t, or_empty(k, weights, z), totals, kinds=kinds, parts=parts)
    return sum_totals(k, totals, out)


def grouped_hits(
    k: Table, z: Array, t: Array, *, groups: tuple[int, ...], weights: Array | None = None, out: Array
) -> None:
    """Row by row."""
    if not of_one_kind(z, weights):
        return k.reference.grouped_hits(z, t, groups=groups, weights=weights, out=out)
    parts = k.device.parts(numbers=2 * z.size)
    totals, arguments = totals_of_parts(k, parts), (z, t, ends_of(groups), or_empty(k, weights, z))
    k.device.do(nodes.grouped_hits, *arguments, totals, kinds=(t.dtype, z.dtype), parts=parts)
    return sum_totals(k, totals, out)


def squared_errors(k: Table, z: Array, t: Array, *, output: str, weights: Array | None = None, out: Array) -> None:
    """After the output, row by row."""
    if not of_one_kind(z, t, weights):
        return k.reference.squared_errors(z, t, output=output, weights=weights, out=out)
    if output != "linear":
        y = k.like("squared errors", z)
        getattr(k, output)(z, out=y)
        z = y
    parts = k.device.parts(numbers=2 * z.size)
    totals = totals_of_parts(k, parts)
    k.device.do(nodes.squared_errors, z, t, or_empty(k, weights, z), totals, kinds=(z.dtype,), parts=parts)
    return sum_totals(k, totals, out)
