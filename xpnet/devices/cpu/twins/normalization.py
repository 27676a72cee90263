"""Twins of normalization."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xpnet.devices.cpu.nodes import normalization as nodes
from xpnet.devices.cpu.twins.sums import columns_of_parts, sum_columns

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table

PASSES = 4
"""Numbers that are read or written for each entry."""


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
    """The mean, then the variance, then y: each needs all rows of the one before."""
    parts, kinds = k.device.parts(numbers=PASSES * z.size), (z.dtype,)
    sums, centers, squares = (_rows(k, what, parts, gain) for what in ("sums", "centers", "squares"))
    k.device.do(nodes.sums_by_column, z, sums, kinds=kinds, parts=parts)
    k.device.do(nodes.centered, z, hat, sums, centers, squares, kinds=kinds, parts=parts)
    arguments = hat, out, gain, shift, mean, variance, inverse, centers, squares, sums
    k.device.do(nodes.normalized, *arguments, kinds=kinds, parts=parts)


def batch_norm_inference(
    k: Table, z: Array, gain: Array, shift: Array, *, mean: Array, variance: Array, out: Array
) -> None:
    """In one pass."""
    parts = k.device.parts(numbers=2 * z.size)
    arguments = z, gain, shift, mean, variance, out, _rows(k, "factors", parts, gain)
    k.device.do(nodes.batch_norm_inference, *arguments, kinds=(z.dtype,), parts=parts)


def batch_norm_backward(
    k: Table, dy: Array, gain: Array, *, hat: Array, inverse: Array, dshift: Array, dgain: Array, out: Array
) -> None:
    """The gain's gradient, then dz."""
    parts, kinds = k.device.parts(numbers=PASSES * dy.size), (dy.dtype,)
    sums, along = (_rows(k, what, parts, gain) for what in ("sums", "along"))
    k.device.do(nodes.products_by_column, dy, hat, out, sums, kinds=kinds, parts=parts)
    arguments = out, hat, gain, inverse, dshift, dgain, sums, along
    k.device.do(nodes.batch_norm_backward, *arguments, kinds=kinds, parts=parts)


def layer_norm(k: Table, z: Array, gain: Array, shift: Array, *, hat: Array, inverse: Array, out: Array) -> None:
    """In one pass."""
    parts = k.device.parts(numbers=PASSES * z.size)
    k.device.do(nodes.layer_norm, z, gain, shift, hat, inverse, out, kinds=(z.dtype,), parts=parts)


def layer_norm_backward(
    k: Table, dy: Array, gain: Array, *, hat: Array, inverse: Array, dgain: Array, out: Array
) -> None:
    """In one pass."""
    parts = k.device.parts(numbers=PASSES * dy.size)
    sums = columns_of_parts(k, parts, dgain)
    k.device.do(nodes.layer_norm_backward, dy, gain, hat, inverse, out, sums, kinds=(dy.dtype,), parts=parts)
    sum_columns(k, sums, dgain)


def _rows(k: Table, what: str, parts: int, of_columns: Array) -> Array:
    """Room for a number by column for each part."""
    return k.scratch(f"batch_norm {what}", (parts, len(of_columns)), of_columns.dtype)
