"""Nodes that put rows of tables in the place of codes, and add up what comes back for each row."""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from xpnet.devices.cpu.native import matrix, pointer, share, word
from xpnet.devices.cpu.nodes.parts import ROWS


@njit(inline="always")
def rows_apart(arguments, i, kind):
    """Rows, as long as the distance from one to the next, of a matrix of fewer columns, which begins each of them.

    Its address, rows, columns and that distance, in numbers, are the words from i on.
    """
    return carray(pointer(word(arguments, i), kind), (word(arguments, i + 1), word(arguments, i + 3)))


@njit(inline="always")
def row_meant(code, rows):
    """The row of a table that a code means: the nearest that there is, the first for NaN."""
    if not code > 0:
        return 0
    return np.int64(code) if code < rows - 1 else rows - 1


def copy_columns(kind):
    """out <- x, of as many columns. Words: x, its distance, out, its distance."""

    def node(arguments, part, parts):
        x, out, columns = rows_apart(arguments, 0, kind), rows_apart(arguments, 4, kind), word(arguments, 6)
        first, last = share(out.shape[0], part, parts, ROWS)
        for i in range(first, last):
            row, out_row = x[i], out[i]
            for j in range(columns):
                out_row[j] = row[j]

    return node


def embedding_forward(kind):
    """out <- table[codes]. Words: codes (B, 1), their distance, table, out, its distance."""

    def node(arguments, part, parts):
        codes, table = rows_apart(arguments, 0, kind), matrix(arguments, 4, kind)
        out = rows_apart(arguments, 7, kind)
        first, last = share(out.shape[0], part, parts, ROWS)
        for i in range(first, last):
            row, out_row = table[row_meant(codes[i, 0], table.shape[0])], out[i]
            for j in range(row.shape[0]):
                out_row[j] = row[j]

    return node


def embedding_backward(kind):
    """out <- the sums of the rows of dy with the same code. Words: codes (B, 1), their distance, dy, its distance, out.

    Each part has rows of the table for itself and looks at every code, so that the order of a sum is that of the batch,
    into however many parts the work is cut.
    """

    def node(arguments, part, parts):
        codes, dy = rows_apart(arguments, 0, kind), rows_apart(arguments, 4, kind)
        out = matrix(arguments, 8, kind)
        first, last = share(out.shape[0], part, parts, ROWS)
        out[first:last] = kind(0)
        for i in range(codes.shape[0]):
            r = row_meant(codes[i, 0], out.shape[0])
            if first <= r < last:
                row, out_row = dy[i], out[r]
                for j in range(out_row.shape[0]):
                    out_row[j] += row[j]

    return node
