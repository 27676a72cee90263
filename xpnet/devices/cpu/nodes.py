"""What the nodes of a tape do: compiled loops and products over one part of the arrays.

Each factory takes the kinds of the numbers and returns f(arguments, part, parts); `compiled` makes machine code of it
once and keeps that on disk. Loops read and write every array once. Comparisons are written so that NaN passes through,
and a diverging network is seen to diverge. Sums may be reordered (that makes them vectors), always in the same way;
what the parts sum is summed up by a node of its own, in the order of the parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from numba import cfunc, from_dtype, njit, types

from xpnet.devices.cpu.native import (
    AS_IT_IS,
    TRANSPOSED,
    gemm,
    kept_on_disk,
    matrix,
    number,
    prefetch,
    share,
    vector,
    word,
)

OPTIONS: dict[str, Any] = {"fastmath": {"contract", "reassoc", "nsz", "arcp"}, "error_model": "numpy"}

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

AHEAD = 4
"""Rows between the one that is gathered and the one that is asked for."""

CACHE_LINE = 64
"""Bytes."""

ROWS = 4
"""Rows that a cut does not separate: BLAS works on so many and more at a time."""

LINE = 16
"""Numbers that a cut does not separate: two cores that write one cache line take it from each other."""


def many_rows(out: np.ndarray, parts: int) -> bool:
    """Whether a product is cut by its own rows."""
    return parts == 1 or len(out) >= FEW_ROWS * parts


@cache
def compiled(factory: Callable[..., Any], *dtypes: np.dtype) -> Any:
    """The node as machine code for these dtypes; has an `address`. Kept on disk where there is a place for it."""
    node = partial(cfunc, types.void(types.int64, types.int64, types.int64), **OPTIONS)
    return kept_on_disk(node, factory(*map(from_dtype, dtypes)))


def constant(value: Any, dtype: np.dtype) -> np.ndarray:
    """A number where nodes look for numbers: the 0-d array that is given, or always the same one for an equal value."""
    return value if isinstance(value, np.ndarray) else _constant(float(value), dtype)


@cache
def _constant(value: float, dtype: np.dtype) -> np.ndarray:
    return np.asarray(value, dtype)


@njit(inline="always")
def vector_part(arguments, i, kind, part, parts):
    """The part's share of the array at word i: an index that starts at zero need not be asked if it is negative."""
    whole = vector(arguments, i, kind)
    first, last = share(whole.shape[0], part, parts, LINE)
    return whole[first:last]


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


def _affine(rectify):
    """The factory of out <- x w + b, or relu of it. Words: x, w, b, out, blas."""

    def factory(kind):
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
                        z = row[j] + b[j]
                        row[j] = kind(0) if rectify and z <= 0 else z

        return node

    return factory


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


def _activation_of_sum(rectify):
    """The factory of out <- the sum of the parts' products + b, or relu of it. Words: sums, b, out."""

    def factory(kind):
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
                    row[j] = kind(0) if rectify and row[j] <= 0 else row[j]

        return node

    return factory


# Numba keeps machine code on disk where a factory closes over plain values, not over functions.
affine, activation_of_sum = _affine(False), _activation_of_sum(False)
affine_relu, relu_of_sum = _affine(True), _activation_of_sum(True)


def _backward(by_output):
    """The factory of out <- dz w^T by the slope (or where the output is positive); sums[part] <- its sum by columns.

    Words: dz, w, aux, out, sums, blas.
    """

    def factory(aux_kind, kind):
        def node(arguments, part, parts):
            dz, w, aux = matrix(arguments, 0, kind), matrix(arguments, 3, kind), matrix(arguments, 6, aux_kind)
            out, sums = matrix(arguments, 9, kind), matrix(arguments, 12, kind)[part]
            blas = word(arguments, 15), word(arguments, 16)
            rows, columns = cut(out.shape, part, parts)
            sums[:] = kind(0)
            own_sums = sums[columns[0] : columns[1]]
            for start in range(rows[0], rows[1], BLOCK):
                block = (start, min(start + BLOCK, rows[1]))
                block_product(blas, dz, 0, w, 1, out, kind(1), kind(0), block, columns, (0, w.shape[1]))
                for i in range(block[0], block[1]):
                    row, aux_row = out[i][columns[0] : columns[1]], aux[i][columns[0] : columns[1]]
                    for j in range(row.shape[0]):
                        v = (row[j] if aux_row[j] > 0 else kind(0)) if by_output else row[j] * aux_row[j]
                        row[j] = v
                        own_sums[j] += v

        return node

    return factory


backward_by_output = _backward(True)
backward_by_slope = _backward(False)


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


def softmax(kind):
    """y <- softmax(z), row by row; y may be z. Words: z, y."""

    def node(arguments, part, parts):
        z, y = matrix(arguments, 0, kind), matrix(arguments, 3, kind)
        columns = z.shape[1]
        first, last = share(z.shape[0], part, parts, ROWS)
        for i in range(first, last):
            row, y_row = z[i], y[i]
            largest = row[0]
            for j in range(1, columns):
                if row[j] > largest:
                    largest = row[j]
            normalizer = kind(0)
            for j in range(columns):
                e = math.exp(row[j] - largest)
                y_row[j] = e
                normalizer += e
            factor = kind(1) / normalizer
            for j in range(columns):
                y_row[j] *= factor

    return node


def softmax_cross_entropy(class_kind, kind):
    """dz <- (softmax(z) - one_hot(t)) / B; sums[part] <- its sum over the part's rows, losses[part] the losses'.

    Words: z, t, dz, sums, losses, log_smallest.
    """

    def node(arguments, part, parts):
        z, t, dz = matrix(arguments, 0, kind), vector(arguments, 3, class_kind), matrix(arguments, 5, kind)
        sums, losses = matrix(arguments, 8, kind)[part], matrix(arguments, 11, types.float64)
        log_smallest, columns = number(arguments, 14, kind), z.shape[1]
        scale, total = kind(1 / z.shape[0]), 0.0
        first, last = share(z.shape[0], part, parts, ROWS)
        sums[:] = kind(0)
        for i in range(first, last):
            row, dz_row = z[i], dz[i]
            largest = row[0]
            for j in range(1, columns):
                if row[j] > largest:
                    largest = row[j]
            shifted = row[t[i]] - largest
            normalizer = kind(0)
            for j in range(columns):
                e = math.exp(row[j] - largest)
                dz_row[j] = e
                normalizer += e
            log_p = shifted - math.log(normalizer)
            total -= log_smallest if log_p < log_smallest else log_p
            factor = scale / normalizer
            for j in range(columns):
                dz_row[j] *= factor
            dz_row[t[i]] -= scale
            for j in range(columns):
                sums[j] += dz_row[j]
        losses[part, 0] = total

    return node


def hits(class_kind, kind):
    """counts[part] <- rows that have their first largest entry in the column of their class. Words: z, t, counts."""

    def node(arguments, part, parts):
        z, t, counts = matrix(arguments, 0, kind), vector(arguments, 3, class_kind), matrix(arguments, 5, types.float64)
        first, last = share(z.shape[0], part, parts, ROWS)
        count = 0
        for i in range(first, last):
            row, best = z[i], 0
            for j in range(1, row.shape[0]):
                if row[j] > row[best]:
                    best = j
            count += best == t[i]
        counts[part, 0] = count

    return node
