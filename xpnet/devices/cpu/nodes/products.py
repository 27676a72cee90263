"""Nodes of matrix products: BLAS on one thread, with what follows a product while its rows are in the cache."""

from __future__ import annotations

import numpy as np
from numba import njit

from xpnet.devices.cpu.native import AS_IT_IS, TRANSPOSED, gemm, matrix, number, share, vector, word
from xpnet.devices.cpu.nodes.activations import activated
from xpnet.devices.cpu.nodes.parts import LINE, ROWS

FEW_ROWS = 32
"""Rows for each part below which a product is cut by columns, or by rows of the weights.

So each core has rows of the weights to itself, forward, backward and in their update, and they stay in its cache.
"""

TILE = (32, 64, 256)
"""Rows, columns and inner length of products below a million multiply-adds, which OpenBLAS makes without packing."""

NARROW = 512
"""Columns up to which tiles that read their operands as they lie beat one product that packs them."""

MANY, MANY_TRANSPOSED = 64, 48
"""Rows up to which they do so with more columns, and where columns of b lie side by side."""

BLOCK = 256
"""Rows whose results are still in the core's own cache when the next loop reads them."""


def many_rows(out: np.ndarray, parts: int) -> bool:
    """Whether a product is cut by its own rows."""
    return parts == 1 or len(out) >= FEW_ROWS * parts


@njit(inline="always")
def cut(shape, part, parts):
    """The rows and the columns of a part of a product; (first, last + 1) of both."""
    if shape[0] < FEW_ROWS * parts:
        return (0, shape[0]), share(shape[1], part, parts, LINE)
    return share(shape[0], part, parts, ROWS), (0, shape[1])


@njit(inline="always")
def block_product(blas, a, transpose_a, b, transpose_b, out, alpha, beta, rows, columns, inner):
    """These rows and columns, (first, last + 1), of out <- alpha a b + beta out, where it says so of a^T and b^T.

    Of the columns of a and the rows of b only those of `inner`.
    """
    tile_rows, tile_columns, tile_inner = rows[1] - rows[0], columns[1] - columns[0], inner[1] - inner[0]
    if tile_rows <= 0 or tile_columns <= 0:
        return
    in_place = (tile_rows <= MANY_TRANSPOSED) if transpose_b else (tile_rows <= MANY or out.shape[1] <= NARROW)
    if blas[1] and in_place and tile_rows > 1 and tile_inner > 1:  # of vectors BLAS makes simpler things
        tile_rows, tile_columns, tile_inner = TILE
    # Outermost, so that what is read of a and b stays in the core's cache; once at least, for beta.
    for k in range(inner[0], max(inner[1], inner[0] + 1), max(tile_inner, 1)):
        for i in range(rows[0], rows[1], tile_rows):
            for j in range(columns[0], columns[1], tile_columns):
                _tile_product(
                    blas[0],
                    a,
                    transpose_a,
                    b,
                    transpose_b,
                    out,
                    alpha,
                    beta if k == inner[0] else type(beta)(1),
                    (i, min(i + tile_rows, rows[1])),
                    (j, min(j + tile_columns, columns[1])),
                    (k, min(k + tile_inner, inner[1])),
                )


@njit
def _tile_product(blas, a, transpose_a, b, transpose_b, out, alpha, beta, rows, columns, inner):
    """As BLAS has it.

    A row-major out = a b is a column-major out^T = b^T a^T, so that b goes first and every operand as it lies.
    """
    size = out.itemsize
    gemm(
        blas,
        TRANSPOSED if transpose_b else AS_IT_IS,
        TRANSPOSED if transpose_a else AS_IT_IS,
        columns[1] - columns[0],
        rows[1] - rows[0],
        inner[1] - inner[0],
        alpha,
        b.ctypes.data
        + size * (columns[0] * b.shape[1] + inner[0] if transpose_b else inner[0] * b.shape[1] + columns[0]),
        b.shape[1],
        a.ctypes.data + size * (inner[0] * a.shape[1] + rows[0] if transpose_a else rows[0] * a.shape[1] + inner[0]),
        a.shape[1],
        beta,
        out.ctypes.data + size * (rows[0] * out.shape[1] + columns[0]),
        out.shape[1],
    )


def product(kind):
    """out <- alpha a b + beta out. Words: a, b, out, alpha, beta, transpose_a, transpose_b, blas."""

    def node(arguments, part, parts):
        a, b, out = matrix(arguments, 0, kind), matrix(arguments, 3, kind), matrix(arguments, 6, kind)
        alpha, beta = number(arguments, 9, kind), number(arguments, 10, kind)
        transpose_a, transpose_b = word(arguments, 11), word(arguments, 12)
        blas = word(arguments, 13), word(arguments, 14)
        rows, columns = cut(out.shape, part, parts)
        inner = (0, a.shape[0] if transpose_a else a.shape[1])
        block_product(blas, a, transpose_a, b, transpose_b, out, alpha, beta, rows, columns, inner)

    return node


def affine(name, kind):
    """out <- the activation of that name of x w + b. Words: x, w, b, out, blas."""

    def node(arguments, part, parts):
        x, w, b, out = (
            matrix(arguments, 0, kind),
            matrix(arguments, 3, kind),
            vector(arguments, 6, kind),
            matrix(arguments, 8, kind),
        )
        blas, columns = (word(arguments, 11), word(arguments, 12)), (0, out.shape[1])
        first, last = share(out.shape[0], part, parts, ROWS)
        for start in range(first, last, BLOCK):
            rows = (start, min(start + BLOCK, last))
            block_product(blas, x, 0, w, 0, out, kind(1), kind(0), rows, columns, (0, w.shape[0]))
            for row in out[rows[0] : rows[1]]:
                for j in range(row.shape[0]):
                    row[j] = activated(name, row[j] + b[j])[0]

    return node


def product_of_part(kind):
    """sums[part] <- x w over the part's rows of w, which no other core's cache needs. Words: x, w, sums, blas."""

    def node(arguments, part, parts):
        x, w, sums = matrix(arguments, 0, kind), matrix(arguments, 3, kind), matrix(arguments, 6, kind)
        blas, count = (word(arguments, 9), word(arguments, 10)), x.shape[0]
        out = sums[part * count : (part + 1) * count]
        inner = share(w.shape[0], part, parts, ROWS)
        block_product(blas, x, 0, w, 0, out, kind(1), kind(0), (0, count), (0, w.shape[1]), inner)

    return node


def sum_of_products(kind):
    """out <- alpha (the sum of the parts' products) + beta out. Words: sums, out, alpha, beta."""

    def node(arguments, part, parts):
        sums, out = matrix(arguments, 0, kind), matrix(arguments, 3, kind)
        alpha, beta = number(arguments, 6, kind), number(arguments, 7, kind)
        count = out.shape[0]
        first, last = share(count, part, parts, 1)
        for i in range(first, last):
            row = out[i]
            for j in range(row.shape[0]):
                row[j] = beta * row[j] if beta != 0 else kind(0)
            for k in range(i, sums.shape[0], count):
                sum_row = sums[k]
                for j in range(row.shape[0]):
                    row[j] += alpha * sum_row[j]

    return node


def activation_of_sum(name, kind):
    """out <- the activation of that name of b + the sum of the parts' products. Words: sums, b, out."""

    def node(arguments, part, parts):
        sums, b, out = matrix(arguments, 0, kind), vector(arguments, 3, kind), matrix(arguments, 5, kind)
        count = out.shape[0]
        first, last = share(count, part, parts, 1)
        for i in range(first, last):
            row = out[i]
            row[:] = b
            for k in range(i, sums.shape[0], count):
                sum_row = sums[k]
                for j in range(row.shape[0]):
                    row[j] += sum_row[j]
            for j in range(row.shape[0]):
                row[j] = activated(name, row[j])[0]

    return node


def backward_by_slope(aux_kind, kind):
    """out <- alpha (dz w^T) * aux; sums[part] <- its sum by columns. Words: dz, w, aux, out, sums, alpha, blas."""
    return _backward(False, aux_kind, kind)


def backward_by_output(aux_kind, kind):
    """The same with 1 where aux is positive, else 0, in place of aux."""
    return _backward(True, aux_kind, kind)


def _backward(by_output, aux_kind, kind):
    def node(arguments, part, parts):
        dz, w, aux = matrix(arguments, 0, kind), matrix(arguments, 3, kind), matrix(arguments, 6, aux_kind)
        out, sums = matrix(arguments, 9, kind), matrix(arguments, 12, kind)[part]
        alpha, blas = number(arguments, 15, kind), (word(arguments, 16), word(arguments, 17))
        rows, columns = cut(out.shape, part, parts)
        sums[:] = kind(0)
        own_sums = sums[columns[0] : columns[1]]
        for start in range(rows[0], rows[1], BLOCK):
            block = (start, min(start + BLOCK, rows[1]))
            block_product(blas, dz, 0, w, 1, out, alpha, kind(0), block, columns, (0, w.shape[1]))
            for i in range(block[0], block[1]):
                row, aux_row = out[i][columns[0] : columns[1]], aux[i][columns[0] : columns[1]]
                for j in range(row.shape[0]):
                    v = (row[j] if aux_row[j] > 0 else kind(0)) if by_output else row[j] * aux_row[j]
                    row[j] = v
                    own_sums[j] += v

    return node
