"""Nodes that gather rows by number."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from xpnet.devices.cpu.native import matrix, number, prefetch, share, vector

AHEAD = 4
"""Rows between the one that is gathered and the one that is asked for."""

CACHE_LINE = 64
"""Bytes."""


@njit(inline="always")
def ask_for_row(source, index, i, last):
    """Have the cache load the row that will be gathered i-th: rows in random order are no processor's guess."""
    if i < last:
        size = source.shape[1] * source.itemsize
        for offset in range(0, size + CACHE_LINE, CACHE_LINE):
            prefetch(np.int64(source.ctypes.data + index[i] * size + offset))


def gather(source_kind, kind):
    """out <- source[index] * scale. Words: source, index, out, scale."""

    def node(arguments, part, parts):
        source, index = matrix(arguments, 0, source_kind), vector(arguments, 3, types.int64)
        out, scale = matrix(arguments, 5, kind), number(arguments, 8, kind)
        first, last = share(out.shape[0], part, parts, 1)
        for i in range(first, last):
            ask_for_row(source, index, i + AHEAD, last)
            row, out_row = source[index[i]], out[i]
            for j in range(out_row.shape[0]):
                out_row[j] = row[j] * scale

    return node


def gather_shifted(source_kind, kind):
    """out <- source[index] * scale - shift. Words: source, index, out, scale, shift."""

    def node(arguments, part, parts):
        source, index = matrix(arguments, 0, source_kind), vector(arguments, 3, types.int64)
        out, scale, shift = matrix(arguments, 5, kind), number(arguments, 8, kind), vector(arguments, 9, kind)
        first, last = share(out.shape[0], part, parts, 1)
        for i in range(first, last):
            ask_for_row(source, index, i + AHEAD, last)
            row, out_row = source[index[i]], out[i]
            for j in range(out_row.shape[0]):
                out_row[j] = row[j] * scale - shift[j]

    return node


def take(kind):
    """out <- source[index]. Words: source, index, out."""

    def node(arguments, part, parts):
        source, index = matrix(arguments, 0, kind), vector(arguments, 3, types.int64)
        out = matrix(arguments, 5, kind)
        first, last = share(out.shape[0], part, parts, 1)
        for i in range(first, last):
            ask_for_row(source, index, i + AHEAD, last)
            row, out_row = source[index[i]], out[i]
            for j in range(out_row.shape[0]):
                out_row[j] = row[j]

    return node


def gather_by_columns(source_kind, kind):
    """out <- source[index] * scale - shift, by columns; shift may be empty. Words: source, index, out, scale, shift."""

    def node(arguments, part, parts):
        source, index = matrix(arguments, 0, source_kind), vector(arguments, 3, types.int64)
        out, scale, shift = matrix(arguments, 5, kind), vector(arguments, 8, kind), vector(arguments, 10, kind)
        first, last = share(out.shape[0], part, parts, 1)
        for i in range(first, last):
            ask_for_row(source, index, i + AHEAD, last)
            row, out_row = source[index[i]], out[i]
            for j in range(out_row.shape[0]):
                out_row[j] = row[j] * scale[j]
            for j in range(shift.shape[0]):
                out_row[j] -= shift[j]

    return node


def gather_sparse(column_kind, kind):
    """out <- the dense rows of these entries, * scale - shift; `scale` has one number, or one a column, or none.

    Words: columns, values, index, out, scale, shift.
    """

    def node(arguments, part, parts):
        columns, values = matrix(arguments, 0, column_kind), matrix(arguments, 3, kind)
        index, out = vector(arguments, 6, types.int64), matrix(arguments, 8, kind)
        scale, shift = vector(arguments, 11, kind), vector(arguments, 13, kind)
        first, last = share(out.shape[0], part, parts, 1)
        for i in range(first, last):
            ask_for_row(columns, index, i + AHEAD, last)
            ask_for_row(values, index, i + AHEAD, last)
            row, places, entries = out[i], columns[index[i]], values[index[i]]
            row[:] = kind(0)
            for j in range(entries.shape[0]):
                row[places[j]] = entries[j]
            if scale.shape[0] == 1:
                for j in range(row.shape[0]):
                    row[j] *= scale[0]
            else:
                for j in range(scale.shape[0]):
                    row[j] *= scale[j]
            for j in range(shift.shape[0]):
                row[j] -= shift[j]

    return node
