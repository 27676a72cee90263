"""How loops are cut: into parts, one for each thread, and these into blocks that stay in a core's cache."""

from __future__ import annotations

from numba import njit

from xpnet.devices.cpu.native import matrix, share, vector

ROWS = 4
"""Rows that a cut does not separate: BLAS works on so many and more at a time."""

LINE = 16
"""Numbers that a cut does not separate: two cores that write one cache line take it from each other."""

BLOCK = 2048
"""Numbers of a block: a few arrays of so many fit into a core's first cache."""


@njit(inline="always")
def vector_part(arguments, i, kind, part, parts):
    """The part's share of the array at word i: an index that starts at zero need not be asked if it is negative."""
    whole = vector(arguments, i, kind)
    first, last = share(whole.shape[0], part, parts, LINE)
    return whole[first:last]


@njit(inline="always")
def rows_part(arguments, i, kind, part, parts):
    """The part's share of the rows of the array at word i."""
    whole = matrix(arguments, i, kind)
    first, last = share(whole.shape[0], part, parts, ROWS)
    return whole[first:last]


@njit(inline="always")
def rows_of_block(columns):
    """How many rows make a block, at least one."""
    return max(BLOCK // max(columns, 1), 1)


@njit(inline="always")
def taken_over(source, out):
    """out <- source, element by element, where they are not the same memory.

    Loops then read and write `out` alone: of two arrays that may overlap, a compiler makes no vectors.
    """
    if source.ctypes.data != out.ctypes.data:
        for i in range(out.shape[0]):
            out[i] = source[i]


@njit(inline="always")
def sum_rows(rows, out):
    """out <- the sum of the rows, in their order."""
    out[:] = rows[0]
    for i in range(1, rows.shape[0]):
        row = rows[i]
        for j in range(out.shape[0]):
            out[j] += row[j]


def sum_of_parts(kind, result):
    """out <- the sum of the rows of `sums`. Words: sums, out."""

    def node(arguments, part, parts):
        sums, out = matrix(arguments, 0, kind), vector(arguments, 3, result)
        for j in range(out.shape[0]):
            total = sums[0, j]
            for i in range(1, sums.shape[0]):
                total += sums[i, j]
            out[j] = total

    return node
