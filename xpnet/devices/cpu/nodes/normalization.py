"""Nodes of normalization, cut by rows: cut by columns, two cores would share a cache line in every row.

What all parts need of all rows, each sums up for itself, in its row of `sums` or of its like, from what every part left
there in the node before.
"""

from __future__ import annotations

import math

from numba import njit

from xpnet.devices.cpu.native import matrix, share, vector
from xpnet.devices.cpu.nodes.parts import ROWS, rows_part, sum_rows, taken_over

# As in the references.
EPS = 1e-5
MOMENTUM = 0.1


@njit(inline="always")
def approach(running, now, kind):
    """running + MOMENTUM (now - running)."""
    return running + kind(MOMENTUM) * (now - running)


@njit(inline="always")
def inverse_of(variance, kind):
    """1 / sqrt(variance + EPS), and NaN for infinity, as in the reference."""
    padded = variance + kind(EPS)
    return math.sqrt(padded) / padded


def sums_by_column(kind):
    """sums[part] <- the sum of z by columns over the part's rows. Words: z, sums."""

    def node(arguments, part, parts):
        z, sums = rows_part(arguments, 0, kind, part, parts), matrix(arguments, 3, kind)[part]
        sums[:] = kind(0)
        for row in z:
            for j in range(row.shape[0]):
                sums[j] += row[j]

    return node


def centered(kind):
    """hat <- z - its mean by columns, by the sums of z; squares[part] <- the sum of hat^2 over the part's rows.

    Words: z, hat, sums, centers, squares.
    """

    def node(arguments, part, parts):
        z, hat = rows_part(arguments, 0, kind, part, parts), rows_part(arguments, 3, kind, part, parts)
        sums, center = matrix(arguments, 6, kind), matrix(arguments, 9, kind)[part]
        squares, rows = matrix(arguments, 12, kind)[part], matrix(arguments, 0, kind).shape[0]
        sum_rows(sums, center)
        for j in range(center.shape[0]):
            center[j] /= kind(rows)
        squares[:] = kind(0)
        for i in range(hat.shape[0]):
            row = hat[i]
            taken_over(z[i], row)
            for j in range(row.shape[0]):
                row[j] -= center[j]
                squares[j] += row[j] * row[j]

    return node


def normalized(kind):
    """hat <- hat * inverse, y <- gain hat + shift, by the sums of hat^2; the first part moves the running statistics.

    Words: hat, y, gain, shift, mean, variance, inverse, centers, squares, factors.
    """

    def node(arguments, part, parts):
        hat, y = rows_part(arguments, 0, kind, part, parts), rows_part(arguments, 3, kind, part, parts)
        gain, shift = vector(arguments, 6, kind), vector(arguments, 8, kind)
        mean, variance = vector(arguments, 10, kind), vector(arguments, 12, kind)
        inverse, center = matrix(arguments, 14, kind)[0], matrix(arguments, 17, kind)[part]
        squares, factors = matrix(arguments, 20, kind), matrix(arguments, 23, kind)[part]
        rows = matrix(arguments, 0, kind).shape[0]
        sum_rows(squares, factors)
        for j in range(factors.shape[0]):
            square = factors[j]
            factors[j] = inverse_of(square / kind(rows), kind)
            if part == 0:
                mean[j] = approach(mean[j], center[j], kind)
                if rows > 1:
                    variance[j] = approach(variance[j], square / kind(rows - 1), kind)
                inverse[j] = factors[j]
        for i in range(hat.shape[0]):
            row, y_row = hat[i], y[i]
            for j in range(row.shape[0]):
                row[j] *= factors[j]
                y_row[j] = gain[j] * row[j] + shift[j]

    return node


def batch_norm_inference(kind):
    """y <- gain (z - mean) / sqrt(variance + eps) + shift. Words: z, gain, shift, mean, variance, y, factors."""

    def node(arguments, part, parts):
        z, y = rows_part(arguments, 0, kind, part, parts), rows_part(arguments, 11, kind, part, parts)
        gain, shift = vector(arguments, 3, kind), vector(arguments, 5, kind)
        mean, variance = vector(arguments, 7, kind), vector(arguments, 9, kind)
        factors = matrix(arguments, 14, kind)[part]
        for j in range(factors.shape[0]):
            factors[j] = gain[j] * inverse_of(variance[j], kind)
        for i in range(y.shape[0]):
            row = y[i]
            taken_over(z[i], row)
            for j in range(row.shape[0]):
                row[j] = (row[j] - mean[j]) * factors[j] + shift[j]

    return node


def products_by_column(kind):
    """out <- dy; sums[part] <- the sum of dy hat by columns over the part's rows. Words: dy, hat, out, sums."""

    def node(arguments, part, parts):
        dy, hat = rows_part(arguments, 0, kind, part, parts), rows_part(arguments, 3, kind, part, parts)
        out, sums = rows_part(arguments, 6, kind, part, parts), matrix(arguments, 9, kind)[part]
        sums[:] = kind(0)
        for i in range(out.shape[0]):
            row, hat_row = out[i], hat[i]
            taken_over(dy[i], row)
            for j in range(row.shape[0]):
                sums[j] += row[j] * hat_row[j]

    return node


def batch_norm_backward(kind):
    """out <- gain inverse (out - dshift / B - hat dgain / B), by the sums of dy hat, of which dgain is the sum.

    Words: out, hat, gain, inverse, dshift, dgain, sums, means.
    """

    def node(arguments, part, parts):
        out, hat = rows_part(arguments, 0, kind, part, parts), rows_part(arguments, 3, kind, part, parts)
        gain, inverse = vector(arguments, 6, kind), matrix(arguments, 8, kind)[0]
        dshift, dgain = vector(arguments, 11, kind), vector(arguments, 13, kind)
        sums, along = matrix(arguments, 15, kind), matrix(arguments, 18, kind)[part]
        of_rows = kind(1) / kind(matrix(arguments, 0, kind).shape[0])
        sum_rows(sums, along)
        if part == 0:
            dgain[:] = along
        for i in range(out.shape[0]):
            row, hat_row = out[i], hat[i]
            for j in range(row.shape[0]):
                row[j] = gain[j] * inverse[j] * (row[j] - of_rows * (dshift[j] + hat_row[j] * along[j]))

    return node


def layer_norm(kind):
    """hat <- (z - its mean by rows) * inverse, y <- gain hat + shift. Words: z, gain, shift, hat, inverse, y."""

    def node(arguments, part, parts):
        z, hat, y = matrix(arguments, 0, kind), matrix(arguments, 7, kind), matrix(arguments, 13, kind)
        gain, shift = vector(arguments, 3, kind), vector(arguments, 5, kind)
        inverse, of_units = matrix(arguments, 10, kind), kind(1) / kind(z.shape[1])
        first, last = share(z.shape[0], part, parts, ROWS)
        for i in range(first, last):
            row, y_row = hat[i], y[i]
            taken_over(z[i], row)
            mean = kind(0)
            for j in range(row.shape[0]):
                mean += row[j]
            mean *= of_units
            squares = kind(0)
            for j in range(row.shape[0]):
                row[j] -= mean
                squares += row[j] * row[j]
            factor = inverse_of(squares * of_units, kind)
            inverse[i, 0] = factor
            for j in range(row.shape[0]):
                row[j] *= factor
                y_row[j] = gain[j] * row[j] + shift[j]

    return node


def layer_norm_backward(kind):
    """out <- inverse (d - mean_j d_j - hat mean_j(d_j hat_j)) with d = gain dy; sums[part] <- the sum of dy hat.

    Words: dy, gain, hat, inverse, out, sums.
    """

    def node(arguments, part, parts):
        dy, hat, out = matrix(arguments, 0, kind), matrix(arguments, 5, kind), matrix(arguments, 11, kind)
        gain, inverse = vector(arguments, 3, kind), matrix(arguments, 8, kind)
        sums, of_units = matrix(arguments, 14, kind)[part], kind(1) / kind(dy.shape[1])
        sums[:] = kind(0)
        first, last = share(dy.shape[0], part, parts, ROWS)
        for i in range(first, last):
            row, hat_row, factor = out[i], hat[i], inverse[i, 0]
            taken_over(dy[i], row)
            mean, along = kind(0), kind(0)
            for j in range(row.shape[0]):
                sums[j] += row[j] * hat_row[j]
                row[j] *= gain[j]
                mean += row[j]
                along += row[j] * hat_row[j]
            mean, along = mean * of_units, along * of_units
            for j in range(row.shape[0]):
                row[j] = factor * (row[j] - mean - hat_row[j] * along)

    return node
