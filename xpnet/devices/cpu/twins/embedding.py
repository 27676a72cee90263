"""Twins of embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xpnet.devices.cpu.nodes import embedding as nodes
from xpnet.devices.cpu.twins.sums import of_one_kind

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table


def copy_columns(k: Table, x: Array, *, out: Array) -> None:
    """Row by row."""
    columns = x[:, : out.shape[1]]
    if not (of_one_kind(out, x) and _packed(columns, out)):
        return k.reference.copy_columns(x, out=out)
    arguments = columns, _distance(columns), out, _distance(out)
    parts = k.device.parts(numbers=out.size)
    return k.device.do(nodes.copy_columns, *arguments, kinds=(out.dtype,), parts=parts)


def embedding_forward(k: Table, codes: Array, table: Array, *, out: Array) -> None:
    """Row by row."""
    if not (of_one_kind(out, codes, table) and table.flags.c_contiguous and _packed(out)):
        return k.reference.embedding_forward(codes, table, out=out)
    arguments = codes[:, None], _distance(codes), table, out, _distance(out)
    parts = k.device.parts(numbers=out.size)
    return k.device.do(nodes.embedding_forward, *arguments, kinds=(out.dtype,), parts=parts)


def embedding_backward(k: Table, codes: Array, dy: Array, *, out: Array) -> None:
    """Code by code, by parts that have rows of the table for themselves."""
    if not (of_one_kind(out, codes, dy) and out.flags.c_contiguous and _packed(dy)):
        return k.reference.embedding_backward(codes, dy, out=out)
    arguments = codes[:, None], _distance(codes), dy, _distance(dy), out
    parts = k.device.parts(numbers=out.size + dy.size)
    return k.device.do(nodes.embedding_backward, *arguments, kinds=(out.dtype,), parts=parts)


def _packed(*arrays: Array) -> bool:
    """Whether the numbers of each row lie side by side."""
    return all(array.shape[1] == 1 or array.strides[1] == array.itemsize for array in arrays)


def _distance(array: Array) -> int:
    """From row to row, in numbers."""
    return int(array.strides[0] // array.itemsize)
